"""The pages of fingerprints: one per mixer, and one of all side by side."""

import json
from pathlib import Path

from seqjax.report import differences, output
from seqjax.report.document import Commands, Figure, Fold, Header, Section, Text
from seqjax.report.fingerprint import figures, sentences, tables
from seqjax.report.fingerprint.measured import Measured, factors, probes, read, title


def write(workdir: Path, trees: list[dict]) -> Path:
    """Writes `<mixer>.html` and `.md` for each fingerprint, and `index.html` and `.md` of all; returns index.html.

    The same fingerprints always give the same bytes. Raises WorkdirError if a fingerprint is incomplete.
    """
    marks = read(trees)
    for mark in marks:
        output.pages(Path(workdir), mark.name, f"Fingerprint of {mark.name}", one(mark))
    return output.pages(Path(workdir), "index", "Fingerprints", together(marks))


def one(mark: Measured) -> list:
    """The page of one mixer."""
    longer = figures.lengths(mark)
    caption = "Test accuracy" + "; skill at multiples of the trained length (dashed: chance)" * bool(longer) + "."
    configs = [differences.whole(f"{title(p)}: the whole config", of["config"]) for p, of in mark.probes.items()]
    return [
        Header(f"Fingerprint of {mark.name}", sentences.headline(mark), sentences.notes(mark)),
        Figure([figures.dots(mark), longer], caption, large=True),
        Section("Probes", [tables.scores(mark)]),
        Section("Time and memory", [Figure(figures.costs(mark), large=True), _timed([mark]), tables.costs(mark)]),
        Section("Configs", configs),
        Section("Run it again, in the folder of this page", [Commands(sentences.commands(mark))]),
        Section("How it ran", [_machines([mark])]),
    ]


def together(marks: list[Measured]) -> list:
    """The page of all mixers."""
    scores = [tables.side_by_side(marks, f) for f in sorted({f for p in probes(marks) for f in factors(marks, p)})]
    caption = "Skill against length, in multiples of the trained length. Dashed: chance."
    costs = [Fold(mark.name, [tables.costs(mark)]) for mark in marks]
    return [
        Header("Fingerprints", notes=_notes(marks)),
        *(Section(table.caption, [table]) for table in scores),
        Section("Longer than trained", [Figure(figures.multiples(marks), caption, marks)]),
        Section("Time and memory", [Figure(figures.costs_together(marks), legend=marks), _timed(marks), *costs]),
        Section("How they ran", [_machines(marks)]),
    ]


def _notes(marks: list[Measured]) -> list[str]:
    """One sentence per mixer, and a warning if their numbers are not comparable."""
    lines = [sentences.headline(mark) for mark in marks]
    if len({mark.tree["tier"] for mark in marks}) > 1:
        tiers = ", ".join(f"{mark.name} {mark.tree['tier']}" for mark in marks)
        lines.append(f"The tiers differ, so the probes are not the same: {tiers}.")
    if len({json.dumps(mark.tree["hardware"], sort_keys=True) for mark in marks}) > 1:
        lines.append("The hardware differs, so times are not comparable.")
    return lines


def _timed(marks: list[Measured]) -> Text:
    """How time and memory were measured."""
    ways = dict.fromkeys((mark.tree["rows"], mark.tree["hardware"]["device_kind"]) for mark in marks)
    sentence = (
        "Model size as in the probes, batch size {}, {}. Times are medians; temporaries are from XLA's memory "
        "analysis; the state is that of one row."
    )
    return Text(" ".join(sentence.format(*way) for way in ways), soft=True)


def _machines(marks: list[Measured]) -> Fold:
    trees = [mark.tree for mark in marks]
    return differences.machines([(t["name"], t["hardware"], t["versions"], t.get("git")) for t in trees])
