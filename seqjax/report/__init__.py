"""Makes reports of runs: tables, figures, and one self-contained HTML page.

The folders hold one kind of page each: `run`, `compare`, `sweep` and `fingerprint`. See `document` for a new one.
"""

from pathlib import Path

from seqjax.report import output, run
from seqjax.report.run import figures, outcome
from seqjax.report.runs import read_all

__all__ = ["figure", "write"]


def write(folders: list[Path], out: Path) -> Path:
    """Writes `report.html` and `report.md` about run folders into `out`; returns the path of `report.html`.

    The same folders always give the same bytes.

    Raises:
      ConfigError: no folders, a folder given twice, or a config without the keys that every run has.
      WorkdirError: a folder is not a run, has no metrics yet, or has a damaged file; or `out` cannot be written.
    """
    runs = read_all(folders)
    title = f"{', '.join(outcome.problems(runs))}: {', '.join(r.name for r in runs)}"
    return output.pages(Path(out), "report", title, run.page(runs))


def figure(folders: list[Path], path: Path) -> Path:
    """Saves the learning curves of run folders as one SVG for white and dark backgrounds; raises as `write` does."""
    return output.save(Path(path), figures.standalone(read_all(folders)))
