"""The figures of a comparison as SVG that fits light and dark pages; the same findings always give the same bytes."""

import functools
import itertools
import math
from collections.abc import Callable

from seqjax.report import canvas, words
from seqjax.report.compare import sentences, tables
from seqjax.search.findings import Findings, Found
from seqjax.search.plan import NONE

WIDE = 4  # an axis is logarithmic if max / min is larger than this
BAND = 0.16  # opacity

BUDGETS: dict[str, Callable[[Found], float | None]] = {
    "parameters": lambda x: x.size.parameters,
    "FLOPs of training": tables.total_flops,
}
COSTS: dict[str, Callable[[Found], float | None]] = {
    "training time, s": lambda x: tables.mean(x.seconds()),
    "memory per step, MiB": lambda x: x.size.temporary_bytes and x.size.temporary_bytes / 2**20,
    "state bytes": lambda x: x.size.state_bytes,
}


def against(f: Findings, costs: dict, pareto: bool = False) -> list[str | None]:
    """Score against each cost, also with the Pareto front: the contenders that no other beats in both."""
    return [_against(f, title, of, pareto) for title, of in costs.items()]


def comparable(f: Findings) -> list[Found]:
    """The results that compare: all, or only those at the last value if the data, the task or settings vary."""
    c = f.comparison
    return f.at(c.values[-1]) if c.named or (c.axis or "").startswith(("data.", "task.")) else f.founds


def front(points: list[tuple[float, float]], sign: int) -> list[tuple[float, float]]:
    """The points that no other point beats in both (smaller x, better y), in order of x."""
    best, out = -math.inf, []
    for x, y in sorted(points, key=lambda p: (p[0], -sign * p[1])):
        if sign * y > best:
            best = sign * y
            out.append((x, y))
    return out


def fronts(f: Findings) -> bool:
    """Whether one of the Pareto fronts has more than one point."""
    known = [x for x in comparable(f) if f.summary(x)]
    return any(len(front([(of(x), f.summary(x).mean) for x in known if of(x)], f.sign)) > 1 for of in COSTS.values())


def _against(f: Findings, title: str, of: Callable[[Found], float | None], pareto: bool) -> str | None:
    founds = [x for x in comparable(f) if f.summary(x) and of(x)]
    if not founds:
        return None

    def draw(axes):
        if pareto:
            x, y = zip(*front([(of(x), f.summary(x).mean) for x in founds], f.sign), strict=True)
            axes.step(x, y, where="post", **canvas.RULE)  # a front of one point draws nothing
        for name in dict.fromkeys(x.cell.name for x in founds):
            own = [x for x in founds if x.cell.name == name]
            _points(axes, [of(x) for x in own], own, [f.summary(x) for x in own])
        _dress(axes, f, title, [of(x) for x in founds])

    return canvas.panel(f"test {f.metric} against {title}", draw, width=4.2, height=3.2)


def _points(axes, x: list[float], founds: list[Found], summaries) -> None:
    """Draws one contender: markers at its means, whiskers for its intervals, a line through the markers."""
    colour, dash, marker = canvas.style(founds[0].cell.index)
    y = [s.mean for s in summaries]
    # One run has no interval: max(0, NaN) is 0.
    whiskers = [[max(0, s.mean - s.low) for s in summaries], [max(0, s.high - s.mean) for s in summaries]]
    look = {"color": colour, "marker": marker, "markersize": 6, "linewidth": 1.4, "capsize": 3, "elinewidth": 1.1}
    axes.errorbar(x, y, yerr=whiskers, linestyle=(0, dash) if dash else "-", **look)


def _dress(axes, f: Findings, title: str, x) -> None:
    axes.set_title(words.metric(f.metric, f.metrics[f.metric]))
    axes.set_xlabel(title)
    axes.margins(x=0.08)
    if min(x) > 0 and max(x) > WIDE * min(x):
        canvas.logarithmic(axes, "x")
    else:
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(words.short)
    if max(x) == min(x):
        axes.set_xlim(0.5 * x[0], 1.5 * x[0])
    axes.yaxis.set_major_formatter(words.short)


def curves(f: Findings) -> list[str | None]:
    """The validation monitor against step and against time: two panels for every value."""
    draws = {"step": "step", "training time, s": "seconds"}
    draws = {name: functools.partial(_curve, against=key) for name, key in draws.items()}
    return [_validation(f, value, *draw) for value in f.comparison.values for draw in draws.items()]


