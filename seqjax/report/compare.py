"""Writes the report of a comparison: an HTML page, the same as markdown, and a table of all numbers."""

import csv
import importlib.util
import io
import json
from pathlib import Path

from seqjax.report import compare_figures as figures
from seqjax.report import compare_tables as tables
from seqjax.report import compare_words as sentences
from seqjax.report import elements, markdown, words
from seqjax.report.page import page
from seqjax.report.runs import Run, read
from seqjax.report.tables import Table, machines
from seqjax.search.findings import Findings
from seqjax.training import files

WHISKERS = "Markers are means over seeds, whiskers 95 % bootstrap intervals."


def write(f: Findings, out: Path, title: str, command: str) -> Path:
    """Writes report.html, report.md, results.csv and, if pyarrow is installed, results.parquet into `out`.

    Raises:
      WorkdirError: `out` cannot be written.
    """
    runs, known = _runs(f), _baselines(f)
    rows = records(f, out)
    files.write(out / "report.md", _markdown(f, runs, known, out, title, command).encode())
    files.write(out / "report.html", _html(f, runs, known, out, title, command).encode())
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write(out / "results.csv", buffer.getvalue().encode())
    if importlib.util.find_spec("pyarrow"):
        from pyarrow import Table as Columns
        from pyarrow import parquet

        columns = io.BytesIO()
        parquet.write_table(Columns.from_pylist([r | {"value": str(r["value"])} for r in rows]), columns)
        files.write(out / "results.parquet", columns.getvalue())
    return out / "report.html"


def records(f: Findings, out: Path) -> list[dict]:
    """One row per run, split and metric: all tried learning rates on validation, the chosen ones on test."""
    rows = []
    for found in f.founds:
        size = found.size
        shared = {
            "contender": found.cell.contender,
            "axis": f.comparison.axis or "",
            "value": "" if found.cell.value is None else found.cell.value,
            "width": size.width,
            "parameters": size.parameters,
            "flops_per_step": size.flops,
            "state_bytes": size.state_bytes,
            "temporary_bytes": size.temporary_bytes,
        }
        for rate, values in found.rates.items():
            for seed, value in zip(f.comparison.learning_rate_seeds, values, strict=True):
                point = {"rate": rate, "chosen": rate == found.rate, "seed": seed, "seconds": None}
                score = {"split": "validation", "metric": f.monitor, "score": value}
                rows.append(
                    shared | point | score | {"folder": _where(found.cell.trial(out.absolute(), rate, seed), out)}
                )
        for seed, run in found.runs.items():
            seconds = run.outcome.rows[-1]["seconds"] if run.outcome.rows else None
            point = {"rate": found.rate, "chosen": True, "seed": seed, "seconds": seconds}
            for split, result in run.outcome.results.items():
                for metric, score in result["metrics"].items():
                    where = {"split": split, "metric": metric, "score": score, "folder": _where(run.trial, out)}
                    rows.append(shared | point | where)
    return rows


def _where(trial, out: Path) -> str:
    return str(trial.folder.relative_to(out.absolute()))


def _runs(f: Findings) -> list[Run]:
    finished = [run.trial.folder for found in f.founds for run in found.runs.values() if run.outcome.rows]
    return [read(folder, "/".join(folder.parts[-3:]), i) for i, folder in enumerate(finished)]


def _baselines(f: Findings) -> list[tuple]:
    """The baselines on test: (name, value of the key that varies, score)."""
    out = {}
    for found in f.founds:
        for run in found.runs.values():
            info = read(run.trial.folder, "", 0).info if run.outcome.rows else None
            for name, score in (info.baselines.get("test", {}).get(f.metric, {}) if info else {}).items():
                if score is not None:
                    out.setdefault((name, str(found.cell.value)), (name, found.cell.value, score))
    return list(out.values())


