"""The tables of a comparison."""

import functools

from seqjax.report import differences, words
from seqjax.report.compare import sentences
from seqjax.report.document import Cell, Column, Number, Table, row, table
from seqjax.search.findings import Findings, Found
from seqjax.search.plan import NONE
from seqjax.search.trials import Trial

FEW = 4  # up to this number of seeds, all scores are shown


def _founds(f: Findings, caption: str, columns: dict) -> Table:
    """One row per contender and value."""
    named = {Column("contender"): lambda found: found.cell.name, **_value(f, lambda found: found.cell.value)}
    return table(caption, f.founds, named | columns, run=lambda found: found.cell.index, wide=True)


def _value(f: Findings, of) -> dict:
    """The column of the key that varies, if there is one; `of` returns the value of an item."""
    axis = f.comparison.axis
    return {Number(sentences.key(axis)): lambda item: str(of(item))} if axis else {}


def results(f: Findings, baselines: list[tuple]) -> Table:
    """One row per contender and value, and one per baseline (name, value of axis, score, cost) on the same metric."""
    name, few = f"test {words.metric(f.metric, f.metrics[f.metric])}", len(f.comparison.seeds) <= FEW
    scores = {
        Number("mean and interval", name): functools.partial(_mean, f),
        Number("median", name): lambda found: words.number(s.median) if (s := f.summary(found)) else words.NONE,
        Number("each seed" if few else "lowest to highest", name): lambda x: _seeds(list(f.scores(x).values()), few),
    }
    costs = {
        Number("parameters"): lambda found: words.count(found.size.parameters),
        Number("state bytes"): lambda found: words.count(found.size.state_bytes),
        Number("FLOPs of training"): lambda found: words.flops(total_flops(found)),
        Number("training time"): lambda found: words.seconds(mean(found.seconds())),
    }
    found = _founds(f, "Results on test", scores | costs)
    for name, value, score, cost in baselines:
        rivals = f.at(value)
        over = [x.cell.name for x in rivals if sentences.beaten(f, x, score)]
        all_over = len(over) == len(rivals)
        note = "beaten by all" if all_over else f"beaten by {words.listed(over)}" if over else "not beaten"
        cell = Cell(words.number(score), note, "beaten" if all_over else "unbeaten")
        where = [str(value)] if f.comparison.axis else []
        size, time = (words.count(cost["parameters"]), words.seconds(cost["seconds"])) if cost else ("", "")
        found.rows.append(row(name, *where, cell, "", "", size, "", "", time))
    return found


def _mean(f: Findings, found: Found) -> Cell:
    s = f.summary(found)
    best = "best" if found in f.winners(found.cell.value) else ""
    return Cell(sentences.spread(s), mark=best) if s else Cell("diverged", mark="failed")


def _seeds(scores: list[float], few: bool) -> str:
    if not scores:
        return words.NONE
    ends = f"{words.number(min(scores))} to {words.number(max(scores))}"
    return ", ".join(map(words.number, scores)) if few else ends


def mean(values: list[float]) -> float | None:
    """The mean; None of no values."""
    return sum(values) / len(values) if values else None


def total_flops(found: Found) -> float:
    """FLOPs of the matrix products of all training steps, as a mean over runs, because patience may end runs early."""
    steps = mean([run.step for run in found.runs.values() if run.status == "done"])
    return found.size.flops * (found.cell.config["train"]["steps"] if steps is None else steps)


def pairs(f: Findings) -> Table:
    """Every pair of contenders, and the statistics of their difference."""
    lead = lambda pair: f"{words.number(pair.ahead)} [{words.number(pair.low)}, {words.number(pair.high)}]"
    columns = {
        Column("ahead"): lambda pair: pair.first,
        Column("behind"): lambda pair: pair.second,
        **_value(f, lambda pair: pair.value),
        Number("by (mean and interval)"): lead,
        Number("seeds that agree"): lambda pair: f"{pair.agree} of {pair.n}",
        Number("P(better)"): lambda pair: f"{pair.wins:.2f}",
        Number("p, paired permutation"): lambda pair: f"{pair.p:.3g}",
        Number("p after Holm"): lambda pair: f"{pair.adjusted:.3g}",
        Number("smallest possible p"): lambda pair: f"{pair.floor:.3g}",
    }
    order = list(f.comparison.contenders)
    return table("Pairs", f.pairs(), columns, run=lambda pair: order.index(pair.first), wide=True)


