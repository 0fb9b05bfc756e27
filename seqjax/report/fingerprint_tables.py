"""Fingerprints as tables, which HTML and markdown render."""

import dataclasses
import math

from seqjax.report import words
from seqjax.report.fingerprint_measured import Measured, factors, probes, title
from seqjax.report.tables import Cell, Column, Row, Table

COSTS = {
    "train_s": "training step",
    "prefill_s": "prefill",
    "decode_s": "decoding one token",
    "train_bytes": "temporaries of a training step",
    "prefill_bytes": "temporaries of prefill",
    "state_bytes": "state",
}


@dataclasses.dataclass(frozen=True)
class Heat(Cell):
    """A shaded cell: `heat0` is chance, `heat10` is perfect."""

    mark: str = ""


def scores(mark: Measured) -> Table:
    """One row per probe."""
    far = sorted({f for probe in mark.probes for f in factors([mark], probe)} - {1})
    columns = [
        Column("probe"),
        Column("asks for"),
        Column("chance", number=True),
        Column("accuracy", number=True),
        Column("skill", number=True),
        *(Column(f"{f}x", "skill at longer lengths", number=True) for f in far),
        Column("learning rate (validation loss)", number=True),
        Column("steps", number=True),
    ]
    rows = []
    for i, (name, record) in enumerate(mark.probes.items()):
        score, skill = mark.score(name, 1), mark.skill(name)
        cells = [
            Cell(title(name), _sizes(record["data"])),
            Cell(record["about"]),
            Cell(words.number(score and score["chance"])),
            Cell(words.number(mark.accuracy(name)), _spread(score)),
            _heat(_skill(skill), "", skill),
            *(_heat(_skill(mark.skill(name, f)), _why(record, f), mark.skill(name, f)) for f in far),
            Cell(words.NONE if record["peak"] is None else f"{record['peak']:g}", _rates(record)),
            Cell(words.count(record["steps"])),
        ]
        rows.append(Row(cells, i))
    return Table("Probes", columns, rows)


def side_by_side(marks: list[Measured], factor: int = 1) -> Table:
    """Accuracy of mixers by probes, shaded by skill, at a multiple of the trained length."""
    names = [p for p in probes(marks) if factor in factors(marks, p)]
    columns = [Column("mixer"), *(Column(title(p), number=True) for p in names)]
    rows = []
    for mark in marks:
        cells = [Cell(mark.name, f"{words.count(mark.tree['parameters'])} parameters")]
        for name in names:
            skill = mark.skill(name, factor)
            note = "" if skill is None else f"skill {_skill(skill)}"
            cells.append(_heat(words.number(mark.accuracy(name, factor)), note, skill))
        rows.append(Row(cells, mark.index))
    chances = [next((m.score(p, factor)["chance"] for m in marks if m.score(p, factor)), None) for p in names]
    rows.append(Row([Cell("chance"), *(Cell(words.number(c)) for c in chances)]))
    where = "the trained length" if factor == 1 else f"{factor} times the trained length"
    return Table(f"Accuracy at {where}", columns, rows)


def costs(mark: Measured) -> Table:
    """Time and memory, one row per length."""
    columns = [Column("length")]
    columns += [Column(name, "time" if k.endswith("_s") else "memory", number=True) for k, name in COSTS.items()]
    rows = [
        Row([Cell(words.count(int(length))), *(Cell(quantity(key, cost.get(key))) for key in COSTS)])
        for length, cost in mark.tree["costs"].items()
    ]
    return Table("Time and memory", columns, rows)


def quantity(key: str, value: float | None) -> str:
    """`1.5 ms`, `20 MiB`."""
    if value is None or not math.isfinite(value):
        return words.NONE
    if key.endswith("_s"):
        size, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms")) if value >= 0.9995 * s), (1e-6, "µs"))
    else:
        size, unit = next(((2**p, u) for p, u in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if value >= 2**p), (1, "B"))
    return f"{words.three(value / size)}\u00a0{unit}"


def machines(marks: list[Measured]) -> Table:
    """Hardware and versions, one column per mixer."""
    facts = [{**m.tree["hardware"], **m.tree["versions"], "git": m.tree.get("git") or words.NONE} for m in marks]
    rows = [
        Row([Cell(key.replace("_", " ")), *(Cell(words.value(fact.get(key, words.NONE))) for fact in facts)])
        for key in dict.fromkeys(key for fact in facts for key in fact)
    ]
    return Table("Hardware and versions", [Column(""), *(Column(m.name, run=m.index) for m in marks)], rows)


def _heat(text: str, note: str, skill: float | None) -> Heat:
    return Heat(text, note, "" if skill is None else f"heat{round(10 * min(max(skill, 0), 1))}")


def _skill(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.2f}"


def _sizes(data: dict) -> str:
    return ", ".join(f"{key} {words.value(value)}" for key, value in data.items() if key != "name")


def _spread(score: dict | None) -> str:
    several = score is not None and len(score["accuracy"]) > 1
    return f"{min(score['accuracy']):.3f} to {max(score['accuracy']):.3f}" if several else ""


def _why(record: dict, factor: int) -> str:
    return next((s.get("error", "") for s in record["scores"] if s["factor"] == factor), "")


def _rates(record: dict) -> str:
    return ", ".join(f"{peak}: {words.number(value)}" for peak, value in record["rates"].items())
