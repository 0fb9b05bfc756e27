"""The tables of the report as plain data, which HTML and markdown render."""

import dataclasses
import shlex
from typing import Literal

from seqjax.report import differences as differing
from seqjax.report import outcome, words
from seqjax.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value, a smaller note under it, and a mark; for a baseline, the mark tells whether the runs beat it."""

    text: str
    note: str = ""
    mark: Literal["", "best", "beaten", "unbeaten", "failed"] = ""


@dataclasses.dataclass(frozen=True)
class Column:
    """A heading, under a shared heading `group`; `run` is the index of the run that the column belongs to."""

    name: str
    group: str = ""
    number: bool = False
    run: int | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """Cells; the first one names the row. `run` is the index of the run of the row, None for a baseline."""

    cells: list[Cell]
    run: int | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A caption, columns and rows."""

    caption: str
    columns: list[Column]
    rows: list[Row]


def results(runs: list[Run]) -> Table:
    """One row per run, and below them the baselines on the same split and metric."""
    scores = _scores(runs)
    columns = [
        Column("run"),
        Column("model"),
        Column("parameters", number=True),
        *(Column(words.metric(metric, runs[0].way(metric)), split, number=True) for split, metric in scores),
        Column("training time", number=True),
        Column("tokens/s", number=True),
        Column("status"),
    ]
    firsts = [outcome.winners(runs, *score) if len(runs) > 1 else [] for score in scores]
    rows = []
    for run in runs:
        values = [_score(run, *score, run in first) for score, first in zip(scores, firsts, strict=True)]
        step = f"step {words.count(run.step)}"
        rows.append(
            Row(
                [
                    Cell(run.name),
                    Cell(*words.model(run.config["model"])),
                    Cell(words.count(run.info.parameters)),
                    *values,
                    Cell(words.seconds(run.seconds)),
                    Cell(words.count(run.median("tokens_per_s"))),
                    Cell(run.status.status or words.NONE, step, "failed" if run.status.status == "failed" else ""),
                ],
                run.index,
            )
        )
    known = {score: outcome.baselines(runs, *score) for score in scores}
    for name in dict.fromkeys(name for values in known.values() for name in values):
        values = [_baseline(runs, *score, known[score].get(name)) for score in scores]
        rows.append(Row([Cell(name), Cell("baseline"), Cell(""), *values, Cell(""), Cell(""), Cell("")]))
    return Table("Results", columns, rows)


def _scores(runs: list[Run]) -> list[tuple[str, str]]:
    """All (split, metric) that have results: validation first, and in each split the monitored metric first."""
    monitor = runs[0].monitor
    found = {"validation": {monitor: None}}
    for run in runs:
        for split, result in run.results.items():
            found.setdefault(split, {}).update(dict.fromkeys(result.metrics))
    return [(split, m) for split, metrics in found.items() for m in sorted(metrics, key=lambda m: m != monitor)]


def _score(run: Run, split: str, metric: str, first: bool) -> Cell:
    note = ""
    if split == "validation" and metric == run.monitor and run.best:
        note = f"best, step {words.count(run.best['step'])}"
    elif split in run.results and run.results[split].step is not None:
        note = f"step {words.count(run.results[split].step)}"
    return Cell(words.number(run.score(split, metric)), note, "best" if first else "")


def _baseline(runs: list[Run], split: str, metric: str, value: float | None) -> Cell:
    if value is None:
        return Cell("")
    measured = [run for run in runs if run.score(split, metric) is not None]
    if not measured or runs[0].way(metric) is None:
        return Cell(words.number(value))
    over = [run.name for run in measured if outcome.beats(run, split, metric, value)]
    if len(over) == len(measured):
        whom = "" if len(runs) == 1 else " by all" if measured == runs else f" by all {len(over)}"
        return Cell(words.number(value), f"beaten{whom}", "beaten")
    whom = f"only by {over[0]}" if len(over) == 1 else f"by {len(over)} of {len(measured)}"
    return Cell(words.number(value), f"beaten {whom}" if over else "not beaten", "unbeaten")


