"""Makes reports of runs: tables, figures, and one self-contained HTML page."""

from pathlib import Path

from seqjax.report import figures, html, markdown
from seqjax.report.runs import read_all
from seqjax.training import files

__all__ = ["figure", "write"]


def write(folders: list[Path], out: Path) -> Path:
    """Writes `report.html` and `report.md` about run folders into `out`; returns the path of `report.html`.

    The same folders always give the same bytes.

    Raises:
      ConfigError: no folders, a folder given twice, or a config without the keys that every run has.
      WorkdirError: a folder is not a run, has no metrics yet, or has a damaged file; or `out` cannot be written.
    """
    runs = read_all(folders)
    _save(Path(out) / "report.md", markdown.render(runs))
    return _save(Path(out) / "report.html", html.render(runs))


def figure(folders: list[Path], path: Path) -> Path:
    """Saves the learning curves of run folders as one SVG that is readable on white and on dark backgrounds.

    Raises:
      ConfigError, WorkdirError: see `write`.
    """
    return _save(Path(path), figures.standalone(read_all(folders)))


def _save(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.unwritten(path.absolute(), error) from error
    files.write(path.absolute(), text.encode())
    return path
