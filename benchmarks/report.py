"""The runs of attention against recurrence on all machines, side by side: report.md and report.html.

    python -m benchmarks.report

Reads every `attention_vs_recurrence-*.json` of the folder. One table shows the times of different machines; only ratios
within one machine, and the crossovers, are comparable.
"""

import argparse
import io
import json
from pathlib import Path

from benchmarks import _curves, results, session

NAME = "attention_vs_recurrence"
TITLE = "Attention against recurrence"


def load(folder: Path) -> list[dict]:
    """All runs of a folder, by the names of their files."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{NAME}-*.json"))]


def machines(runs: list[dict]) -> list[list[str]]:
    """The hardware and versions of each run."""
    lines = [["", *map(results.machine, runs)]]
    shown = lambda value: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    for key in runs[0]:
        if key not in ("name", "rows"):
            lines.append([key, *(shown(run.get(key, "")) for run in runs)])
    return lines


def markdown(shown: list) -> str:
    """All tables under one title."""
    return results.markdown({"name": TITLE}, shown)


def page(runs: list[dict], shown: list) -> str:
    """One HTML document: a picture of each run, and the tables."""
    from seqjax.report import html
    from seqjax.report.document import Column, Figure, Header, Section, Table, row

    pictures = [Section(results.machine(run), [Figure([svg(run)], large=True)]) for run in runs]
    cells = lambda line: map(str, line)
    table = lambda caption, head, *lines: Table(
        caption, list(map(Column, cells(head))), [row(*cells(x)) for x in lines]
    )
    tables = [Section(caption, [table(caption, *lines)]) for caption, lines in shown]
    return html.page(TITLE, [Header(TITLE), *pictures, *tables])


def svg(run: dict) -> str:
    """The picture of a run, as SVG for the page."""
    file = io.StringIO()
    _curves.picture(run, file, format="svg")
    text = file.getvalue()
    return text[text.index("<svg") :]


def main(argv: list[str] | None = None) -> None:
    """Parses the options, reads the results and writes the report."""
    parser = argparse.ArgumentParser("python -m benchmarks.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=session.RESULTS, help="folder of the results, and of the report")
    args = parser.parse_args(argv)
    runs = load(args.out)
    if not runs:
        parser.exit(2, f"no {NAME}-*.json here: python -m benchmarks.{NAME} makes one.\n")
    shown = [("Machines", machines(runs)), *_curves.tables(runs)]
    (args.out / "report.md").write_text(markdown(shown))
    (args.out / "report.html").write_text(page(runs, shown))
    print(f"report.md and report.html: {len(runs)} runs")


if __name__ == "__main__":
    main()
