"""The results of a race: medians and quartiles, ratios and their targets, as JSON, markdown and a picture."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import ENOUGH, Timing

OURS = "ours"
CAPTIONS = {
    "time": "Speed: their time / ours",
    "byte": "Time per byte of state: theirs / ours",
    "memory": "Temporary memory: ours / theirs",
}


class Target(NamedTuple):
    """A bound on our ratio to an opponent, of "time" or time per "byte" of state (theirs / ours), or of temporary
    "memory" (ours / theirs)."""

    against: str
    least: float | None = None
    most: float | None = None
    of: str = "time"

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.most is None else f"≤ {self.most:g}"

    def met(self, ratio: float) -> bool:
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


def machine(result: dict) -> str:
    """The GPU that computed, or the CPU if there was no GPU."""
    hardware = result["hardware"]
    return hardware["cpu"] if hardware["device"] == "cpu" else hardware["device"]


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; three times the value if there is only one."""
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def summary(timing: Timing, clock: str) -> dict:
    """Milliseconds by `clock`: "wall", from quiet visits (noisy if there are too few), or "cpu", from all visits."""
    quiet = [v for v in timing.visits if v.quiet]
    noisy = clock == "wall" and len(quiet) < ENOUGH
    counted = quiet if clock == "wall" and not noisy else timing.visits
    low, median, high = quartiles([1e3 * getattr(v, clock) for v in counted])
    return {
        "ms": median,
        "low_ms": low,
        "high_ms": high,
        "wall_ms": 1e3 * statistics.median(v.wall for v in counted),
        "cpu_ms": 1e3 * statistics.median(v.cpu for v in counted),
        "others": statistics.median(v.others for v in timing.visits),
        "visits": len(timing.visits),
        "counted": len(counted),
        "noisy": noisy,
        **{key: getattr(timing, key) for key in ("compile_s", "temp_mb", "peak_mb", "allocator")},
        **(_per_token(median, *timing.decoded) if timing.decoded else {}),
    }


def _per_token(ms: float, steps: int, rows: int, state_bytes: int) -> dict:
    """The figures of one token of each row, for a call of `ms` milliseconds."""
    return {
        "us_token": 1e3 * ms / steps,
        "tokens_s": 1e3 * rows * steps / ms,
        "state_mb": state_bytes / 2**20,
        "ns_byte": 1e6 * ms / steps / state_bytes,
    }


def row(case: dict, timings: dict[str, Timing], clock: str, targets: list[Target], left_out=None) -> dict:
    """One case: the figures of all contenders, the ratios of ours to each of the others.

    `left_out`: why others did not take part, by name.
    """
    figures = {name: summary(timing, clock) for name, timing in timings.items()}
    bounds = {(t.against, t.of): t for t in targets}
    ratios = []
    for name, theirs in figures.items():
        mine = figures[OURS]
        if name == OURS:
            continue
        found = [
            ("time", theirs["ms"] / mine["ms"], theirs["low_ms"] / mine["high_ms"], theirs["high_ms"] / mine["low_ms"])
        ]
        if (name, "byte") in bounds:
            found.append(("byte", *(r * mine["state_mb"] / theirs["state_mb"] for r in found[0][1:])))
        if mine["temp_mb"] and theirs["temp_mb"]:
            found.append(("memory", *(mine["temp_mb"] / theirs["temp_mb"],) * 3))
        for of, ratio, low, high in found:
            bound = bounds.get((name, of))
            noisy = of != "memory" and (mine["noisy"] or theirs["noisy"])
            ratios.append(
                {
                    "against": name,
                    "of": of,
                    "ratio": ratio,
                    "low": low,
                    "high": high,
                    "noisy": noisy,
                    "target": bound and str(bound),
                    "met": None if noisy or bound is None else bound.met(ratio),
                }
            )
    return {"case": case, "contenders": figures, "ratios": ratios, "left_out": left_out or {}}


def title(case: dict) -> str:
    """`training lstm (32, 128, 256)`: words first, then sizes."""
    words = [str(v) for v in case.values() if isinstance(v, str)]
    sizes = [str(v) for v in case.values() if not isinstance(v, str)]
    return f"{' '.join(words)} ({', '.join(sizes)})"


def cell(ratio: dict) -> str:
    """`1.52 (1.48–1.55) ≥ 1.5 ✓`; a noisy ratio has `~` before it and `?` after it."""
    text = "~" * ratio["noisy"] + f"{ratio['ratio']:.2f}"
    if ratio["low"] != ratio["high"]:
        text += f" ({ratio['low']:.2f}–{ratio['high']:.2f})"
    mark = {True: "✓", False: "✗", None: "?"}[ratio["met"]]
    return text if ratio["target"] is None else f"{text} {ratio['target']} {mark}"


