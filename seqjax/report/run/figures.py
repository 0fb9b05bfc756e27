"""Learning curves and speed as SVG that fits light and dark pages; the same runs always give the same bytes."""

import math
import statistics

from seqjax.report import canvas, words
from seqjax.report.run import outcome
from seqjax.report.runs import Run

POINTS = 500  # at most, of a curve; more points would only blur it


def curves(runs: list[Run], metric: str) -> list[str | None]:
    """Inline SVGs of a metric against step and against training seconds; None without data."""
    names = words.listed([r.name for r in runs])
    return [canvas.panel(f"{metric} against {x}: {names}", _curves, runs, metric, x) for x in ("step", "seconds")]


def progress(runs: list[Run]) -> list[str | None]:
    """Inline SVGs of speed, learning rate and gradient norm; None without data."""
    panels = (
        ("tokens_per_s", "tokens per second", "seconds"),
        ("learning_rate", "learning rate", "step"),
        ("grad_norm", "gradient norm", "step"),
    )

    def draw(axes, key, title, against):
        lines = [_line(axes, run, "train", key, against, dashed=False, linewidth=1) for run in runs]
        if not any(map(_finite, lines)):
            return False
        _dress(axes, title, against, lines)
        if key != "grad_norm":
            axes.set_ylim(bottom=0)
        elif any(y > 0 for line in lines for y in _finite(line)):
            canvas.logarithmic(axes, "y")

    look = {"width": 3.9, "height": 2.5}
    return [canvas.panel(f"{name} against {of}", draw, key, name, of, **look) for key, name, of in panels]


def standalone(runs: list[Run]) -> str:
    """One SVG file with the learning curves and a legend, for a README: readable on white and on dark."""
    from matplotlib.lines import Line2D

    groups = outcome.problems(runs)
    with canvas.drawing("standalone"):
        figure, axes = canvas.figure(2 * len(groups), columns=2, width=9.6, height=3.4 * len(groups) + 0.4)
        for i, group in enumerate(groups.values()):
            _curves(axes[2 * i], group, group[0].monitor, "step")
            _curves(axes[2 * i + 1], group, group[0].monitor, "seconds")
            if len(groups) > 1:
                axes[2 * i].set_title(words.clean(group[0].problem))
        handles = [canvas.line(axes[0], run.index, [], [], markersize=4) for run in runs]
        handles.append(Line2D([], [], color=canvas.INK, linewidth=0.9, alpha=0.55))
        labels = [*(words.clean(run.name) for run in runs), "training (thin)"]
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
        return canvas.svg(figure, canvas.GREY, "Learning curves: " + words.listed([r.name for r in runs]), alone=True)


def _points(run: Run, split: str, key: str, against: str) -> tuple[list[float], list[float]]:
    """A curve of at most POINTS points; if there are more values, means over neighbours."""
    x, y = run.series(split, key, against)
    size = math.ceil(len(x) / POINTS) or 1
    mean = lambda values: [statistics.fmean(values[i : i + size]) for i in range(0, len(values), size)]
    return (mean(x), mean(y)) if size > 1 else (x, y)


def _line(axes, run: Run, split: str, key: str, against: str, dashed: bool, **options):
    """Draws a run as a line in its colour, with a few markers, because dashes are hard to see in a noisy line."""
    x, y = _points(run, split, key, against)
    return canvas.line(axes, run.index, x, y, dashed, markersize=4, markevery=max(1, len(x) // 8), **options)


def _finite(line) -> list[float]:
    return [float(y) for y in line.get_ydata() if math.isfinite(y)]


def _curves(axes, runs: list[Run], metric: str, against: str):
    """Draws training thin, validation with markers, baselines dashed with names at the right; False without data."""
    lines = []
    for run in runs:
        look = {"color": canvas.style(run.index)[0], "linewidth": 0.8, "alpha": 0.5}
        lines += axes.plot(*_points(run, "train", metric, against), **look)
        lines.append(_line(axes, run, "validation", metric, against, dashed=True, linewidth=1.7))
    if not any(map(_finite, lines)):
        axes.set_axis_off()
        return False
    known = outcome.baselines(runs, "validation", metric)
    rules = [axes.axhline(v, **canvas.RULE) for v in known.values()]
    way = runs[0].way(metric)
    _dress(axes, words.metric(metric, way), against, lines)
    canvas.scale(axes, [y for line in [*lines, *rules] for y in line.get_ydata()], way)
    _name(axes, known)


def _dress(axes, title: str, against: str, lines):
    from matplotlib.ticker import MultipleLocator

    axes.set_title(title)
    axes.set_xlabel("step" if against == "step" else "training time")
    axes.margins(x=0.02)
    if against == "seconds":
        longest = max((float(x) for line in lines for x in line.get_xdata()), default=0)
        size, unit = (1, "s") if longest < 180 else (60, "min") if longest < 3 * 3600 else (3600, "h")
        axes.set_xlabel(f"training time, {unit}")
        step = 10 ** math.floor(math.log10(longest / size)) if longest > 0 else 1
        wide = next(m for m in (0.2, 0.5, 1, 2) if longest / size / (m * step) <= 6)
        axes.xaxis.set_major_locator(MultipleLocator(wide * step * size))
        axes.xaxis.set_major_formatter(lambda x, _: words.short(x / size))
    else:
        axes.xaxis.set_major_formatter(words.short)
    axes.yaxis.set_major_formatter(words.short)


def _name(axes, known: dict[str, float]):
    """Writes the names of the baselines next to their lines, and moves them apart if they would overlap."""
    axes.get_ylim()  # makes matplotlib compute the scale that the next line reads
    to_axes = axes.transData + axes.transAxes.inverted()
    low = -math.inf
    for name, value in sorted(known.items(), key=lambda item: item[1]):
        low = max(to_axes.transform((0, value))[1], low + 0.065)
        name = words.clean(name)
        name = name if len(name) <= 20 else name[:19] + "…"
        axes.text(1.015, low, name, transform=axes.transAxes, fontsize=8.5, va="center")
