"""Writes the report of a sweep: the best trial, the importance of parameters, every trial, and errors."""

import csv
import io
import shlex
from pathlib import Path

from seqjax.report import elements, markdown, sweep_figures, words
from seqjax.report.page import page
from seqjax.report.tables import Cell, Column, Row, Table
from seqjax.search._records import Record, Summary
from seqjax.training import files


def write(summary: Summary) -> Path:
    """Writes `sweep.html`, `sweep.md` and `trials.csv` into the folder of the sweep; returns the path of the page.

    The same trials always give the same bytes.

    Raises:
      WorkdirError: the folder cannot be written.
    """
    texts = {"trials.csv": rows(summary), "sweep.md": document(summary), "sweep.html": html(summary)}
    for name, text in texts.items():
        files.write(summary.folder / name, text.encode())
    return summary.folder / "sweep.html"


def headline(summary: Summary) -> str:
    """The best trial, in one line."""
    best = summary.best
    if best is None:
        return "No trial is done yet."
    order = "highest" if summary.way == "more" else "lowest"
    spread = f" ± {words.number(best.spread)}" if best.spread is not None else ""
    what = f"validation {summary.monitor.replace('_', ' ')}"
    values = words.listed([f"{name}\u00a0=\u00a0{_param(value)}" for name, value in best.params.items()])
    return f"Trial {best.number} has the {order} {what}, {words.number(best.value)}{spread}: {values}."


def notes(summary: Summary) -> list[str]:
    """Notes on how the trials were drawn, how they ended, and how reliable the numbers are."""
    ends = [f"{n} {status}" for status in ("done", "pruned", "failed", "running") if (n := _count(summary, status))]
    means = any(record.spread is not None for record in summary.records)
    out = [
        f"{words.counted(len(summary.records), 'trial')}: {', '.join(ends) or 'none yet'}. Search: {summary.how}.",
        "The best trial was chosen on validation, so its score is too optimistic: judge it on the test split, which no "
        "trial used.",
    ]
    if means:
        out.append("± is the standard deviation over the runs of a trial; their training data overlap.")
    else:
        out.append("One run per trial: use --seeds or --folds to know how much of a difference is noise.")
    return out


def _count(summary: Summary, status: str) -> int:
    return sum(record.status == status for record in summary.records)


def trials(summary: Summary) -> Table:
    """Every trial, in order."""
    names = summary.params
    columns = [Column("trial"), *(Column(name, number=True) for name in names)]
    columns += [
        Column(words.metric(summary.monitor, summary.way), number=True),
        Column("time", number=True),
        Column("status"),
    ]
    columns += [Column("error")] * any(record.error for record in summary.records)
    best = summary.best
    return Table("Trials", columns, [_row(record, names, record == best, columns) for record in summary.records])


def _row(record: Record, names: list[str], best: bool, columns: list[Column]) -> Row:
    spread = f"± {words.number(record.spread)}" if record.spread is not None else ""
    cells = [
        Cell(str(record.number)),
        *(Cell(_param(record.params[name]) if name in record.params else "") for name in names),
        Cell(words.number(record.value), spread, "best" if best else ""),
        Cell(words.seconds(record.seconds)),
        Cell(record.status, mark="failed" if record.status == "failed" else ""),
    ]
    return Row(cells + [Cell(record.error or "")] * (len(columns) - len(cells)))


def _param(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else words.value(value)


def shares(summary: Summary) -> Table:
    """Parameters by importance."""
    columns = [Column("parameter"), Column("importance", number=True)]
    return Table("Importance", columns, [Row([Cell(k), Cell(words.number(v))]) for k, v in summary.importances.items()])


IMPORTANCE = (
    "The share of the variance over trials that a single parameter explains (fANOVA, Hutter et al. 2014). It includes "
    "only parameters that every trial has. With few trials it is a rough estimate."
)


def train(summary: Summary) -> str:
    """The shell command that trains the best config."""
    best, new = (shlex.quote(str(summary.folder / name)) for name in ("best.json", "best"))
    return f"seqjax train --config {best} --workdir {new}"


def html(summary: Summary) -> str:
    """Renders the self-contained page."""
    text = elements.text
    listed = "".join(f"<li>{text(note)}</li>" for note in notes(summary))
    body = [
        f"<header>\n<h1>{text(f'Sweep: {summary.problem}')}</h1>",
        f'<p class="headline">{text(headline(summary))}</p>\n<ul class="notes">{listed}</ul>\n</header>',
    ]
    marks = [f"{word} ({mark})" for word, mark in (("pruned", "|"), ("failed", "x")) if _count(summary, word)]
    edge = f" Marks at the edge: {words.listed(marks)}." if marks else ""
    caption = f"Dots: trials that are done. Line: the best value so far.{edge}"
    body.append(_figure([sweep_figures.history(summary), sweep_figures.curves(summary)], caption, "two"))
    if summary.importances:
        body.append(elements.section("What mattered", _figure([sweep_figures.importances(summary)], IMPORTANCE)))
    caption = "Each dot is a trial that is done; the ring is the best. The other parameters differ between trials, too."
    if slices := sweep_figures.slices(summary):
        body.append(elements.section("Parameter by parameter", _figure(slices, caption)))
    body.append(elements.section("Trials", elements.table(trials(summary))))
    if summary.best:
        command = f'<div class="command"><pre><code>{text(train(summary))}</code></pre></div>'
        body.append(elements.section("Train the best", command))
    return page(text(f"Sweep: {summary.problem}"), "\n".join(body))


def _figure(panels: list[str | None], caption: str, kind: str = "") -> str:
    drawn = "\n".join(filter(None, panels))
    if not drawn:
        return ""
    caption = elements.text(caption)
    return f'<figure>\n<div class="panels {kind}">\n{drawn}\n</div>\n<figcaption>{caption}</figcaption>\n</figure>'


def document(summary: Summary) -> str:
    """Renders the same content as markdown, without figures."""
    text = markdown.text
    parts = [f"# {text(f'Sweep: {summary.problem}')}", f"**{text(headline(summary))}**"]
    parts.append("\n".join(f"- {text(note)}" for note in notes(summary)))
    if summary.importances:
        parts += ["## What mattered", text(IMPORTANCE), markdown.table(shares(summary))]
    parts += ["## Trials", markdown.table(trials(summary))]
    if summary.best:
        parts += ["## Train the best", markdown.fence(train(summary), "sh")]
    return "\n\n".join(parts) + "\n"


def rows(summary: Summary) -> str:
    """Every trial as a row of csv; a cell is empty if a trial lacks its value."""
    out = io.StringIO()
    names = ("number", "status", "value", "spread", "seconds", "error")
    writer = csv.DictWriter(out, [*names, *summary.params], lineterminator="\n")
    writer.writeheader()
    for record in summary.records:
        writer.writerow({name: getattr(record, name) for name in names} | record.params)
    return out.getvalue()
