"""Figures of a sweep: the best value over trials, the importance of parameters, and the value by parameter."""

import itertools

from seqjax import metrics
from seqjax.report import canvas, words
from seqjax.search._records import Record, Summary

DONE, FAILED = canvas.COLOURS[0], canvas.COLOURS[1]
LONG = 28  # most letters of a label under a panel


def history(summary: Summary) -> str | None:
    """The value of every trial that is done, and the best so far; failed and pruned trials are marks at the edge."""
    done = _done(summary)
    if not done:
        return None
    line = list(itertools.accumulate((r.value for r in done), lambda *pair: metrics.best(summary.way, pair)))

    def draw(axes):
        last = summary.records[-1].number
        axes.step([*(r.number for r in done), last], [*line, line[-1]], where="post", color=DONE, linewidth=1.7)
        look = {"fmt": "o", "color": DONE, "markersize": 4, "elinewidth": 0.9, "alpha": 0.7}
        for record in done:
            axes.errorbar(record.number, record.value, record.spread, **look)
        low = 0.0 if summary.way == "more" else 1.0  # the edge where bad values would be
        for status, marker, colour in (("pruned", "|", canvas.INK), ("failed", "x", FAILED)):
            at = [record.number for record in summary.records if record.status == status]
            look = {"color": colour, "markersize": 6, "clip_on": False}
            axes.plot(at, [low] * len(at), marker, transform=axes.get_xaxis_transform(), **look)
        axes.set_title(words.metric(summary.monitor, summary.way))
        axes.set_xlabel("trial")
        axes.xaxis.get_major_locator().set_params(integer=True)
        canvas.scale(axes, [record.value for record in done], summary.way)

    return canvas.panel(f"{summary.monitor} of every trial, and the best so far", draw)


def importances(summary: Summary) -> str | None:
    """A bar for the importance of every parameter; None if the importances are not known."""
    shares = sorted(summary.importances.items(), key=lambda item: item[1])
    if not shares:
        return None

    def draw(axes):
        axes.barh(range(len(shares)), [share for _, share in shares], color=DONE, height=0.6)
        axes.set_yticks(range(len(shares)), [words.clean(name) for name, _ in shares])
        axes.set_xlim(0, 1)
        axes.set_title("importance of a parameter")
        axes.grid(axis="y", visible=False)

    return canvas.panel("Importance of each parameter", draw, height=max(1.6, 0.8 + 0.36 * len(shares)))


def slices(summary: Summary) -> list[str | None]:
    """One panel per parameter: its value in every trial that is done, against the trial's value."""
    return [_slice(summary, name) for name in summary.params]


def _slice(summary: Summary, name: str) -> str | None:
    records = [record for record in _done(summary) if name in record.params]
    if not records:
        return None
    values = [record.params[name] for record in records]
    numbers = all(type(value) in (int, float) for value in values)
    labels = list(dict.fromkeys(sorted(map(words.value, values))))
    x = values if numbers else [labels.index(words.value(value)) for value in values]

    def draw(axes):
        axes.plot(x, [record.value for record in records], "o", color=DONE, markersize=4, alpha=0.6)
        if summary.best in records:
            at = records.index(summary.best)
            axes.plot(x[at], records[at].value, "o", markersize=10, fillstyle="none", color=FAILED)
        axes.set_title(words.metric(summary.monitor, summary.way))
        axes.set_xlabel(words.clean(name if len(name) <= LONG else f"…{name[1 - LONG :]}"))
        if not numbers:
            axes.set_xticks(range(len(labels)), [words.clean(label)[:20] for label in labels])
            axes.set_xlim(-0.5, len(labels) - 0.5)
        else:
            if all(type(value) is int for value in values):
                axes.xaxis.get_major_locator().set_params(integer=True)
            axes.xaxis.set_major_formatter(words.short)
            if name in summary.logarithmic:
                canvas.logarithmic(axes, "x")
        canvas.scale(axes, [record.value for record in records], summary.way)

    return canvas.panel(f"{summary.monitor} against {name}", draw, width=3.9, height=2.7)


def curves(summary: Summary) -> str | None:
    """The values of every trial that the pruner used; None without a pruner."""
    seen = [record for record in summary.records if len(record.curve) > 1]
    if not seen:
        return None

    def draw(axes):
        for record in sorted(seen, key=lambda record: record == summary.best):
            first = record == summary.best
            look = {"color": DONE, "linewidth": 2.2} if first else {"color": canvas.INK, "linewidth": 0.8, "alpha": 0.4}
            steps, values = zip(*sorted(record.curve.items()), strict=True)
            axes.plot(steps, values, marker="." if record.status == "pruned" else "", **look)
        axes.set_title(f"{words.metric(summary.monitor, summary.way)} during training")
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(words.short)
        canvas.scale(axes, [value for record in seen for value in record.curve.values()], summary.way)

    return canvas.panel(f"{summary.monitor} of every trial while it trained", draw)


def _done(summary: Summary) -> list[Record]:
    return [record for record in summary.records if record.status == "done"]
