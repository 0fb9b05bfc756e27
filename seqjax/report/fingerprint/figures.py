"""Figures of fingerprints: skill of each probe, skill against length, time and memory against length."""

import functools
from collections.abc import Callable

from seqjax.report import canvas, words
from seqjax.report.fingerprint.measured import Measured, factors, probes, title
from seqjax.report.fingerprint.tables import COSTS

PANELS = {
    "time": ("train_s", "prefill_s", "decode_s"),
    "memory": ("train_bytes", "prefill_bytes", "state_bytes"),
}


def dots(mark: Measured) -> str:
    """One bar per probe, from chance to the score; seeds are small dots."""
    names = list(mark.probes)[::-1]

    def draw(axes):
        for y, name in enumerate(names):
            score, colour = mark.score(name, 1), canvas.style(len(names) - 1 - y)[0]
            if score is None:
                axes.text(0.01, y, "no score", va="center", fontsize=8.5)
                continue
            mean = mark.accuracy(name)
            axes.plot([score["chance"], mean], [y, y], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
            axes.plot(score["accuracy"], [y] * len(score["accuracy"]), "o", color=colour, markersize=3)
            axes.plot([mean], [y], "o", color=colour, markersize=8)
            axes.plot([score["chance"]], [y], "|", color=canvas.INK, markersize=13, markeredgewidth=1.6)
        axes.set_yticks(range(len(names)), [title(name) for name in names])
        axes.set_xlim(-0.02, 1.03)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_title("test accuracy (bar: chance)")

    label = f"Test accuracy and chance of each probe, {mark.name}"
    return canvas.panel(label, draw, height=0.6 + 0.38 * len(names))


def lengths(mark: Measured) -> str | None:
    """Skill of every probe against length, in multiples of the trained length; None if each probe has one length."""
    indices = {probe: i for i, probe in enumerate(mark.probes) if len(factors([mark], probe)) > 1}
    lines = [(i, *_skills(mark, name), title(name)) for name, i in indices.items()]
    label = f"Skill against length for each probe, {mark.name}"
    outside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    return _panel("skill at longer lengths", label, lines, _skill_axis, outside) if lines else None


def multiples(marks: list[Measured]) -> list[str]:
    """One small panel per probe that has several lengths, one line per mixer."""
    out = []
    for name in probes(marks):
        if len(factors(marks, name)) > 1:
            lines = [(mark.index, *_skills(mark, name), None) for mark in marks]
            label = f"{title(name)}: skill against length, {_names(marks)}"
            out.append(_panel(title(name), label, lines, _skill_axis, width=3.6, height=2.6))
    return out


def costs(mark: Measured) -> list[str]:
    """Time and memory of one mixer against length, both axes logarithmic."""
    out = []
    for kind, keys in PANELS.items():
        lines = [(i, *_costs(mark, key), COSTS[key]) for i, key in enumerate(keys)]
        axis = functools.partial(_cost_axis, keys[0])
        out.append(_panel(kind, f"{kind} against length, {mark.name}", lines, axis, {"loc": "best"}))
    return out


def costs_together(marks: list[Measured]) -> list[str]:
    """One panel per cost, one line per mixer."""
    out = []
    for key, name in COSTS.items():
        lines, axis = [(mark.index, *_costs(mark, key), None) for mark in marks], functools.partial(_cost_axis, key)
        out.append(_panel(name, f"{name} against length, {_names(marks)}", lines, axis, width=3.9, height=2.9))
    return out


def _names(marks: list[Measured]) -> str:
    return words.listed([mark.name for mark in marks])


def _skills(mark: Measured, probe: str) -> tuple[list[int], list[float]]:
    known = {f: skill for f in factors([mark], probe) if (skill := mark.skill(probe, f)) is not None}
    return list(known), list(known.values())


def _costs(mark: Measured, key: str) -> tuple[list[int], list[float]]:
    """Lengths, and milliseconds or MiB."""
    lengths, values = mark.costs(key)
    return lengths, [value * 1e3 if key.endswith("_s") else value / 2**20 for value in values]


def _panel(name: str, label: str, lines: list, dress: Callable, legend: dict | None = None, **size) -> str:
    """Lines (index, x, y, name) against length: a tick at every known x, with a number at each or every second one."""
    known = sorted({float(at) for _, x, *_ in lines for at in x})
    every = 1 if len(known) < 5 else 2

    def draw(axes):
        for index, x, y, named in lines:
            canvas.line(axes, index, x, y, label=named, clip_on=False, markersize=4.5, linewidth=1.6)
        axes.set_title(name)
        if known:
            axes.set_xscale("log", base=2)
        dress(axes)
        axes.set_xticks(known, [words.count(x) if i % every == 0 else "" for i, x in enumerate(known)])
        axes.minorticks_off()
        if legend:
            axes.legend(fontsize=8.5, **legend)

    return canvas.panel(label, draw, **size)


def _skill_axis(axes) -> None:
    axes.set_xlabel("length / trained length")
    axes.axhline(0, **canvas.RULE)
    axes.set_ylim(-0.12, 1.04)


def _cost_axis(key: str, axes) -> None:
    axes.set_xlabel("length")
    axes.set_ylabel("ms" if key.endswith("_s") else "MiB")
    if any(len(line.get_ydata()) for line in axes.get_lines()):
        canvas.logarithmic(axes, "y")
