"""Draws SVG with matplotlib that fits light and dark pages; the same data always gives the same bytes.

Figures are drawn in a placeholder colour, INK, which `svg` replaces by `currentColor` or any colour. Text stays text.
"""

import collections
import contextlib
import html
import io
import itertools
import math
import re
import warnings
from collections.abc import Callable
from typing import Literal

from seqjax.metrics import Way
from seqjax.report import words

# Contrast at least 3:1 on white and on near-black; distinct for colour-blind readers, also by dashes and markers.
COLOURS = ("#0b7ad1", "#d55e00", "#079a73", "#c2569c", "#9a7a00", "#7d6fd6")
DASHES = ((), (6, 2), (2, 1.5), (7, 2, 1.5, 2))
MARKERS = "osD^vPX"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
GREY = "#777777"  # readable on white and on near-black
INK = "#010203"
RULE = {"color": INK, "alpha": 0.6, "linewidth": 0.9, "linestyle": (0, (4, 3))}  # a dashed line to compare with
_STYLE = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "grid.color", "xtick.color", "ytick.color"), INK
    ),
    "svg.fonttype": "none",
    "font.size": 10,
    "text.parse_math": False,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.alpha": 0.12,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "path.simplify": True,
}


def style(index: int) -> tuple[str, tuple, str]:
    """Colour, dashes and marker of a run; the first 24 are all different."""
    dash = DASHES[(index + index // len(COLOURS)) % len(DASHES)]
    return COLOURS[index % len(COLOURS)], dash, MARKERS[index % len(MARKERS)]


@contextlib.contextmanager
def drawing(salt: str):
    """Sets up matplotlib for one figure and ignores the user's matplotlibrc; `salt` makes the ids unique."""
    import matplotlib.style

    settings = {**_STYLE, "svg.hashsalt": salt}
    with matplotlib.style.context("default"), matplotlib.rc_context(settings), warnings.catch_warnings():
        # Names whose glyphs matplotlib's font lacks are still written as text, so the warning is useless.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figure(panels: int, columns: int = 1, width: float = 5.6, height: float = 3.4):
    """Makes a figure of `panels` panels; returns the figure and its axes."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(panels // columns, columns, squeeze=False).ravel()


def panel(label: str, draw: Callable, *args, **size) -> str | None:
    """The SVG, for a page, of one panel on which `draw(axes, *args)` draws; None if it returns False: no data."""
    with drawing(label):
        drawn, (axes,) = figure(1, **size)
        return None if draw(axes, *args) is False else svg(drawn, "currentColor", label)


def line(axes, index: int, x, y, dashed: bool = True, **look):
    """Draws a line with the colour, the dashes and the marker of a run."""
    colour, dash, marker = style(index)
    return axes.plot(x, y, color=colour, linestyle=(0, dash) if dash and dashed else "-", marker=marker, **look)[0]


def cells(axes, value_YX, x: float = 0.5, y: float = -0.5, height: float = 1.0) -> None:
    """Draws a matrix as squares in ten shades, from (x, y) on: 1 is full of the first colour, -1 of the second.

    Neighbours in a row with the same shade are one rectangle, and what is near 0 is left out, so figures stay small.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = collections.defaultdict(list)  # of all rectangles of a shade
    for i, row in enumerate(value_YX):
        top, left = y + height * i, x
        for shade, same in itertools.groupby(round(10 * max(-1, min(value, 1))) for value in row):
            right = left + len(list(same))
            corners[shade] += [(left, top), (right, top), (right, top + height), (left, top + height), (left, top)]
            left = right
    corner = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    for shade, found in sorted(corners.items()):
        if shade:
            look = {"facecolor": COLOURS[shade < 0], "alpha": abs(shade) / 10, "linewidth": 0}
            axes.add_patch(PathPatch(Path(found, corner * (len(found) // 5)), **look))
    axes.grid(False)


def logarithmic(axes, which: Literal["x", "y"]) -> None:
    """Makes an axis logarithmic after drawing; its ticks are plain numbers, even if its range is small."""
    from matplotlib.ticker import AutoLocator, LogLocator

    axes.set(**{f"{which}scale": "log"})
    axis, (low, high) = getattr(axes, f"{which}axis"), getattr(axes, f"get_{which}lim")()
    decades = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))
    axis.set_major_locator(AutoLocator() if high < 5 * low else decades)
    axis.set_major_formatter(words.short)
    axis.set_minor_formatter(lambda *_: "")


def scale(axes, values, way: Way | None) -> None:
    """The scale and the ticks of y, after drawing: logarithmic for losses that span more than a factor of 30."""
    finite = [value for value in values if math.isfinite(value)]
    if way != "more" and finite and 0 < 30 * min(finite) < max(finite):
        logarithmic(axes, "y")
    else:
        axes.yaxis.set_major_formatter(words.short)


def svg(figure, ink: str, label: str, alone: bool = False) -> str:
    """The figure's SVG without matplotlib's metadata, global style and repeated ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids are unused, and all figures have the same
    text = re.sub(r"font-family: [^;\"<]*", f"font-family: {FONTS}", text)
    text = re.sub(rf"((?:fill|stroke): ){INK}", rf"\1{ink}", text)  # only in styles: a name may contain the same text
    text = re.sub(r"(font: \d[\d.]*px) [^;\"<]*", rf"\1 {FONTS}", text)
    label = html.escape(words.clean(label), quote=True)
    root = re.search(r"<svg ([^>]*)>", text)
    attributes, text = root[1], text[root.end() :].strip()
    if not alone:  # in HTML the page sets the size, and the parser knows the namespaces
        attributes = re.search(r'viewBox="[^"]*"', attributes)[0]
        text = text.replace("xlink:href", "href")
    return f'<svg role="img" aria-label="{label}" stroke-linejoin="round" {attributes}>{text}\n'
