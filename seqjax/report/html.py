"""The report as one HTML page that needs nothing but itself."""

import html
import itertools
import json

from seqjax.report import figures, outcome, tables, words
from seqjax.report.page import page
from seqjax.report.records import Sample
from seqjax.report.runs import Run
from seqjax.report.tables import Cell, Column, Row, Table

OPEN_SAMPLES = 3  # of each run; the rest are folded
LONG = f"Of more than {figures.POINTS} values, means over neighbours are drawn."


def render(runs: list[Run]) -> str:
    """The page."""
    groups = outcome.problems(runs)
    body = [_problem(group, "h1" if i == 0 else "h2") for i, group in enumerate(groups.values())]
    if panels := figures.progress(runs):
        body.append(_section("Speed and optimisation", _figure(panels, runs, f"As logged while training. {LONG}")))
    body.append(_section("Budget spent", _table(tables.budget(runs))))
    body.append(_config(runs))
    if any(run.samples for run in runs):
        columns = "".join(_samples(run) for run in runs if run.samples)
        body.append(_section("Samples", f'<div class="samples">{columns}</div>'))
    body.append(_section("Run it again", "".join(_command(run) for run in runs)))
    body.append(_section("How it ran", _ran(runs)))
    title = f"{', '.join(groups)}: {', '.join(run.name for run in runs)}"
    return page(_text(title), "\n".join(body))


def _text(text: str) -> str:
    return html.escape(words.clean(text), quote=True)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>"


def _problem(runs: list[Run], level: str) -> str:
    """Headline, results and learning curves of the runs that compare."""
    notes = "".join(f"<li>{_text(note)}</li>" for note in outcome.notes(runs))
    parts = [
        f"<header>\n<{level}>{_text(runs[0].problem)}</{level}>",
        f'<p class="headline">{_text(outcome.headline(runs))}</p>',
        f'<ul class="notes">{notes}</ul>' if notes else "",
        "</header>",
        _table(tables.results(runs), "wide"),
    ]
    for metric in dict.fromkeys([runs[0].monitor, "loss"]):
        if panels := figures.curves(runs, metric):
            caption = (
                f"{metric.replace('_', ' ').capitalize()} against step and against training time. Thin: training. "
                f"With markers: validation. Dashed: baselines on the validation split. {LONG}"
            )
            parts.append(_figure(panels, runs, caption, "two"))
    return "<section>\n" + "\n".join(filter(None, parts)) + "\n</section>"


def _swatch(index: int) -> str:
    colour, dash, marker = figures.style(index)
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


def _figure(panels: list[str], runs: list[Run], caption: str, kind: str = "") -> str:
    names = "".join(f"<li>{_swatch(run.index)}{_text(run.name)}</li>" for run in runs)
    return (
        f'<figure>\n<ul class="legend" aria-label="Legend">{names}</ul>\n<div class="panels {kind}">\n'
        + "\n".join(panels)
        + f"\n</div>\n<figcaption>{_text(caption)}</figcaption>\n</figure>"
    )


def _table(table: Table, kind: str = "") -> str:
    """An accessible table: a caption, scoped headings, the first cell of a row as its heading."""
    groups = [(name, list(members)) for name, members in itertools.groupby(table.columns, key=lambda c: c.group)]
    top, bottom = "", ""
    for name, members in groups:
        if name:
            top += f'<th scope="colgroup" colspan="{len(members)}"><span>{_text(name)}</span></th>'
            bottom += "".join(_heading(column) for column in members)
        else:
            top += "".join(_heading(column, any(name for name, _ in groups)) for column in members)
    head = f"<tr>{top}</tr>" + (f"<tr>{bottom}</tr>" if bottom else "")
    rows, before = "", None
    for row in table.rows:
        rows += _row(row, table.columns, before)
        before = row
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(table.caption)}">\n'
        f'<table class="{kind}">\n<caption>{_text(table.caption)}</caption>\n<thead>{head}</thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n</div>"
    )


def _heading(column: Column, tall: bool = False) -> str:
    number = ' class="n"' if column.number else ""
    span = ' rowspan="2"' if tall else ""
    swatch = "" if column.run is None else _swatch(column.run)
    return f'<th scope="col"{number}{span}>{swatch}{_text(column.name)}</th>'


def _row(row: Row, columns: list[Column], before: Row | None) -> str:
    baseline = row.run is None and any(column.group for column in columns)
    kind = ""
    if baseline:
        kind = ' class="baseline first"' if before and before.run is not None else ' class="baseline"'
    swatch = "" if row.run is None else _swatch(row.run)
    cells = f'<th scope="row">{swatch}{_text(row.cells[0].text)}</th>'
    cells += "".join(_cell(cell, column) for cell, column in zip(row.cells[1:], columns[1:], strict=True))
    return f"<tr{kind}>{cells}</tr>\n"


def _cell(cell: Cell, column: Column) -> str:
    kinds = " ".join(filter(None, ["n" if column.number else "", cell.mark]))
    note = f"<small>{_text(cell.note)}</small>" if cell.note else ""
    return f"<td{f' class={chr(34)}{kinds}{chr(34)}' if kinds else ''}>{_text(cell.text)}{note}</td>"


def _fold(title: str, content: str, kind: str = "") -> str:
    return f'<details class="{kind}">\n<summary>{_text(title)}</summary>\n{content}\n</details>'


def _config(runs: list[Run]) -> str:
    """What differs between the runs; of a single run all of it, folded."""
    if len(runs) == 1:
        whole = json.dumps(runs[0].config, indent=2, ensure_ascii=False)
        return _section("Config", _fold("The whole config", f"<pre>{_text(whole)}</pre>"))
    table = tables.differences(runs)
    content = _table(table) if table.rows else "<p>The configs are equal.</p>"
    return _section("What differs between the configs", content)


def _samples(run: Run) -> str:
    shown = [_sample(sample) for sample in run.samples]
    rest = shown[OPEN_SAMPLES:]
    more = _fold(f"{len(rest)} more", "".join(rest), "sample-more") if rest else ""
    return f"<div>\n<h3>{_swatch(run.index)}{_text(run.name)}</h3>\n{''.join(shown[:OPEN_SAMPLES])}{more}</div>\n"


def _sample(sample: Sample) -> str:
    prompt, text = words.sample(sample)
    how = f"<p>{_text(words.sampling(sample))}</p>" if words.sampling(sample) else ""
    return f'<div class="sample">{how}<pre><b>{_text(prompt)}</b>{_text(text)}</pre></div>\n'


def _command(run: Run) -> str:
    return f'<div class="command"><pre><code>{_text(tables.replay(run))}</code></pre></div>\n'


def _ran(runs: list[Run]) -> str:
    """Machines, starts and parameters, folded: who looks for them finds them."""
    parts = [_fold("Hardware and versions", _table(tables.machines(runs)))]
    if any(run.info.starts for run in runs):
        parts.append(_fold("Starts, restarts and changes", _table(tables.starts(runs))))
    parts += [_fold(f"Parameters of {r.name}", _table(tables.parameters(r))) for r in runs if r.info.parameter_table]
    return "\n".join(parts)