def tables(rows: list[dict]) -> list[tuple[str, list[list[str]]]]:
    """Caption and cells (the first line is the head) of the tables: speed, memory, the figures of all contenders."""
    out = []
    for of, caption in CAPTIONS.items():
        cells_of = [{r["against"]: cell(r) for r in row["ratios"] if r["of"] == of} for row in rows]
        if of == "time":
            cells_of = [row["left_out"] | cells for row, cells in zip(rows, cells_of, strict=True)]
        if not any(cells_of):
            continue
        names = list(dict.fromkeys(name for cells in cells_of for name in cells))
        lines = [["case", *names]]
        for row, cells in zip(rows, cells_of, strict=True):
            lines.append([title(row["case"]), *(cells.get(name, "") for name in names)])
        out.append((caption, lines))
    everyone = [{"case": title(row["case"]), **_shown(*item)} for row in rows for item in row["contenders"].items()]
    return [*out, ("Everyone", [list(everyone[0]), *(list(line.values()) for line in everyone)])]


def _shown(name: str, figures: dict) -> dict[str, str]:
    """The figures of one contender, as text for a table."""
    number = lambda key, form: "" if figures[key] is None else format(figures[key], form)
    token = {"µs / token": "us_token", "tokens / s": "tokens_s", "state MB": "state_mb", "ns / byte": "ns_byte"}
    forms = {"us_token": ".1f", "tokens_s": ",.0f", "state_mb": ".3f", "ns_byte": ".3f"}
    return {
        "who": name,
        **{head: number(key, forms[key]) for head, key in token.items() if key in figures},
        "ms": "~" * figures["noisy"] + number("ms", ".2f"),
        "quartiles": f"{number('low_ms', '.2f')}–{number('high_ms', '.2f')}",
        "wall ms": number("wall_ms", ".2f"),
        "cpu ms": number("cpu_ms", ".2f"),
        "others": number("others", ".2f"),
        "visits": f"{figures['counted']} of {figures['visits']}",
        "compile s": number("compile_s", ".2f"),
        "temp MB": number("temp_mb", ".1f"),
        "peak MB": number("peak_mb", ".0f"),
        "allocator": figures["allocator"],
    }


def markdown(result: dict, shown: list) -> str:
    """The tables, after the hardware, versions and command of the measurement."""
    about = {key: value for key, value in result.items() if key not in ("name", "rows")}
    show = lambda value: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
    parts = [f"# {result['name']}", *(["\n".join(f"- {k}: {show(v)}" for k, v in about.items())] if about else [])]
    for caption, (head, *lines) in shown:
        table = [head, ["---"] * len(head), *lines]
        parts += [f"## {caption}", "\n".join(f"| {' | '.join(line)} |" for line in table)]
    return "\n\n".join(parts) + "\n"


def picture(result: dict, path: Path) -> None:
    """Draws the speed against each opponent: a point with quartiles per case, targets as marks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = result["rows"]
    names = list(dict.fromkeys(r["against"] for row in rows for r in row["ratios"] if r["of"] == "time"))
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.55 * len(rows)), layout="constrained")
    for i, name in enumerate(names):
        found = [
            (y, r) for y, row in enumerate(rows) for r in row["ratios"] if (r["against"], r["of"]) == (name, "time")
        ]
        places = [y + (i - (len(names) - 1) / 2) * 0.7 / len(names) for y, _ in found]
        ratios = [r["ratio"] for _, r in found]
        spread = [[r["ratio"] - r["low"] for _, r in found], [r["high"] - r["ratio"] for _, r in found]]
        axes.errorbar(ratios, places, xerr=spread, fmt="o", markersize=4, color=f"C{i}", label=name)
        aims = [(float(r["target"].split()[1]), y) for y, (_, r) in zip(places, found, strict=True) if r["target"]]
        axes.plot(*zip(*aims, strict=True), "|", markersize=9, color=f"C{i}") if aims else None
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [title(row["case"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"their time / ours ({result['clock']} time); right of 1 we are faster; | is the target")
    axes.set_title(f"{result['name']}: {machine(result)}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def save(result: dict, stem: Path, shown: list | None = None, draw: Callable | None = picture) -> None:
    """Writes `stem`.json, .md with the tables `shown` (None: those of a race), and .png if `draw` is not None."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    shown = tables(result["rows"]) if shown is None else shown
    stem.with_suffix(".md").write_text(markdown(result, shown))
    if draw:
        draw(result, stem.with_suffix(".png"))
