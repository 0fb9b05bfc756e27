"""Renders the report as one self-contained HTML page."""

import json

from seqjax.report import elements, figures, outcome, tables, words
from seqjax.report.page import page
from seqjax.report.runs import Run
from seqjax.training.records import Sample

OPEN_SAMPLES = 3  # of each run; the rest are folded
LONG = f"Curves of more than {figures.POINTS} values show means over neighbours."


def render(runs: list[Run]) -> str:
    """Renders the page."""
    groups = outcome.problems(runs)
    body = [_problem(group, "h1" if i == 0 else "h2") for i, group in enumerate(groups.values())]
    if panels := figures.progress(runs):
        body.append(
            elements.section(
                "Speed and optimisation", elements.figure(panels, runs, f"As logged while training. {LONG}")
            )
        )
    body.append(elements.section("Budget spent", elements.table(tables.budget(runs))))
    body.append(_config(runs))
    if any(run.samples for run in runs):
        columns = "".join(_samples(run) for run in runs if run.samples)
        body.append(elements.section("Samples", f'<div class="samples">{columns}</div>'))
    body.append(elements.section("Run it again", "".join(_command(run) for run in runs)))
    body.append(elements.section("How it ran", _ran(runs)))
    title = f"{', '.join(groups)}: {', '.join(run.name for run in runs)}"
    return page(elements.text(title), "\n".join(body))


def _problem(runs: list[Run], level: str) -> str:
    """Headline, results and learning curves of the runs of one problem."""
    notes = "".join(f"<li>{elements.text(note)}</li>" for note in outcome.notes(runs))
    parts = [
        f"<header>\n<{level}>{elements.text(runs[0].problem)}</{level}>",
        f'<p class="headline">{elements.text(outcome.headline(runs))}</p>',
        f'<ul class="notes">{notes}</ul>' if notes else "",
        "</header>",
        elements.table(tables.results(runs), "wide"),
    ]
    for metric in dict.fromkeys([runs[0].monitor, "loss"]):
        if panels := figures.curves(runs, metric):
            dashed = "Dashed: baselines on the validation split. " * bool(outcome.baselines(runs, "validation", metric))
            caption = (
                f"{metric.replace('_', ' ').capitalize()} against step and against training time. Thin: training. "
                f"With markers: validation. {dashed}{LONG}"
            )
            parts.append(elements.figure(panels, runs, caption, "two"))
    return "<section>\n" + "\n".join(filter(None, parts)) + "\n</section>"


def _config(runs: list[Run]) -> str:
    """The differences between the configs of the runs; for a single run, the whole config, folded."""
    if len(runs) == 1:
        whole = json.dumps(runs[0].config, indent=2, ensure_ascii=False)
        return elements.section("Config", elements.fold("The whole config", f"<pre>{elements.text(whole)}</pre>"))
    table = tables.differences(runs)
    content = elements.table(table) if table.rows else "<p>The configs are equal.</p>"
    return elements.section("What differs between the configs", content)


def _samples(run: Run) -> str:
    shown = [_sample(sample) for sample in run.samples]
    rest = shown[OPEN_SAMPLES:]
    more = elements.fold(f"{len(rest)} more", "".join(rest), "sample-more") if rest else ""
    title = elements.swatch(run.index) + elements.text(run.name)
    return f"<div>\n<h3>{title}</h3>\n{''.join(shown[:OPEN_SAMPLES])}{more}</div>\n"


def _sample(sample: Sample) -> str:
    prompt, text = words.sample(sample)
    how = f"<p>{elements.text(words.sampling(sample))}</p>" if words.sampling(sample) else ""
    return f'<div class="sample">{how}<pre><b>{elements.text(prompt)}</b>{elements.text(text)}</pre></div>\n'


def _command(run: Run) -> str:
    return f'<div class="command"><pre><code>{elements.text(tables.replay(run))}</code></pre></div>\n'


def _ran(runs: list[Run]) -> str:
    """Machines, starts and parameters, folded because few readers need them."""
    parts = [elements.fold("Hardware and versions", elements.table(tables.machines(runs)))]
    if any(run.info.starts for run in runs):
        parts.append(elements.fold("Starts, restarts and changes", elements.table(tables.starts(runs))))
    parts += [
        elements.fold(f"Parameters of {r.name}", elements.table(tables.parameters(r)))
        for r in runs
        if r.info.parameter_table
    ]
    return "\n".join(parts)