def sizes(f: Findings) -> Table:
    """The cost of each contender, and how well it matches the target."""
    known = lambda value, form: words.NONE if value is None else form(value)
    columns = {
        Number("width"): lambda found: found.cell.width,
        Number("parameters"): lambda found: words.count(found.size.parameters),
        Number("their bytes"): lambda found: known(found.size.parameter_bytes, words.count),
        Number("FLOPs per step"): lambda found: words.flops(found.size.flops),
        Number("state bytes"): lambda found: words.count(found.size.state_bytes),
        Number("memory per step"): lambda found: known(found.size.temporary_bytes, lambda n: f"{n / 2**20:,.1f} MiB"),
        Number("time per step, alone"): lambda found: words.seconds(found.size.step_seconds),
        Number("tokens per second, alone"): lambda found: words.count(found.size.tokens / found.size.step_seconds),
        Number("share of the target"): lambda found: known(found.size.matched, "{:.2%}".format),
    }
    return _founds(f, "Sizes", columns)


def rates(f: Findings) -> Table:
    """The tried learning rates with their validation scores; the chosen rate is marked."""
    grid = sorted({rate for found in f.founds for rate in found.rates})
    named = lambda rate: "none" if rate == NONE else f"{rate:g}"
    columns = {Number(named(rate), "learning rate"): functools.partial(_rate, rate) for rate in grid}
    return _founds(f, f"Validation {f.monitor.replace('_', ' ')} by learning rate", columns)


def _rate(rate: float, found: Found) -> Cell:
    values = found.rates.get(rate)
    if values is None:
        return Cell("")
    if None in values:
        return Cell("diverged", mark="failed")
    return Cell(words.number(mean(values)), mark="best" * (rate == found.rate))


def elsewhere(f: Findings) -> Table:
    """Test scores on other data than the trained data."""
    group = f"evaluated at {sentences.key(next(iter(f.comparison.extrapolate)))}"
    of = lambda value, found: sentences.spread(away(f, found, value))
    (_, values) = f.comparison.away(f.comparison.values[0])
    columns = {Number(str(value), group): functools.partial(of, value) for value in values}
    return _founds(f, f"Test {f.metric.replace('_', ' ')} on other data", columns)


def away(f: Findings, found: Found, value):
    """The summary at an extrapolated value; at the trained value, the summary on test."""
    key, assignments = f.comparison.away(found.cell.value)
    return f.summary(found, None if found.cell.get(key) == value else assignments[value])


def atlas(f: Findings, baselines: list[tuple]) -> Table:
    """One row per contender and one column per setting: the mean on test, and that on other data."""
    order, columns = list(f.comparison.contenders), {Column("contender"): str}
    known = {(name, value): words.number(score) for name, value, score, _ in baselines}
    for value in f.comparison.values:
        key, assignments = f.comparison.away(value)
        others = {f"{sentences.key(key)} {other}": assignment for other, assignment in assignments.items()}
        for title, at in {"as trained": None, **others}.items():
            columns[Number(title, value)] = functools.partial(_place, f, value, at)
    found = table(f"Test {words.metric(f.metric, f.metrics[f.metric])}", order, columns, order.index, wide=True)
    for name in dict.fromkeys(name for name, _ in known):
        of = lambda column, name=name: known.get((name, column.group), "") if column.name == "as trained" else ""
        found.rows.append(row(name, *map(of, list(columns)[1:])))
    return found


def _place(f: Findings, value, at: str | None, contender: str) -> Cell:
    """The summary of a contender at a setting; the best mean is marked."""
    means = {x.cell.name: s for x in f.at(value) if (s := f.summary(x, at))}
    if contender not in means:
        return Cell(words.NONE)
    best = max(f.sign * s.mean for s in means.values())
    return Cell(sentences.spread(means[contender]), mark="best" * (f.sign * means[contender].mean == best))


def configs(f: Findings) -> Table:
    """The keys in which the contenders' configs differ, at the first value, one column each."""
    founds = f.at(f.comparison.values[0])
    rates = row("optim.learning_rate", *(f"{x.rate:g}" if x.rate else "none" for x in founds))
    columns = [Column(x.cell.name, run=x.cell.index) for x in founds]
    return differences.table(columns, [x.cell.config for x in founds], [rates])


def replay(trial: Trial) -> str:
    """The shell command that trains and evaluates one run again."""
    return f"{words.train(trial.folder / 'config.json')} && seqjax evaluate --workdir NEW --split test"
