"""The page of a comparison, and a table of all its numbers."""

import importlib.util
import io
from pathlib import Path

from seqjax.report import differences, output, words
from seqjax.report.compare import figures, sentences, tables
from seqjax.report.document import Commands, Figure, Fold, Header, Section, Text
from seqjax.report.runs import Run, read
from seqjax.search.findings import Findings, Found

WHISKERS = "Markers are means over seeds, whiskers 95 % bootstrap intervals."


def write(f: Findings, out: Path, title: str, command: str) -> Path:
    """Writes report.html, report.md, results.csv and, if pyarrow is installed, results.parquet into `out`."""
    path = output.pages(out, "report", title, page(f, out, title, command))
    rows = records(f)
    output.rows(out / "results.csv", rows, list(rows[0]))
    if importlib.util.find_spec("pyarrow"):
        from pyarrow import Table as Columns
        from pyarrow import parquet

        columns = io.BytesIO()
        parquet.write_table(Columns.from_pylist([r | {"value": str(r["value"])} for r in rows]), columns)
        output.save(out / "results.parquet", columns.getvalue())
    return path


def page(f: Findings, out: Path, title: str, command: str) -> list:
    """The elements of the page; `command` made the comparison, in the folder `out`."""
    runs = _runs(f, out)
    named, baselines = f.comparison.named, _baselines(f, runs)
    contenders = [found.cell for found in f.at(f.comparison.values[0])]
    figure = lambda panels, caption: Figure(panels, caption, contenders)
    monitor, axis = f.monitor.replace("_", " "), f.comparison.axis
    again = f" At {sentences.key(axis)} {f.comparison.values[-1]}." if axis else ""
    costs = figures.against(f, figures.COSTS, pareto=True)
    dashed = "Dashed: the Pareto front. " * figures.fronts(f)
    against = "other data" if named else sentences.key(axis or f.comparison.away(None)[0])
    away = [tables.elsewhere(f)] if f.comparison.extrapolate and not named else []
    atlas = [tables.atlas(f, baselines)] if named else []
    chosen = Text(RATES.format(monitor), soft=True)
    trained = " Dashed vertical line: the trained value." * bool(f.comparison.extrapolate)
    machines = [(run.name, run.info.hardware, run.info.versions, run.info.git) for _, run in runs]
    return [
        Header(f"{title}: {words.listed(f.comparison.contenders)}", sentences.headline(f), sentences.notes(f)),
        Section("Results on test", [*atlas, tables.results(f, baselines)]),
        Section("Pairs", [tables.pairs(f), Text(PAIRS, soft=True)]),
        Section("Score against budget", [figure(figures.against(f, figures.BUDGETS), WHISKERS + again)]),
        Section("Quality against cost", [figure(costs, f"{WHISKERS} {dashed}{MEMORY}{again}")]),
        Section("Learning curves", [figure(figures.curves(f), CURVES.format(monitor))]),
        Section(f"Score against {against}", [*away, figure(figures.lengths(f), WHISKERS + trained)]),
        Section("Learning rates", [tables.rates(f), figure(figures.rates(f), ""), chosen]),
        Section("Sizes", [tables.sizes(f), Text(SIZES, soft=True)]),
        Section("Configs", [Fold("What differs between the configs", [tables.configs(f)]), *map(_config, f.founds)]),
        Section("Run it again", [Commands([command]), *(_commands(found, out) for found in f.founds)]),
        Section("How it ran", [differences.machines(machines)]),
    ]


PAIRS = (
    "p: exact permutation test of signs over paired seeds, two-sided. P(better): the probability that a run of the "
    "first beats a run of the second; a tie counts half."
)
MEMORY = (
    "Memory is the peak of XLA's temporaries in a training step, without parameters, optimiser and batch; the state is "
    "that of one sequence."
)
CURVES = (
    "Validation {} at the chosen learning rate. Line: mean over seeds, up to the last step that all of them have "
    "reached. Band: from the lowest to the highest."
)
RATES = "Validation {}, best checkpoint, mean over the seeds of the search. Larger or bold: chosen."
SIZES = (
    "FLOPs are those of matrix products, counted in the program with every iteration of every loop. State bytes: what "
    "the layers store for one sequence; for attention, the whole cache."
)


def _config(found: Found) -> Fold:
    """The config of a contender as it was trained, with seed 0."""
    whole = found.cell.trial(Path(), found.rate or next(iter(found.rates)), 0).config
    return differences.whole(str(found.cell.folder), whole)


def _commands(found: Found, out: Path) -> Fold:
    return Fold(str(found.cell.folder), [Commands([tables.replay(found.trial(seed, out)) for seed in found.runs])])


def _runs(f: Findings, out: Path) -> list[tuple[Found, Run]]:
    """The runs that have results, read from their folders."""
    every = [(found, found.trial(s, out).folder) for found in f.founds for s, run in found.runs.items() if run.rows]
    return [(found, read(folder, "/".join(folder.parts[-3:]), i)) for i, (found, folder) in enumerate(every)]


def _baselines(f: Findings, runs: list[tuple[Found, Run]]) -> list[tuple]:
    """The baselines on test: (name, value of the key that varies, score, its cost or {})."""
    out = {}
    for found, run in runs:
        for name, score in run.info.baselines.get("test", {}).get(f.metric, {}).items():
            if score is not None:
                out.setdefault(
                    (name, str(found.cell.value)), (name, found.cell.value, score, run.info.costs.get(name, {}))
                )
    return list(out.values())


def records(f: Findings) -> list[dict]:
    """One row per run, split and metric: all tried learning rates on validation, the chosen ones on test."""
    rows = []
    for found in f.founds:
        size = found.size
        shared = {
            "contender": found.cell.name,
            "axis": f.comparison.axis or "",
            "value": "" if found.cell.value is None else found.cell.value,
            "width": size.width,
            "parameters": size.parameters,
            "parameter_bytes": size.parameter_bytes,
            "flops_per_step": size.flops,
            "state_bytes": size.state_bytes,
            "temporary_bytes": size.temporary_bytes,
        }
        for rate, values in found.rates.items():
            for seed, value in zip(f.comparison.learning_rate_seeds, values, strict=True):
                point = {"rate": rate, "chosen": rate == found.rate, "seed": seed, "seconds": None}
                folder = found.cell.trial(Path(), rate, seed).folder
                score = {"split": "validation", "metric": f.monitor, "score": value, "folder": str(folder)}
                rows.append(shared | point | score)
        for seed, run in found.runs.items():
            seconds, folder = run.rows[-1]["seconds"] if run.rows else None, str(found.trial(seed).folder)
            point = {"rate": found.rate, "chosen": True, "seed": seed, "seconds": seconds}
            for split, result in run.results.items():
                for metric, score in result.metrics.items():
                    value = {"split": split, "metric": metric, "score": score, "folder": folder}
                    rows.append(shared | point | value)
    return rows
