"""The page about runs: outcome, learning curves, what differs, samples, and how to run them again."""

from seqjax.report import differences, words
from seqjax.report.document import Beside, Column, Commands, Figure, Fold, Header, Sample, Section, Text
from seqjax.report.run import figures, outcome, states, tables
from seqjax.report.runs import Run

OPEN_SAMPLES = 3  # of each run; the rest are folded
LONG = f"Curves of more than {figures.POINTS} values show means over neighbours."


def page(runs: list[Run]) -> list:
    """The elements of the page."""
    groups = outcome.problems(runs).values()
    return [
        *(element for level, group in enumerate(groups, 1) for element in _problem(group, min(level, 2))),
        Section("Speed and optimisation", [Figure(figures.progress(runs), f"As logged while training. {LONG}", runs)]),
        Section("Budget spent", [tables.budget(runs)]),
        _config(runs),
        *(states.section(run) for run in runs if run.states),
        Section("Samples", [Beside([(run, _samples(run)) for run in runs if run.samples])]),
        Section("Run it again", [Commands([words.train(run.folder / "config.json") for run in runs])]),
        Section("How it ran", _ran(runs)),
    ]


def _problem(runs: list[Run], level: int) -> list:
    """Headline, results and learning curves of the runs of one problem."""
    elements = [Header(runs[0].problem, outcome.headline(runs), outcome.notes(runs), level), tables.results(runs)]
    for metric in dict.fromkeys([runs[0].monitor, "loss"]):
        dashed = "Dashed: baselines on the validation split. " * bool(outcome.baselines(runs, "validation", metric))
        caption = (
            f"{metric.replace('_', ' ').capitalize()} against step and against training time. Thin: training. With "
            f"markers: validation. {dashed}{LONG}"
        )
        elements.append(Figure(figures.curves(runs, metric), caption, runs, large=True))
    return elements


def _config(runs: list[Run]) -> Section:
    """The differences between the configs of the runs; for a single run, the whole config, folded."""
    if len(runs) == 1:
        return Section("Config", [differences.whole("The whole config", runs[0].config)])
    table = differences.table([Column(run.name, run=run.index) for run in runs], [run.config for run in runs])
    return Section("What differs between the configs", [table if table.rows else Text("The configs are equal.")])


def _samples(run: Run) -> list:
    shown = [Sample(words.given(sample), sample.text, words.sampling(sample)) for sample in run.samples]
    rest = shown[OPEN_SAMPLES:]
    return [*shown[:OPEN_SAMPLES], Fold(f"{len(rest)} more", rest)]


def _ran(runs: list[Run]) -> list:
    """Machines, starts and parameters, folded because few readers need them."""
    machines = differences.machines([(run.name, run.info.hardware, run.info.versions, run.info.git) for run in runs])
    starts = [tables.starts(runs)] if any(run.info.starts for run in runs) else []
    arrays = [Fold(f"Parameters of {run.name}", [tables.parameters(run)]) for run in runs if run.info.parameter_table]
    tokens = [tables.tokenizers(runs)] if any(run.info.tokenizer for run in runs) else []
    return [machines, *tokens, Fold("Starts, restarts and changes", starts), *arrays]
