"""Renders a page as one self-contained HTML document."""

import html
import itertools
import re
from collections.abc import Sequence

from seqjax.report import canvas, document, words
from seqjax.report.style import PAGE, STYLE


def page(title: str, elements: Sequence) -> str:
    """The whole document."""
    return PAGE.substitute(title=text(title), style=STYLE, body=Html().join(elements))


def text(value: str) -> str:
    """Escapes text for HTML."""
    return html.escape(words.clean(value), quote=True)


class Html(document.Renderer):
    """Elements as HTML."""

    between = "\n"

    def header(self, element: document.Header) -> str:
        heading = f"<h{element.level}>{text(element.title)}</h{element.level}>"
        headline = f'<p class="headline">{text(element.headline)}</p>\n' if element.headline else ""
        notes = "".join(f"<li>{text(note)}</li>" for note in element.notes)
        listed = f'<ul class="notes">{notes}</ul>\n' if notes else ""
        return f"<header>\n{heading}\n{headline}{listed}</header>"

    def section(self, element: document.Section) -> str:
        content = self.join(element.elements)
        return content and f"<section>\n<h2>{text(element.title)}</h2>\n{content}\n</section>"

    def fold(self, element: document.Fold) -> str:
        content = self.join(element.elements)
        return content and f"<details>\n<summary>{text(element.title)}</summary>\n<div>{content}</div>\n</details>"

    def text(self, element: document.Text) -> str:
        kind = ' class="soft"' if element.soft else ""
        return f"<p{kind}>{text(element.text)}</p>"

    def code(self, element: document.Code) -> str:
        return f"<pre>{text(element.text)}</pre>"

    def commands(self, element: document.Commands) -> str:
        return "\n".join(f'<div class="command"><pre><code>{text(line)}</code></pre></div>' for line in element.lines)

    def sample(self, element: document.Sample) -> str:
        how = f"<p>{text(element.how)}</p>" if element.how else ""
        return f'<div class="sample">{how}<pre><b>{text(element.prompt)}</b>{text(element.text)}</pre></div>'

    def beside(self, element: document.Beside) -> str:
        columns = [f"<div>\n<h3>{_named(of)}</h3>\n{self.join(inner)}</div>" for of, inner in element.columns]
        return f'<div class="beside">{"".join(columns)}</div>' if columns else ""

    def figure(self, element: document.Figure) -> str:
        panels = list(filter(None, element.panels))
        if not panels:
            return ""
        names = "".join(f"<li>{_named(of)}</li>" for of in element.legend)
        legend = f'<ul class="legend" aria-label="Legend">{names}</ul>\n' if names else ""
        drawn = "\n".join(panels if len(panels) > 1 else [*panels, "<div></div>"])  # a single panel would fill the page
        kind = "panels large" if element.large else "panels"
        caption = f"<figcaption>{text(element.caption)}</figcaption>\n" if element.caption else ""
        return f'<figure>\n{legend}<div class="{kind}">\n{drawn}\n</div>\n{caption}</figure>'

    def table(self, element: document.Table) -> str:
        """An accessible table with a caption and scoped headings; the first cell of a row is its heading."""
        groups = [(name, list(members)) for name, members in itertools.groupby(element.columns, key=lambda c: c.group)]
        grouped, top, bottom = any(name for name, _ in groups), "", ""
        for name, members in groups:
            if name:
                top += f'<th scope="colgroup" colspan="{len(members)}"><span>{text(name)}</span></th>'
                bottom += "".join(map(_heading, members))
            else:
                top += "".join(_heading(column, tall=grouped) for column in members)
        head = f"<tr>{top}</tr>" + (f"<tr>{bottom}</tr>" if bottom else "")
        pairs = itertools.pairwise([None, *element.rows])
        rows = "".join(_row(row, element.columns, grouped, before) for before, row in pairs)
        caption, kind = text(element.caption), ' class="wide"' if element.wide else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">\n'
            f"<table{kind}>\n<caption>{caption}</caption>\n<thead>{head}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>"
        )


def _heading(column: document.Column, tall: bool = False) -> str:
    number = ' class="n"' if column.number else ""
    span = ' rowspan="2"' if tall else ""
    name = re.sub(r"(?<=[a-z_)])(?=[.(][a-z])", "<wbr>", text(column.name))  # model.mixer(attention).heads may wrap
    return f'<th scope="col"{number}{span}>{_swatch(column.run)}{name}</th>'


def _row(row: document.Row, columns: list[document.Column], grouped: bool, before: document.Row | None) -> str:
    baseline = row.run is None and grouped
    first = baseline and before is not None and before.run is not None
    kind = f' class="baseline{" first" * first}"' if baseline else ""
    cells = f'<th scope="row">{_swatch(row.run)}{_noted(row.cells[0])}</th>'
    cells += "".join(_cell(cell, column) for cell, column in zip(row.cells[1:], columns[1:], strict=True))
    return f"<tr{kind}>{cells}</tr>\n"


def _cell(cell: document.Cell, column: document.Column) -> str:
    kinds = " ".join(filter(None, ["n" if column.number else "", cell.mark]))
    kind = f' class="{kinds}"' if kinds else ""
    return f"<td{kind}>{_noted(cell)}</td>"


def _noted(cell: document.Cell) -> str:
    return text(cell.text) + (f"<small>{text(cell.note)}</small>" if cell.note else "")


def _named(of) -> str:
    """The name of a run after a piece of its line."""
    return _swatch(of.index) + text(of.name)


def _swatch(index: int | None) -> str:
    """A short piece of the line of a run, for legends and tables; "" without a run."""
    if index is None:
        return ""
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
