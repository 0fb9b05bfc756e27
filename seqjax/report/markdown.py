"""Renders a page as markdown, without figures."""

import re
from collections.abc import Sequence

from seqjax.report import document, html, words


def page(elements: Sequence) -> str:
    """The whole document."""
    return Markdown().join(elements) + "\n"


def text(value: str) -> str:
    """Escapes text for markdown and puts it on one line."""
    value = " ".join(words.clean(value).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", value.replace("&", "&amp;"))


def fence(value: str, language: str) -> str:
    """A code block whose fence is longer than any fence in the text."""
    ticks = "`" * (1 + max([2, *map(len, re.findall("`+", value))]))
    return f"{ticks}{language}\n{words.clean(value)}\n{ticks}"


class Markdown(document.Renderer):
    """Elements as markdown."""

    between = "\n\n"

    def header(self, element: document.Header) -> str:
        headline = f"**{text(element.headline)}**" if element.headline else ""
        notes = "\n".join(f"- {text(note)}" for note in element.notes)
        return "\n\n".join(filter(None, [f"{'#' * element.level} {text(element.title)}", headline, notes]))

    def section(self, element: document.Section) -> str:
        content = self.join(element.elements)
        return content and f"## {text(element.title)}\n\n{content}"

    def fold(self, element: document.Fold) -> str:
        content = self.join(element.elements)
        title = html.text(" ".join(element.title.split()))
        return content and f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"

    def text(self, element: document.Text) -> str:
        return text(element.text)

    def code(self, element: document.Code) -> str:
        return fence(element.text, element.language)

    def commands(self, element: document.Commands) -> str:
        return fence("\n".join(element.lines), "sh") if element.lines else ""

    def sample(self, element: document.Sample) -> str:
        how = f"{text(element.how)}\n\n" if element.how else ""
        return how + fence(element.prompt + element.text, "text")

    def beside(self, element: document.Beside) -> str:
        return "\n\n".join(f"### {text(of.name)}\n\n{self.join(elements)}" for of, elements in element.columns)

    def figure(self, element: document.Figure) -> str:
        return ""

    def table(self, element: document.Table) -> str:
        heads = [" ".join(filter(None, [c.group, c.name])) for c in element.columns]
        lines = [map(text, heads), ("---:" if c.number else "---" for c in element.columns)]
        lines += [map(_cell, row.cells) for row in element.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: document.Cell) -> str:
    shown = f"**{text(cell.text)}**" if cell.mark == "best" else text(cell.text)
    return f"{shown} ({text(cell.note)})" if cell.note else shown
