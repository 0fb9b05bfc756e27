"""Time against length: where two curves cross, and results of one machine or several as tables and as a picture."""

import io
import math
from pathlib import Path

from benchmarks.results import machine

RIVALS = ("attention", "attention_window")  # the layers that others are compared with
MARKERS = "osD^vPX<>*"
QUANTITIES = {
    "tokens_s": ("Tokens per second", ",.0f"),
    "share": ("Share of the hardware's peak", ".0%"),
    "peak_mb": ("Peak memory, MB", ",.1f"),
}


def slope(x0: float, y0: float, x1: float, y1: float) -> float:
    """The exponent of x in the growth of y between two points."""
    return math.log(y1 / y0) / math.log(x1 / x0)


def crossover(mine: dict[int, float], rival: dict[int, float]) -> tuple[float | None, str]:
    """The length from which on `mine` takes less time than `rival`, up to the longest of both: a number, and in words.

    The arguments map length to time, interpolated linearly in the logarithms. Without such a length the number is None.
    """
    lengths = sorted(mine.keys() & rival.keys())
    if not lengths:
        return None, "not measured"
    ahead = [math.log(rival[L] / mine[L]) for L in lengths]
    if ahead[-1] <= 0:
        return None, f"not up to {lengths[-1]:,}"
    behind = [i for i, lead in enumerate(ahead) if lead <= 0]
    if not behind:
        return None, "at every length"
    i = behind[-1]
    part = -ahead[i] / (ahead[i + 1] - ahead[i])
    at = lengths[i] * (lengths[i + 1] / lengths[i]) ** part
    return at, f"{at:,.0f}"


def curve(result: dict, what: str, name: str, key: str = "us_token") -> dict[int, float]:
    """One figure of one layer, by length."""
    rows = [row for row in result["rows"] if row["case"]["what"] == what and name in row["contenders"]]
    return {row["case"]["L"]: row["contenders"][name][key] for row in rows}


def names(results: list[dict], what: str | None = None) -> list[str]:
    """The layers that took part, including those that were left out."""
    rows = [row for result in results for row in result["rows"] if what in (None, row["case"]["what"])]
    return list(dict.fromkeys(name for row in rows for name in [*row["contenders"], *row["left_out"]]))


def kinds(results: list[dict]) -> list[str]:
    """The kinds of work: training, prefill, decode."""
    return list(dict.fromkeys(row["case"]["what"] for result in results for row in result["rows"]))


def crossovers(results: list[dict]) -> list[tuple[str, list[list[str]]]]:
    """For each form of attention, a table of the lengths from which on the other layers are faster."""
    out = []
    for rival in RIVALS:
        others = [name for name in names(results) if name != rival and (name, rival) != RIVALS]
        places = [(what, result) for what in kinds(results) for result in results]
        if rival not in names(results) or not others:
            continue
        head = [f"faster than {rival} from", *(_head(results, result, what) for what, result in places)]
        cell = lambda name, what, result, rival=rival: crossover(
            *(curve(result, what, each) for each in (name, rival))
        )[1]
        lines = [[name, *(cell(name, what, result) for what, result in places)] for name in others]
        out.append((f"Crossover with {rival}: tokens", [head, *lines]))
    return out


def tables(results: list[dict]) -> list[tuple[str, list[list[str]]]]:
    """The tables, as caption and cells (the first line is the head), with a column for each length of each machine."""
    out = crossovers(results)
    for what in kinds(results):
        places = [(result, row) for result in results for row in result["rows"] if row["case"]["what"] == what]
        head = ["", *(_head(results, result, f"{row['case']['L']:,}") for result, row in places)]
        for key, (caption, form) in QUANTITIES.items():
            lines = [[name, *(_cell(row, name, key, form) for _, row in places)] for name in names(results, what)]
            out.append((f"{caption}: {what}", [head, *lines]))
    return [*out, ("Layers", _layers(results))]


def _head(results: list[dict], result: dict, text: str) -> str:
    return text if len(results) == 1 else f"{machine(result)}: {text}"


def _cell(row: dict, name: str, key: str, form: str) -> str:
    if name in row["left_out"]:
        return f"left out: {row['left_out'][name]}"
    figures = row["contenders"].get(name)
    return "" if figures is None else "~" * figures["noisy"] + format(figures[key], form)


def _layers(results: list[dict]) -> list[list[str]]:
    """Width, parameters and bytes of state, which are the same on all machines."""
    rows = [row for result in results for row in result["rows"]]
    lengths = sorted({row["case"]["L"] for row in rows})
    found = {(name, row["case"]["L"]): figures for row in rows for name, figures in row["contenders"].items()}
    lines = []
    for name in names(results):
        mine = {L: found[name, L] for L in lengths if (name, L) in found}
        if mine:
            any_of = next(iter(mine.values()))
            held = [f"{mine[L]['state_bytes']:,}" if L in mine else "" for L in lengths]
            lines.append([name, str(any_of["width"]), f"{any_of['parameters']:,}", *held])
    return [["", "width", "parameters", *(f"state bytes of a row, {L:,}" for L in lengths)], *lines]


def picture(result: dict, path: Path | io.StringIO, **options) -> None:
    """Draws time per token against length with crossovers, peak memory of training, and bytes of state."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    what = kinds([result])
    panels = [(kind, "us_token", f"{kind}: µs per token") for kind in what]
    panels += [(what[0], "peak_mb", f"{what[0]}: peak memory, MB"), (what[-1], "state_bytes", "state of a row, bytes")]
    figure, axes = plt.subplots(2, 3, figsize=(15, 9), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    # Times in the upper row, bytes in the lower one.
    places = [*axes.flat[: len(what)], *axes.flat[3:5]]
    for (kind, key, title), axis in zip(panels, places, strict=True):
        axis.set_axis_on()
        for i, name in enumerate(names([result])):
            points = curve(result, kind, name, key)
            rival = name in RIVALS
            look = dict(color="black", linestyle=("-", "--")[RIVALS.index(name)], linewidth=2) if rival else {}
            look = look or dict(color=f"C{i % 10}", marker=MARKERS[(i + i // 10) % 10], markersize=4, linewidth=1)
            axis.plot(list(points), list(points.values()), label=name, **look)
            if key == "us_token" and not rival and (at := crossover(points, curve(result, kind, RIVALS[0]))[0]):
                axis.plot(at, between(points, at), "o", color="red", markersize=8, fillstyle="none")
        axis.set(xscale="log", yscale="log", title=title, xlabel="tokens")
        lengths = sorted({row["case"]["L"] for row in result["rows"]})
        axis.set_xticks(lengths, [f"{L:,}" for L in lengths], rotation=45)
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.grid(alpha=0.3)
    axes[1, 2].legend(*axes[0, 0].get_legend_handles_labels(), loc="center")
    clock, width = result["clock"], result["layer"]["width of attention"]
    about = f"parameters of attention of width {width}, {result['layer']['dtype']}, {clock} time"
    figure.suptitle(f"{machine(result)}: {about}; red: from here on faster than attention")
    figure.savefig(path, dpi=110, **options)
    plt.close(figure)


def between(points: dict[int, float], at: float) -> float:
    """The value of a curve at a length between two of its points, interpolated linearly in the logarithms."""
    low = max(length for length in points if length < at)
    high = min(length for length in points if length > low)
    return points[low] * (at / low) ** slope(low, points[low], high, points[high])
