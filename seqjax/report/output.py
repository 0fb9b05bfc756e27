"""Writes the files of a report: pages as HTML and markdown, tables as csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from seqjax.report import html, markdown
from seqjax.training import files


def pages(folder: Path, name: str, title: str, elements: Sequence) -> Path:
    """Writes a page (see `document`) as `<name>.md` and `<name>.html`; returns the path of the latter."""
    content = html.page(title, elements)
    save(folder / f"{name}.md", markdown.page(elements))
    return save(folder / f"{name}.html", content)


def rows(path: Path, found: Sequence[dict], names: Sequence[str]) -> None:
    """Writes rows as csv; a cell is empty if a row lacks its value."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    save(path, buffer.getvalue())


def save(path: Path, content: str | bytes) -> Path:
    """Writes a file completely or not at all, and makes its folder; returns its path. Raises WorkdirError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.unwritten(path.absolute(), error) from error
    files.write(path.absolute(), content.encode() if isinstance(content, str) else content)
    return path
