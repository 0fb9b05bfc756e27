"""The page of a sweep: the best trial, the importance of parameters, every trial, and errors."""

import functools
from pathlib import Path

from seqjax.report import output, words
from seqjax.report.document import Cell, Column, Commands, Figure, Header, Number, Section, Table, Text, table
from seqjax.report.sweep import figures
from seqjax.search._records import Record, Summary

FIELDS = ("number", "status", "value", "spread", "seconds", "error")  # of a trial in trials.csv


def write(summary: Summary) -> Path:
    """Writes `sweep.html`, `sweep.md` and `trials.csv` into the folder of the sweep; returns the path of the page.

    The same trials always give the same bytes.
    """
    rows = [{name: getattr(record, name) for name in FIELDS} | record.params for record in summary.records]
    output.rows(summary.folder / "trials.csv", rows, [*FIELDS, *summary.params])
    return output.pages(summary.folder, "sweep", f"Sweep: {summary.problem}", page(summary))


def page(summary: Summary) -> list:
    """The elements of the page."""
    marks = [f"{word} ({mark})" for word, mark in (("pruned", "|"), ("failed", "x")) if _count(summary, word)]
    edge = f" Marks at the edge: {words.listed(marks)}." if marks else ""
    best = f"Dots: trials that are done. Line: the best value so far.{edge}"
    mattered = [Figure([figures.importances(summary)]), shares(summary), Text(IMPORTANCE, soft=True)]
    train = words.train(summary.folder / "best.json", summary.folder / "best")
    return [
        Header(f"Sweep: {summary.problem}", headline(summary), notes(summary)),
        Figure([figures.history(summary), figures.curves(summary)], best, large=True),
        Section("What mattered", mattered if summary.importances else []),
        Section("Parameter by parameter", [Figure(figures.slices(summary), SLICES)]),
        Section("Trials", [trials(summary)]),
        Section("Train the best", [Commands([train] if summary.best else [])]),
    ]


IMPORTANCE = (
    "The share of the variance over trials that a single parameter explains (fANOVA, Hutter et al. 2014). It includes "
    "only parameters that every trial has. With few trials it is a rough estimate."
)
SLICES = "Each dot is a trial that is done; the ring is the best. The other parameters differ between trials, too."


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
    out = [
        f"{words.counted(len(summary.records), 'trial')}: {', '.join(ends) or 'none yet'}. Search: {summary.how}.",
        "The best trial was chosen on validation, so its score is too optimistic: judge it on the test split, which no "
        "trial used.",
    ]
    if any(record.spread is not None for record in summary.records):
        return [*out, "± is the standard deviation over the runs of a trial; their training data overlap."]
    return [*out, "One run per trial: use --seeds or --folds to know how much of a difference is noise."]


def _count(summary: Summary, status: str) -> int:
    return sum(record.status == status for record in summary.records)


def trials(summary: Summary) -> Table:
    """Every trial, in order."""
    param = lambda name, record: _param(record.params[name]) if name in record.params else ""
    errors = {Column("error"): lambda record: record.error or ""}
    columns = {
        Column("trial"): lambda record: str(record.number),
        **{Number(name): functools.partial(param, name) for name in summary.params},
        Number(words.metric(summary.monitor, summary.way)): functools.partial(_value, summary.best),
        Number("time"): lambda record: words.seconds(record.seconds),
        Column("status"): lambda record: Cell(record.status, mark="failed" * (record.status == "failed")),
        **(errors if any(record.error for record in summary.records) else {}),
    }
    return table("Trials", summary.records, columns)


def _value(best: Record | None, record: Record) -> Cell:
    spread = f"± {words.number(record.spread)}" if record.spread is not None else ""
    return Cell(words.number(record.value), spread, "best" * (record == best))


def _param(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else words.value(value)


def shares(summary: Summary) -> Table:
    """Parameters by importance."""
    columns = {Column("parameter"): lambda item: item[0], Number("importance"): lambda item: words.number(item[1])}
    return table("Importance", summary.importances.items(), columns)
