"""Fingerprints as tables."""

import functools
import math

from seqjax.report import words
from seqjax.report.document import Cell, Column, Number, Table, row, table
from seqjax.report.fingerprint.measured import Measured, factors, probes, title

COSTS = {
    "train_s": "training step",
    "prefill_s": "prefill",
    "decode_s": "decoding one token",
    "train_bytes": "temporaries of a training step",
    "prefill_bytes": "temporaries of prefill",
    "state_bytes": "state",
}


def scores(mark: Measured) -> Table:
    """One row per probe."""
    far = sorted({f for probe in mark.probes for f in factors([mark], probe)} - {1})
    record = mark.probes.__getitem__
    columns = {
        Column("probe"): lambda p: Cell(title(p), _sizes(record(p)["data"])),
        Column("asks for"): lambda p: record(p)["about"],
        Number("chance"): lambda p: words.number((mark.score(p) or {}).get("chance")),
        Number("accuracy"): lambda p: Cell(words.number(mark.accuracy(p)), _spread(mark.score(p))),
        Number("skill"): lambda p: _heat(mark.skill(p)),
        **{Number(f"{f}x", "skill at longer lengths"): functools.partial(_longer, mark, f) for f in far},
        Number("learning rate (validation loss)"): lambda p: _rates(record(p)),
        Number("steps"): lambda p: words.count(record(p)["steps"]),
    }
    return table("Probes", mark.probes, columns, run=list(mark.probes).index, wide=True)


def _longer(mark: Measured, factor: int, probe: str) -> Cell:
    errors = {score["factor"]: score.get("error", "") for score in mark.probes[probe]["scores"]}
    return _heat(mark.skill(probe, factor), errors.get(factor, ""))


def side_by_side(marks: list[Measured], factor: int = 1) -> Table:
    """Accuracy of mixers by probes, shaded by skill, at a multiple of the trained length."""
    names = [p for p in probes(marks) if factor in factors(marks, p)]
    columns = {
        Column("mixer"): lambda mark: Cell(mark.name, f"{words.count(mark.tree['parameters'])} parameters"),
        **{Number(title(p)): functools.partial(_accuracy, p, factor) for p in names},
    }
    where = "the trained length" if factor == 1 else f"{factor} times the trained length"
    found = table(f"Accuracy at {where}", marks, columns, run=lambda mark: mark.index, wide=True)
    chances = [next((score["chance"] for m in marks if (score := m.score(p, factor))), None) for p in names]
    return found._replace(rows=[*found.rows, row("chance", *map(words.number, chances))])


def _accuracy(probe: str, factor: int, mark: Measured) -> Cell:
    skill = mark.skill(probe, factor)
    note = "" if skill is None else f"skill {_skill(skill)}"
    return _heat(skill, note)._replace(text=words.number(mark.accuracy(probe, factor)))


def costs(mark: Measured) -> Table:
    """Time and memory, one row per length."""
    cost = lambda key, item: quantity(key, item[1].get(key))
    group = lambda key: "time" if key.endswith("_s") else "memory"
    columns = {Number(name, group(key)): functools.partial(cost, key) for key, name in COSTS.items()}
    length = {Column("length"): lambda item: words.count(int(item[0]))}
    return table("Time and memory", mark.tree["costs"].items(), length | columns)


def quantity(key: str, value: float | None) -> str:
    """`1.5 ms`, `20 MiB`."""
    if value is None or not math.isfinite(value):
        return words.NONE
    if key.endswith("_s"):
        size, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms")) if value >= 0.9995 * s), (1e-6, "µs"))
    else:
        size, unit = next(((2**p, u) for p, u in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if value >= 2**p), (1, "B"))
    return f"{words.three(value / size)}\u00a0{unit}"


def _heat(skill: float | None, note: str = "") -> Cell:
    """A skill, shaded by its value."""
    return Cell(_skill(skill), note, "" if skill is None else f"heat{round(10 * min(max(skill, 0), 1))}")


def _skill(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.2f}"


def _sizes(data: dict) -> str:
    return ", ".join(f"{key} {words.value(value)}" for key, value in data.items() if key != "name")


def _spread(score: dict | None) -> str:
    several = score is not None and len(score["accuracy"]) > 1
    return f"{min(score['accuracy']):.3f} to {max(score['accuracy']):.3f}" if several else ""


def _rates(record: dict) -> Cell:
    peak = words.NONE if record["peak"] is None else f"{record['peak']:g}"
    return Cell(peak, ", ".join(f"{peak}: {words.number(value)}" for peak, value in record["rates"].items()))