def _validation(f: Findings, value, against: str, draw: Callable, logarithmic: bool = False) -> str | None:
    """The validation monitor at a value; `draw` draws one contender and returns the x of its points."""
    at = "" if value is None else f", {sentences.key(f.comparison.axis)} {value}"

    def panel(axes):
        if not [x for found in f.at(value) for x in draw(axes, f, found)]:
            return False
        axes.set_title(f"validation {words.metric(f.monitor, f.metrics[f.monitor])}{at}")
        axes.set_xlabel(against)
        axes.xaxis.set_major_formatter(words.short)
        axes.yaxis.set_major_formatter(words.short)
        if logarithmic:
            canvas.logarithmic(axes, "x")

    return canvas.panel(f"validation {f.monitor} against {against}{at}", panel, width=4.6, height=3.2)


def _curve(axes, f: Findings, found: Found, against: str) -> list[float]:
    """Draws the mean over seeds and a band from lowest to highest, up to the last step of all; returns the x values."""
    finite = lambda run: [row for row in run.rows if math.isfinite(row.get(f.monitor, math.nan))]
    runs = [rows for run in found.runs.values() if run.status == "done" and (rows := finite(run))]
    if not runs:
        return []
    by_step: dict[int, list[dict]] = {}
    for row in itertools.chain(*runs):
        by_step.setdefault(row["step"], []).append(row)
    end = min(max(row["step"] for row in rows) for rows in runs)  # a run that was stopped early ends before the others
    rows = [by_step[step] for step in sorted(by_step) if step <= end]
    x = [tables.mean([row[against] for row in of_step]) for of_step in rows]
    y = [[row[f.monitor] for row in of_step] for of_step in rows]
    look = {"markersize": 4, "markevery": max(1, len(x) // 8), "linewidth": 1.6}
    line = canvas.line(axes, found.cell.index, x, [tables.mean(values) for values in y], **look)
    axes.fill_between(x, [min(v) for v in y], [max(v) for v in y], color=line.get_color(), alpha=BAND, linewidth=0)
    return x


def lengths(f: Findings) -> list[str]:
    """Score against the key that varies, and against the extrapolated key with one panel per trained value."""
    c, out = f.comparison, []
    if c.axis and _numbers(c.values):
        by_name = [[x for x in f.founds if x.cell.name == name and f.summary(x)] for name in c.contenders]
        lines = [(own, [x.cell.value for x in own], [f.summary(x) for x in own]) for own in by_name if own]
        out.append(_lines(f, lines, sentences.key(c.axis), "trained at each value"))
    for value in c.values:
        key, away = c.away(value)
        home, lines = key and f.at(value)[0].cell.get(key), []
        if not _numbers([home, *away]):
            continue
        for found in f.at(value):
            known = {v: tables.away(f, found, v) for v in away} | {home: f.summary(found)}
            if at := sorted(v for v, s in known.items() if s):
                lines.append(([found], at, [known[v] for v in at]))
        other = "" if c.axis in (None, key) else f", {sentences.key(c.axis)} {value}"
        out.append(_lines(f, lines, sentences.key(key), f"trained at {home:g}{other}", [home]))
    return list(filter(None, out))


def _numbers(values) -> bool:
    return all(type(v) in (int, float) for v in values)


def _lines(f: Findings, lines, xlabel: str, what: str, home=()) -> str | None:
    if not lines:
        return None

    def draw(axes):
        for founds, x, summaries in lines:
            _points(axes, x, founds, summaries)
        for x in home:
            axes.axvline(x, **canvas.RULE)
        every = [x for _, of_line, _ in lines for x in of_line]
        _dress(axes, f, xlabel, every)
        axes.set_title(f"test {words.metric(f.metric, f.metrics[f.metric])}, {what}")
        axes.set_xticks(sorted(set(every)))

    return canvas.panel(f"test {f.metric} against {xlabel}, {what}", draw, width=4.6, height=3.2)


def rates(f: Findings) -> list[str | None]:
    """The validation monitor against learning rate, one panel per value; the chosen rate has a larger marker."""
    return [_validation(f, value, "peak learning rate", _rates, logarithmic=True) for value in f.comparison.values]


def _rates(axes, f: Findings, found: Found) -> list[float]:
    known = {rate: tables.mean(values) for rate, values in found.rates.items() if rate != NONE and None not in values}
    index = found.cell.index
    canvas.line(axes, index, list(known), list(known.values()), markersize=4, linewidth=1.4)
    if found.rate in known:
        canvas.line(axes, index, [found.rate], [known[found.rate]], dashed=False, markersize=9, alpha=0.6)
    return list(known)