def budget(runs: list[Run]) -> Table:
    """The budget that each run has spent: steps, tokens and floating-point operations, for a fair comparison."""
    names = ["steps", "tokens", "FLOPs per step", "FLOPs in total", "FLOPs per second"]
    rows = []
    for run in runs:
        tokens, flops, pace = run.info.tokens_per_step, run.info.flops_per_step, run.median("steps_per_s")
        cells = [
            Cell(run.name),
            Cell(words.count(run.step)),
            Cell(words.count(None if tokens is None else tokens * run.step)),
            Cell(words.flops(flops)),
            Cell(words.flops(None if flops is None else flops * run.step)),
            Cell(words.flops(None if flops is None or pace is None else flops * pace)),
        ]
        rows.append(Row(cells, run.index))
    return Table("Budget spent", [Column("run"), *(Column(n, number=True) for n in names)], rows)


def differences(runs: list[Run]) -> Table:
    """The config keys in which the runs differ, one column per run."""
    paths = differing.paths([run.config for run in runs])
    rows = [Row([Cell(path), *(Cell(differing.leaf(run.config, path)) for run in runs)]) for path in paths]
    return Table("Config differences", [Column("key"), *(Column(r.name, run=r.index) for r in runs)], rows)


def machines(runs: list[Run]) -> Table:
    """Hardware, versions and commit; runs with equal entries share a column."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        facts = {**run.info.hardware, **run.info.versions, "git": run.info.git or words.NONE}
        groups.setdefault(tuple((k, words.value(v)) for k, v in sorted(facts.items())), []).append(run)
    trees = [dict(facts) for facts in groups]
    order = [key for run in runs for key in (*run.info.hardware, *run.info.versions)]
    rows = [
        Row([Cell(key.replace("_", " ")), *(Cell(tree.get(key, words.NONE)) for tree in trees)])
        for key in dict.fromkeys([*order, "git"])
    ]
    columns = [
        Column("all runs" if len(groups) == 1 and len(runs) > 1 else words.listed([r.name for r in g]))
        for g in groups.values()
    ]
    return Table("Hardware and versions", [Column(""), *columns], rows)


def starts(runs: list[Run]) -> Table:
    """Every start of every run: the first start, and each resume with its changes."""
    rows = [
        Row(
            [
                Cell(run.name),
                Cell(start.time.replace("T", " ", 1)),
                Cell(words.count(start.step)),
                Cell(start.command),
                Cell("; ".join(_news(start)) or words.NONE),
            ],
            run.index,
        )
        for run in runs
        for start in run.info.starts
    ]
    columns = [Column("run"), Column("time"), Column("from step", number=True), Column("command"), Column("changes")]
    return Table("Starts", columns, rows)


def _news(start) -> list[str]:
    """The changes of a start, after the origin of its parameters if they came from another run."""
    origin = [f"parameters of {start.origin.get('run')}, step {start.origin.get('step')}"] if start.origin else []
    return origin + [f"{key}: {_change(value)}" for key, value in start.changes.items()]


def _change(value) -> str:
    """`[old, new]` -> `old → new`."""
    if isinstance(value, list) and len(value) == 2:
        return " → ".join(map(words.value, value))
    return words.value(value)


def parameters(run: Run) -> Table:
    """The shape and size of every array of the model, and the total size."""
    rows = [
        Row([Cell(path), Cell(" × ".join(map(str, shape)) or "scalar"), Cell(words.count(size))])
        for path, shape, size in run.info.parameter_table
    ]
    rows.append(Row([Cell("all"), Cell(""), Cell(words.count(sum(row[2] for row in run.info.parameter_table)))]))
    return Table(f"Parameters of {run.name}", [Column("path"), Column("shape"), Column("count", number=True)], rows)


def replay(run: Run) -> str:
    """The shell command that trains the same run again."""
    return f"seqjax train --config {shlex.quote(str(run.folder / 'config.json'))} --workdir NEW"
