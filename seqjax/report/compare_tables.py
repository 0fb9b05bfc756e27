"""The tables of a comparison as plain data."""

import shlex
from pathlib import Path

from seqjax.report import compare_words, differences, words
from seqjax.report.tables import Cell, Column, Row, Table
from seqjax.search.findings import Findings, Found
from seqjax.search.trials import Trial

FEW = 4  # up to this number of seeds, all scores are shown


def index(f: Findings, found: Found) -> int:
    """The index of a contender, which decides how it is drawn."""
    return list(f.comparison.contenders).index(found.cell.contender)


def _named(f: Findings) -> list[Column]:
    axis = f.comparison.axis
    return [Column("contender"), *([Column(compare_words.key(axis), number=True)] if axis else [])]


def _names(f: Findings, found: Found) -> list[Cell]:
    return [Cell(found.cell.contender), *([Cell(str(found.cell.value))] if f.comparison.axis else [])]


def results(f: Findings, baselines: list[tuple]) -> Table:
    """One row per contender and value, and one per baseline (name, value of axis, score) on the same metric."""
    name, few = words.metric(f.metric, f.metrics[f.metric]), len(f.comparison.seeds) <= FEW
    columns = [
        *_named(f),
        Column("mean and interval", f"test {name}", number=True),
        Column("median", f"test {name}", number=True),
        Column("each seed" if few else "lowest to highest", f"test {name}", number=True),
        Column("parameters", number=True),
        Column("state bytes", number=True),
        Column("FLOPs of training", number=True),
        Column("training time", number=True),
    ]
    rows = []
    for found in f.founds:
        s, seconds = f.summary(found), found.seconds()
        mark = "failed" if s is None else "best" if found in f.winners(found.cell.value) else ""
        rows.append(
            Row(
                [
                    *_names(f, found),
                    Cell(compare_words.spread(s) if s else "diverged", mark=mark),
                    Cell(words.number(s.median) if s else words.NONE),
                    Cell(_seeds(list(f.scores(found).values()), few)),
                    Cell(words.count(found.size.parameters)),
                    Cell(words.count(found.size.state_bytes)),
                    Cell(words.flops(total_flops(found))),
                    Cell(words.seconds(sum(seconds) / len(seconds) if seconds else None)),
                ],
                index(f, found),
            )
        )
    for name, value, score in baselines:
        rivals = f.at(value)
        over = [x.cell.contender for x in rivals if compare_words.beaten(f, x, score)]
        all_over = len(over) == len(rivals)
        note = "beaten by all" if all_over else f"beaten by {words.listed(over)}" if over else "not beaten"
        cell = Cell(words.number(score), note, "beaten" if all_over else "unbeaten")
        rows.append(Row([Cell(name), *([Cell(str(value))] if f.comparison.axis else []), cell, *[Cell("")] * 6]))
    return Table("Results on test", columns, rows)


def _seeds(scores: list[float], few: bool) -> str:
    if not scores:
        return words.NONE
    return (
        ", ".join(map(words.number, scores)) if few else f"{words.number(min(scores))} to {words.number(max(scores))}"
    )


def total_flops(found: Found) -> float:
    """FLOPs of the matrix products of all training steps, as a mean over runs, because patience may end runs early."""
    steps = [run.outcome.step for run in found.runs.values() if run.outcome.status == "done"]
    return found.size.flops * (sum(steps) / len(steps) if steps else found.cell.config["train"]["steps"])


def pairs(f: Findings) -> Table:
    """Every pair of contenders, and the statistics of their difference."""
    axis = f.comparison.axis
    columns = [
        Column("ahead"),
        Column("behind"),
        *([Column(compare_words.key(axis), number=True)] if axis else []),
        Column("by (mean and interval)", number=True),
        Column("seeds that agree", number=True),
        Column("P(better)", number=True),
        Column("p, paired permutation", number=True),
        Column("p after Holm", number=True),
        Column("smallest possible p", number=True),
    ]
    rows = [
        Row(
            [
                Cell(pair.first),
                Cell(pair.second),
                *([Cell(str(pair.value))] if axis else []),
                Cell(f"{words.number(pair.ahead)} [{words.number(pair.low)}, {words.number(pair.high)}]"),
                Cell(f"{pair.agree} of {pair.n}"),
                Cell(f"{pair.wins:.2f}"),
                Cell(f"{pair.p:.3g}"),
                Cell(f"{pair.adjusted:.3g}"),
                Cell(f"{pair.floor:.3g}"),
            ],
            list(f.comparison.contenders).index(pair.first),
        )
        for pair in f.pairs()
    ]
    return Table("Pairs", columns, rows)


