"""Renders the report as markdown, with the same tables and samples."""

import json
import re

from seqjax.report import outcome, tables, words
from seqjax.report.runs import Run
from seqjax.report.tables import Cell, Table


def render(runs: list[Run]) -> str:
    """Renders the document."""
    parts = []
    for i, (name, group) in enumerate(outcome.problems(runs).items()):
        parts += [f"{'#' if i == 0 else '##'} {text(name)}", f"**{text(outcome.headline(group))}**"]
        if notes := outcome.notes(group):
            parts.append("\n".join(f"- {text(note)}" for note in notes))
        parts.append(table(tables.results(group)))
    parts += ["## Budget spent", table(tables.budget(runs))]
    if len(runs) == 1:
        parts += ["## Config", fence(json.dumps(runs[0].config, indent=2, ensure_ascii=False), "json")]
    else:
        rows = tables.differences(runs)
        parts += ["## What differs between the configs", table(rows) if rows.rows else "The configs are equal."]
    if any(run.samples for run in runs):
        parts.append("## Samples")
        for run in runs:
            for sample in run.samples:
                title = ", ".join(filter(None, [run.name, words.sampling(sample)]))
                parts += [f"**{text(title)}**", fence("".join(words.sample(sample)), "text")]
    parts += ["## Run it again", fence("\n".join(tables.replay(run) for run in runs), "sh")]
    parts += ["## How it ran", table(tables.machines(runs))]
    if any(run.info.starts for run in runs):
        parts.append(table(tables.starts(runs)))
    for run in runs:
        if run.info.parameter_table:
            parts += [f"### Parameters of {text(run.name)}", table(tables.parameters(run))]
    return "\n\n".join(parts) + "\n"


def text(value: str) -> str:
    """Escapes text for markdown and puts it on one line."""
    value = " ".join(words.clean(value).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", value.replace("&", "&amp;"))


def fence(value: str, language: str) -> str:
    """A code block whose fence is longer than any fence in the text."""
    longest = max((len(ticks) for ticks in re.findall("`+", value)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{words.clean(value)}\n{ticks}"


def table(content: Table) -> str:
    """A table with its headings."""
    heads = [" ".join(filter(None, [c.group, c.name])) for c in content.columns]
    lines = [map(text, heads), ("---:" if c.number else "---" for c in content.columns)]
    lines += [map(_cell, row.cells) for row in content.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    shown = f"**{text(cell.text)}**" if cell.mark == "best" else text(cell.text)
    return f"{shown} ({text(cell.note)})" if cell.note else shown
