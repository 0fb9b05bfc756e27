"""Figures of fingerprints: skill of each probe, skill against length, time and memory against length."""

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
    with canvas.drawing(f"dots/{mark.name}"):
        figure, (axes,) = canvas.figure(1, height=0.6 + 0.38 * len(names))
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
        return canvas.svg(figure, "currentColor", f"Test accuracy and chance of each probe, {mark.name}")


def lengths(mark: Measured) -> str | None:
    """Skill of every probe against length, in multiples of the trained length; None if each probe has one length."""
    indices = {probe: i for i, probe in enumerate(mark.probes) if len(factors([mark], probe)) > 1}
    if not indices:
        return None
    with canvas.drawing(f"lengths/{mark.name}"):
        figure, (axes,) = canvas.figure(1)
        for name, i in indices.items():
            _line(axes, i, *_skills(mark, name), label=title(name))
        _against_length(axes, "skill at longer lengths")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
        return canvas.svg(figure, "currentColor", f"Skill against length for each probe, {mark.name}")


def multiples(marks: list[Measured]) -> list[str]:
    """One small panel per probe that has several lengths, one line per mixer."""
    out = []
    for name in probes(marks):
        if len(factors(marks, name)) < 2:
            continue
        with canvas.drawing(f"multiples/{name}"):
            figure, (axes,) = canvas.figure(1, width=3.6, height=2.6)
            for mark in marks:
                _line(axes, mark.index, *_skills(mark, name))
            _against_length(axes, title(name))
            out.append(canvas.svg(figure, "currentColor", f"{title(name)}: skill against length, {_names(marks)}"))
    return out


def costs(mark: Measured) -> list[str]:
    """Time and memory of one mixer against length, both axes logarithmic."""
    out = []
    for kind, keys in PANELS.items():
        with canvas.drawing(f"costs/{mark.name}/{kind}"):
            figure, (axes,) = canvas.figure(1)
            for i, key in enumerate(keys):
                _line(axes, i, *_costs(mark, key), label=COSTS[key])
            _log_log(axes, kind, keys[0])
            axes.legend(loc="best", fontsize=8.5)
            out.append(canvas.svg(figure, "currentColor", f"{kind} against length, {mark.name}"))
    return out


def costs_together(marks: list[Measured]) -> list[str]:
    """One panel per cost, one line per mixer."""
    out = []
    for key, name in COSTS.items():
        with canvas.drawing(f"costs/{key}"):
            figure, (axes,) = canvas.figure(1, width=3.9, height=2.9)
            for mark in marks:
                _line(axes, mark.index, *_costs(mark, key))
            _log_log(axes, name, key)
            out.append(canvas.svg(figure, "currentColor", f"{name} against length, {_names(marks)}"))
    return out


def _names(marks: list[Measured]) -> str:
    return words.listed([mark.name for mark in marks])


def _skills(mark: Measured, probe: str) -> tuple[list[int], list[float]]:
    known = [(f, mark.skill(probe, f)) for f in factors([mark], probe)]
    known = [(f, skill) for f, skill in known if skill is not None]
    return [f for f, _ in known], [skill for _, skill in known]


def _line(axes, index: int, x, y, label: str | None = None):
    canvas.line(axes, index, x, y, label=label, clip_on=False, markersize=4.5, linewidth=1.6)


def _against_length(axes, name: str):
    axes.set_title(name)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("length / trained length")
    _whole_ticks(axes)
    axes.axhline(0, **canvas.RULE)
    axes.set_ylim(-0.12, 1.04)


def _costs(mark: Measured, key: str) -> tuple[list[int], list[float]]:
    """Lengths, and milliseconds or MiB."""
    lengths, values = mark.costs(key)
    return lengths, [value * 1e3 if key.endswith("_s") else value / 2**20 for value in values]


def _log_log(axes, name: str, key: str):
    axes.set_title(name)
    axes.set_xlabel("length")
    if not any(len(line.get_xdata()) for line in axes.get_lines()):
        return
    axes.set_xscale("log", base=2)
    canvas.logarithmic(axes, "y")
    _whole_ticks(axes)
    axes.set_ylabel("ms" if key.endswith("_s") else "MiB")


def _whole_ticks(axes):
    """A tick at every measured length, with a number at every tick, or at every second one if there are many."""
    known = sorted({float(x) for line in axes.get_lines() for x in line.get_xdata()})
    every = 1 if len(known) < 5 else 2
    axes.set_xticks(known, [words.count(x) if i % every == 0 else "" for i, x in enumerate(known)])
    axes.minorticks_off()
