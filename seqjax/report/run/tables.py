"""The tables of the report of runs."""

import functools

from seqjax.report import words
from seqjax.report.document import Cell, Column, Number, Table, row, table
from seqjax.report.run import outcome
from seqjax.report.runs import Run


def results(runs: list[Run]) -> Table:
    """One row per run, and below them the baselines on the same split and metric."""
    scores = _scores(runs)
    firsts = {score: outcome.winners(runs, *score) if len(runs) > 1 else [] for score in scores}
    heading = lambda split, metric: Number(words.metric(metric, runs[0].way(metric)), split)
    measured = {heading(*score): functools.partial(_score, *score, firsts[score]) for score in scores}
    columns = {
        Column("run"): lambda run: run.name,
        Column("model"): lambda run: Cell(*words.model(run.config["model"])),
        Number("parameters"): lambda run: words.count(run.info.parameters),
        **measured,
        Number("training time"): lambda run: words.seconds(run.seconds),
        Number("tokens/s"): lambda run: words.count(run.median("tokens_per_s")),
        Column("status"): _status,
    }
    found = table("Results", runs, columns, run=lambda run: run.index, wide=True)
    known = {score: outcome.baselines(runs, *score) for score in scores}
    names = dict.fromkeys(name for values in known.values() for name in values)
    cells = {name: [_baseline(runs, *score, known[score].get(name)) for score in scores] for name in names}
    costs = {name: cost for run in runs for name, cost in run.info.costs.items()}
    size = lambda name: words.count(costs[name]["parameters"]) if name in costs else ""
    time = lambda name: words.seconds(costs[name]["seconds"]) if name in costs else ""
    found.rows.extend(row(name, "baseline", size(name), *values, time(name), "", "") for name, values in cells.items())
    return found


def _status(run: Run) -> Cell:
    failed = "failed" if run.status.status == "failed" else ""
    return Cell(run.status.status or words.NONE, f"step {words.count(run.step)}", failed)


def _scores(runs: list[Run]) -> list[tuple[str, str]]:
    """All (split, metric) that have results: validation first, and in each split the monitored metric first."""
    monitor = runs[0].monitor
    found = {"validation": {monitor: None}}
    for run in runs:
        for split, result in run.results.items():
            found.setdefault(split, {}).update(dict.fromkeys(result.metrics))
    return [(split, m) for split, metrics in found.items() for m in sorted(metrics, key=lambda m: m != monitor)]


def _score(split: str, metric: str, first: list[Run], run: Run) -> Cell:
    note = ""
    if split == "validation" and metric == run.monitor and run.best:
        note = f"best, step {words.count(run.best['step'])}"
    elif split in run.results and run.results[split].step is not None:
        note = f"step {words.count(run.results[split].step)}"
    return Cell(words.number(run.score(split, metric)), note, "best" if run in first else "")


def _baseline(runs: list[Run], split: str, metric: str, value: float | None) -> Cell:
    if value is None:
        return Cell("")
    measured = [run for run in runs if run.score(split, metric) is not None]
    if not measured or runs[0].way(metric) is None:
        return Cell(words.number(value))
    over = [run.name for run in measured if outcome.beats(run, split, metric, value)]
    if len(over) == len(measured):
        whom = "" if len(runs) == 1 else " by all" if measured == runs else f" by all {len(over)}"
        return Cell(words.number(value), f"beaten{whom}", "beaten")
    whom = f"only by {over[0]}" if len(over) == 1 else f"by {len(over)} of {len(measured)}"
    return Cell(words.number(value), f"beaten {whom}" if over else "not beaten", "unbeaten")


def budget(runs: list[Run]) -> Table:
    """The budget that each run has spent: steps, tokens and floating-point operations, for a fair comparison."""
    times = lambda a, b: None if a is None or b is None else a * b
    columns = {
        Column("run"): lambda run: run.name,
        Number("steps"): lambda run: words.count(run.step),
        Number("tokens"): lambda run: words.count(times(run.info.tokens_per_step, run.step)),
        Number("FLOPs per step"): lambda run: words.flops(run.info.flops_per_step),
        Number("FLOPs in total"): lambda run: words.flops(times(run.info.flops_per_step, run.step)),
        Number("FLOPs per second"): lambda run: words.flops(times(run.info.flops_per_step, run.median("steps_per_s"))),
    }
    return table("Budget spent", runs, columns, run=lambda run: run.index)


def tokenizers(runs: list[Run]) -> Table:
    """What the tokenizer of each run makes of each split."""
    columns = {
        Column("run"): lambda of: of[0].name,
        Column("split"): lambda of: of[1],
        Number("tokens per word"): lambda of: words.number(of[2]["tokens_per_word"]),
        Number("bytes per token"): lambda of: words.number(of[2]["bytes_per_token"]),
        Number("unknown tokens"): lambda of: f"{of[2]['unknown']:.2%}",
    }
    splits = [(run, split, rates) for run in runs for split, rates in run.info.tokenizer.items()]
    return table("Tokenizers", splits, columns, run=lambda of: of[0].index)


def starts(runs: list[Run]) -> Table:
    """Every start of every run: the first start, and each resume with its changes."""
    columns = {
        Column("run"): lambda of: of[0].name,
        Column("time"): lambda of: of[1].time.replace("T", " ", 1),
        Number("from step"): lambda of: words.count(of[1].step),
        Column("command"): lambda of: of[1].command,
        Column("changes"): lambda of: "; ".join(_news(of[1])) or words.NONE,
    }
    pairs = [(run, start) for run in runs for start in run.info.starts]
    return table("Starts", pairs, columns, run=lambda of: of[0].index)


def _news(start) -> list[str]:
    """The changes of a start, after the origin of its parameters if they came from another run."""
    origin = [f"parameters of {start.origin.get('run')}, step {start.origin.get('step')}"] if start.origin else []
    return origin + [f"{key}: {_change(value)}" for key, value in start.changes.items()]


def _change(value) -> str:
    """`[old, new]` -> `old → new`."""
    if isinstance(value, list) and len(value) == 2:
        return " → ".join(map(words.value, value))
    return words.value(value)


def parameters(run: Run) -> Table:
    """The shape and size of every array of the model, and the total size."""
    columns = {
        Column("path"): lambda array: array[0],
        Column("shape"): lambda array: " × ".join(map(str, array[1])) or "scalar",
        Number("count"): lambda array: words.count(array[2]),
    }
    found = table(f"Parameters of {run.name}", run.info.parameter_table, columns)
    found.rows.append(row("all", "", words.count(sum(size for *_, size in run.info.parameter_table))))
    return found
