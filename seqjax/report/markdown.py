"""The report as markdown: the same tables and samples."""

import json
import re

from seqjax.report import outcome, tables, words
from seqjax.report.runs import Run
from seqjax.report.tables import Cell, Table


def render(runs: list[Run]) -> str:
    """The document."""
    parts = []
    for i, (name, group) in enumerate(outcome.problems(runs).items()):
        parts += [f"{'#' if i == 0 else '##'} {_text(name)}", f"**{_text(outcome.headline(group))}**"]
        if notes := outcome.notes(group):
            parts.append("\n".join(f"- {_text(note)}" for note in notes))
        parts.append(_table(tables.results(group)))
    parts += ["## Budget spent", _table(tables.budget(runs))]
    if len(runs) == 1:
        parts += ["## Config", _fence(json.dumps(runs[0].config, indent=2, ensure_ascii=False), "json")]
    else:
        table = tables.differences(runs)
        parts += ["## What differs between the configs", _table(table) if table.rows else "The configs are equal."]
    if any(run.samples for run in runs):
        parts.append("## Samples")
        for run in runs:
            for sample in run.samples:
                title = ", ".join(filter(None, [run.name, words.sampling(sample)]))
                parts += [f"**{_text(title)}**", _fence("".join(words.sample(sample)), "text")]
    parts += ["## Run it again", _fence("\n".join(tables.replay(run) for run in runs), "sh")]
    parts += ["## How it ran", _table(tables.machines(runs))]
    if any(run.info.starts for run in runs):
        parts.append(_table(tables.starts(runs)))
    for run in runs:
        if run.info.parameter_table:
            parts += [f"### Parameters of {_text(run.name)}", _table(tables.parameters(run))]
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """Escaped, and on one line."""
    text = " ".join(words.clean(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", text.replace("&", "&amp;"))


def _fence(text: str, language: str) -> str:
    """A code block, with a fence longer than any in the text."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{words.clean(text)}\n{fence}"


def _table(table: Table) -> str:
    heads = [" ".join(filter(None, [c.group, c.name])) for c in table.columns]
    lines = [map(_text, heads), ("---:" if c.number else "---" for c in table.columns)]
    lines += [map(_cell, row.cells) for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = f"**{_text(cell.text)}**" if cell.mark == "best" else _text(cell.text)
    return f"{text} ({_text(cell.note)})" if cell.note else text