def sizes(f: Findings) -> Table:
    """The cost of each contender, and how well it matches the target."""
    names = ("width", "parameters", "FLOPs per step", "state bytes", "memory per step", "time per step, alone")
    columns = [*_named(f), *(Column(n, number=True) for n in names), Column("share of the target", number=True)]
    rows = []
    for found in f.founds:
        s = found.size
        memory = words.NONE if s.temporary_bytes is None else f"{s.temporary_bytes / 2**20:,.1f} MiB"
        cells = [
            Cell(words.NONE if s.width is None else str(s.width)),
            Cell(words.count(s.parameters)),
            Cell(words.flops(s.flops)),
            Cell(words.count(s.state_bytes)),
            Cell(memory),
            Cell(words.seconds(s.step_seconds)),
            Cell(words.NONE if s.matched is None else f"{s.matched:.2%}"),
        ]
        rows.append(Row([*_names(f, found), *cells], index(f, found)))
    return Table("Sizes", columns, rows)


def rates(f: Findings) -> Table:
    """The tried learning rates with their validation scores; the chosen rate is marked."""
    grid = sorted({rate for found in f.founds for rate in found.rates})
    columns = [*_named(f), *(Column(f"{rate:g}", "learning rate", number=True) for rate in grid)]
    rows = []
    for found in f.founds:
        cells = []
        for rate in grid:
            values = found.rates.get(rate)
            if values is None:
                cells.append(Cell(""))
            elif None in values:
                cells.append(Cell("diverged", mark="failed"))
            else:
                cells.append(Cell(words.number(sum(values) / len(values)), mark="best" * (rate == found.rate)))
        rows.append(Row([*_names(f, found), *cells], index(f, found)))
    return Table(f"Validation {f.monitor.replace('_', ' ')} by learning rate", columns, rows)


def elsewhere(f: Findings) -> Table:
    """Test scores on other data than the trained data."""
    at = f.comparison.judged_at
    group = f"evaluated at {compare_words.key(next(iter(f.comparison.extrapolate)))}"
    columns = [*_named(f), *(Column(str(value), group, number=True) for value in at)]
    rows = []
    for found in f.founds:
        cells = [Cell(compare_words.spread(away(f, found, value))) for value in at]
        rows.append(Row([*_names(f, found), *cells], index(f, found)))
    return Table(f"Test {f.metric.replace('_', ' ')} on other data", columns, rows)


def away(f: Findings, found: Found, value):
    """The summary at an extrapolated value; at the trained value, the summary on test."""
    assignment = f.comparison.judged_at[value]
    return f.summary(found, None if found.cell.get(assignment.partition("=")[0]) == value else assignment)


def configs(f: Findings) -> Table:
    """The keys in which the contenders' configs differ, at the first value, one column each."""
    founds = f.at(f.comparison.values[0])
    paths = differences.paths([x.cell.config for x in founds])
    rows = [Row([Cell(path), *(Cell(differences.leaf(x.cell.config, path)) for x in founds)]) for path in paths]
    rows.append(
        Row([Cell("optim.learning_rate"), *(Cell("none" if x.rate is None else f"{x.rate:g}") for x in founds)])
    )
    columns = [Column("key"), *(Column(x.cell.contender, run=index(f, x)) for x in founds)]
    return Table("What differs between the configs", columns, rows)


def replay(trial: Trial, out: Path) -> str:
    """The shell command that trains and evaluates one run again."""
    file = out / trial.folder.relative_to(out.absolute()) / "config.json"
    return f"seqjax train --config {shlex.quote(str(file))} --workdir NEW && seqjax evaluate --workdir NEW --split test"