def _parts(f: Findings, known) -> list[tuple[str, Table | None, list[str], str]]:
    """(heading, table, panels, caption) of each section, in order."""
    monitor = f.monitor.replace("_", " ")
    again = f" At {sentences.key(f.comparison.axis)} {f.comparison.values[-1]}." if f.comparison.axis else ""
    dashed = "Dashed: the Pareto front. " * figures.fronts(f)
    parts = [
        ("Results on test", tables.results(f, known), [], ""),
        (
            "Pairs",
            tables.pairs(f),
            [],
            "p: exact permutation test of signs over paired seeds, two-sided. P(better): the probability that a run of "
            "the first beats a run of the second; a tie counts half.",
        ),
        ("Score against budget", None, figures.budgets(f), WHISKERS + again),
        (
            "Quality against cost",
            None,
            figures.pareto(f),
            f"{WHISKERS} {dashed}Memory is the peak of XLA's temporaries in a training step, "
            f"without parameters, optimiser and batch; the state is that of one sequence.{again}",
        ),
        (
            "Learning curves",
            None,
            figures.curves(f),
            f"Validation {monitor} at the chosen learning rate. Line: mean over seeds, up to the last step that all of "
            "them have reached. Band: from the lowest to the highest.",
        ),
    ]
    if panels := figures.lengths(f):
        table = tables.elsewhere(f) if f.comparison.extrapolate else None
        caption = WHISKERS + " Dashed vertical line: the trained value." * bool(f.comparison.extrapolate)
        against = sentences.key(f.comparison.axis or next(iter(f.comparison.extrapolate)))
        parts.append((f"Score against {against}", table, panels, caption))
    caption = f"Validation {monitor}, best checkpoint, mean over the seeds of the search. Larger or bold: chosen."
    parts.append(("Learning rates", tables.rates(f), figures.rates(f), caption))
    counted = (
        "FLOPs are those of matrix products, counted in the program with every iteration of every loop. State bytes: "
        "what the layers store for one sequence; for attention, the whole cache."
    )
    parts.append(("Sizes", tables.sizes(f), [], counted))
    return parts


class _Contender:
    """An entry of the legend."""

    def __init__(self, index: int, name: str):
        self.index, self.name = index, name


def _html(f: Findings, runs, known, out: Path, title: str, command: str) -> str:
    legend = [_Contender(i, name) for i, name in enumerate(f.comparison.contenders)]
    notes = "".join(f"<li>{elements.text(note)}</li>" for note in sentences.notes(f))
    body = [
        f"<header>\n<h1>{elements.text(f'{title}: {words.listed(f.comparison.contenders)}')}</h1>",
        f'<p class="headline">{elements.text(sentences.headline(f))}</p>\n<ul class="notes">{notes}</ul>\n</header>',
    ]
    for heading, table, panels, caption in _parts(f, known):
        content = elements.table(table, "wide") if table else ""
        if panels:
            filled = panels if len(panels) > 1 else [*panels, "<div></div>"]  # a single panel would fill the page
            content += elements.figure(filled, legend, caption)
        elif caption:
            content += f"<figcaption>{elements.text(caption)}</figcaption>"
        body.append(elements.section(heading, content))
    whole = [elements.fold("What differs between the configs", elements.table(tables.configs(f)))]
    whole += [
        elements.fold(str(x.cell.folder), f"<pre>{elements.text(json.dumps(_exact(x), indent=1))}</pre>")
        for x in f.founds
    ]
    body.append(elements.section("Configs", "\n".join(whole)))
    body.append(elements.section("Run it again", _commands(f, out, command)))
    body.append(elements.section("How it ran", elements.fold("Hardware and versions", elements.table(machines(runs)))))
    return page(elements.text(title), "\n".join(body))


def _exact(found) -> dict:
    """The config of a contender as it was trained, with seed 0."""
    return found.cell.trial(Path(), found.rate or next(iter(found.rates)), 0).config


def _commands(f: Findings, out: Path, command: str) -> str:
    block = lambda line: f'<div class="command"><pre><code>{elements.text(line)}</code></pre></div>'
    content = block(command)
    for found in f.founds:
        lines = "\n".join(block(tables.replay(run.trial, out)) for run in found.runs.values())
        content += elements.fold(str(found.cell.folder), lines)
    return content


def _markdown(f: Findings, runs, known, out: Path, title: str, command: str) -> str:
    parts = [
        f"# {markdown.text(f'{title}: {words.listed(f.comparison.contenders)}')}",
        f"**{markdown.text(sentences.headline(f))}**",
        "\n".join(f"- {markdown.text(note)}" for note in sentences.notes(f)),
    ]
    for heading, table, _, caption in _parts(f, known):
        if table:
            parts += [f"## {heading}", markdown.table(table), *([markdown.text(caption)] if caption else [])]
    parts += ["## What differs between the configs", markdown.table(tables.configs(f))]
    commands = [tables.replay(run.trial, out) for found in f.founds for run in found.runs.values()]
    parts += ["## Run it again", markdown.fence("\n".join([command, *commands]), "sh")]
    parts += ["## How it ran", markdown.table(machines(runs))]
    return "\n\n".join(parts) + "\n"
