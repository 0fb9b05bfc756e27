"""A page of a report as a list of elements, which `html` and `markdown` render: a new page is one function.

    def page(run) -> list:
        return [
            Header(run.name, f"{run.name} is done."),
            Section("Loss", [Figure([svg], "Loss against step."), table("Loss", run.rows, {Column("step"): step_of})]),
            Section("Run it again", [Commands(["seqjax train ..."])]),
        ]

    output.pages(folder, "report", "gru on copy", page(run))     # writes report.html and report.md

All text is plain: the renderers escape it. Markdown has no figures. A figure without panels is left out, and so is a
section or a fold without content.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


class Header(NamedTuple):
    """The title of a page or of a part of it, its outcome in one line, and notes. `level` 1: the title of the page."""

    title: str
    headline: str = ""
    notes: Sequence[str] = ()
    level: int = 1


class Section(NamedTuple):
    """A heading with elements under it."""

    title: str
    elements: Sequence


class Fold(NamedTuple):
    """A title that unfolds the elements under it."""

    title: str
    elements: Sequence


class Text(NamedTuple):
    """A paragraph. `soft`: smaller, as under a figure."""

    text: str
    soft: bool = False


class Figure(NamedTuple):
    """SVGs side by side. `legend`: objects with a name and an index, which decides how their lines are drawn."""

    panels: Sequence[str | None]
    caption: str = ""
    legend: Sequence = ()
    large: bool = False


class Code(NamedTuple):
    """A block of code."""

    text: str
    language: str


class Commands(NamedTuple):
    """Shell commands, one per line."""

    lines: Sequence[str]


class Sample(NamedTuple):
    """A generated text after its prompt; `how` it was drawn."""

    prompt: str
    text: str
    how: str = ""


class Beside(NamedTuple):
    """Columns side by side: (an object with a name and an index, its elements)."""

    columns: Sequence[tuple[Any, Sequence]]


class Cell(NamedTuple):
    """A value, a smaller note under it, and a mark.

    Marks: "best", "failed"; for a baseline "beaten", "unbeaten" by the runs; "heat0" (chance, or a probability of 0) to
    "heat10" (perfect, or 1).
    """

    text: str
    note: str = ""
    mark: str = ""


class Column(NamedTuple):
    """A heading, under a shared heading `group`; `run` is the index of the run that the column belongs to."""

    name: str
    group: str = ""
    number: bool = False
    run: int | None = None


Number = functools.partial(Column, number=True)


class Row(NamedTuple):
    """Cells; the first one names the row. `run` is the index of the run of the row, None for a baseline."""

    cells: list[Cell]
    run: int | None = None


class Table(NamedTuple):
    """A caption, columns and rows. `wide`: as wide as the page."""

    caption: str
    columns: list[Column]
    rows: list[Row]
    wide: bool = False


class Renderer:
    """Writes elements as text. A subclass has a method for each kind of element, and the text `between` two of them."""

    between: str

    def join(self, elements: Sequence) -> str:
        """The text of elements, one after the other; those without content are left out."""
        return self.between.join(filter(None, map(self.render, elements)))

    def render(self, element) -> str:
        """The text of one element; "" if it has no content."""
        method = getattr(self, type(element).__name__.lower(), None)
        if method is None:
            raise TypeError(f"got {element!r}, wanted an element of seqjax.report.document.")
        return method(element)


def row(*cells: Cell | str, run: int | None = None) -> Row:
    """A row whose cells may be plain text."""
    return Row([cell if isinstance(cell, Cell) else Cell(cell) for cell in cells], run)


def table(
    caption: str,
    items: Iterable,
    columns: dict[Column, Callable[[Any], Cell | str]],
    run: Callable[[Any], int | None] = lambda item: None,
    wide: bool = False,
) -> Table:
    """A table with one row per item. `columns`: column -> the cell of an item; `run`: the index of an item's run."""
    rows = [row(*(of(item) for of in columns.values()), run=run(item)) for item in items]
    return Table(caption, list(columns), rows, wide)
