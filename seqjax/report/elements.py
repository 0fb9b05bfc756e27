"""HTML elements of a page: escaped text, sections, tables, figures with legends."""

import html
import itertools
import re

from seqjax.report import canvas, words
from seqjax.report.tables import Cell, Column, Row, Table


def text(value: str) -> str:
    """Escapes text for HTML."""
    return html.escape(words.clean(value), quote=True)


def section(title: str, content: str) -> str:
    """A section: a heading with HTML under it."""
    return f"<section>\n<h2>{text(title)}</h2>\n{content}\n</section>"


def swatch(index: int) -> str:
    """A short piece of the line of a run, for legends and tables."""
    colour, dash, marker = canvas.style(index)
    dashes = f' stroke-dasharray="{" ".join(str(2 * d) for d in dash)}"' if dash else ""
    return (
        f'<svg class="swatch" viewBox="0 0 42 14" aria-hidden="true" fill="{colour}">'
        f'<path d="M0 7H42" stroke="{colour}" stroke-width="3.4"{dashes}/>{_MARKERS[marker]}</svg>'
    )


_MARKERS = {
    "o": '<circle cx="21" cy="7" r="5"/>',
    "s": '<path d="M16 2h10v10h-10z"/>',
    "D": '<path d="M21 0l7 7l-7 7l-7-7z"/>',
    "^": '<path d="M21 1l6 11h-12z"/>',
    "v": '<path d="M21 13l6-11h-12z"/>',
    "P": '<path d="M19 1h4v4h4v4h-4v4h-4v-4h-4v-4h4z"/>',
    "X": '<path d="M16 0l5 4.5l5-4.5l2 2l-4.5 5l4.5 5l-2 2l-5-4.5l-5 4.5l-2-2l4.5-5l-4.5-5z"/>',
}


def figure(panels: list[str], runs: list, caption: str, kind: str = "") -> str:
    """SVGs side by side under one legend; `runs` are objects with a name and an index."""
    names = "".join(f"<li>{swatch(run.index)}{text(run.name)}</li>" for run in runs)
    return (
        f'<figure>\n<ul class="legend" aria-label="Legend">{names}</ul>\n<div class="panels {kind}">\n'
        + "\n".join(panels)
        + f"\n</div>\n<figcaption>{text(caption)}</figcaption>\n</figure>"
    )


def table(content: Table, kind: str = "") -> str:
    """An accessible table with a caption and scoped headings; the first cell of a row is its heading."""
    groups = [(name, list(members)) for name, members in itertools.groupby(content.columns, key=lambda c: c.group)]
    top, bottom = "", ""
    for name, members in groups:
        if name:
            top += f'<th scope="colgroup" colspan="{len(members)}"><span>{text(name)}</span></th>'
            bottom += "".join(_heading(column) for column in members)
        else:
            top += "".join(_heading(column, any(name for name, _ in groups)) for column in members)
    head = f"<tr>{top}</tr>" + (f"<tr>{bottom}</tr>" if bottom else "")
    rows, before = "", None
    for row in content.rows:
        rows += _row(row, content.columns, before)
        before = row
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(content.caption)}">\n'
        f'<table class="{kind}">\n<caption>{text(content.caption)}</caption>\n<thead>{head}</thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n</div>"
    )


def _heading(column: Column, tall: bool = False) -> str:
    number = ' class="n"' if column.number else ""
    span = ' rowspan="2"' if tall else ""
    line = "" if column.run is None else swatch(column.run)
    name = re.sub(r"(?<=[a-z_)])(?=[.(][a-z])", "<wbr>", text(column.name))  # model.mixer(attention).heads may wrap
    return f'<th scope="col"{number}{span}>{line}{name}</th>'


def _row(row: Row, columns: list[Column], before: Row | None) -> str:
    baseline = row.run is None and any(column.group for column in columns)
    kind = ""
    if baseline:
        kind = ' class="baseline first"' if before and before.run is not None else ' class="baseline"'
    line = "" if row.run is None else swatch(row.run)
    cells = f'<th scope="row">{line}{text(row.cells[0].text)}</th>'
    cells += "".join(_cell(cell, column) for cell, column in zip(row.cells[1:], columns[1:], strict=True))
    return f"<tr{kind}>{cells}</tr>\n"


def _cell(cell: Cell, column: Column) -> str:
    kinds = " ".join(filter(None, ["n" if column.number else "", cell.mark]))
    note = f"<small>{text(cell.note)}</small>" if cell.note else ""
    return f"<td{f' class={chr(34)}{kinds}{chr(34)}' if kinds else ''}>{text(cell.text)}{note}</td>"


def fold(title: str, content: str, kind: str = "") -> str:
    """A title that unfolds the content under it."""
    return f'<details class="{kind}">\n<summary>{text(title)}</summary>\n{content}\n</details>'
