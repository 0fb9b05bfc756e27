"""Describes which run is best: the headline, and notes that a reader needs to judge it. In plain sentences."""

import collections
import json
import math

from seqjax import config, metrics
from seqjax.report import words
from seqjax.report.runs import Run


def problems(runs: list[Run]) -> dict[str, list[Run]]:
    """Groups the runs by problem; only runs of the same problem are comparable."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.problem, []).append(run)
    return groups


def baselines(runs: list[Run], split: str, metric: str) -> dict[str, float]:
    """Name -> value of the baselines; if runs disagree on a baseline, its name includes the names of the runs."""
    found: dict[str, dict[float, list[str]]] = {}
    for run in runs:
        for name, value in run.info.baselines.get(split, {}).get(metric, {}).items():
            if value is not None and math.isfinite(value):
                found.setdefault(name, {}).setdefault(value, []).append(run.name)
    out = {}
    for name, values in found.items():
        for value, owners in values.items():
            out[name if len(values) == 1 else f"{name} ({', '.join(owners)})"] = value
    return out


def winners(runs: list[Run], split: str, metric: str) -> list[Run]:
    """The runs with the best value, several if equal; [] if no value is finite or the better direction is unknown."""
    scores = [run.score(split, metric) for run in runs]
    first = metrics.best(runs[0].way(metric), scores) if runs else None
    return [run for run, score in zip(runs, scores, strict=True) if first is not None and score == first]


def beats(run: Run, split: str, metric: str, baseline: float) -> bool:
    """Whether the run is strictly better than a baseline."""
    score = run.score(split, metric)
    return score is not None and metrics.is_better(run.way(metric), score, baseline)


def judged_on(runs: list[Run]) -> str:
    """The split that decides: test if all runs have up-to-date test results, else validation."""
    known = all(run.score("test", run.monitor) is not None and not run.is_stale("test") for run in runs)
    return "test" if known else "validation"


def headline(runs: list[Run]) -> str:
    """The outcome of one problem in one line: the best run and its score."""
    split, metric = judged_on(runs), runs[0].monitor
    what = f"{split} {metric.replace('_', ' ')}"
    first = winners(runs, split, metric)
    if not first:
        return f"No finite {what} yet."
    score = first[0].score(split, metric)
    names = words.listed([r.name for r in first])
    order = "highest" if runs[0].way(metric) == "more" else "lowest"
    has = "share" if len(first) > 1 else "has"
    alone, best = f"reaches a {what} of {words.number(score)}", f"{has} the {order} {what}, {words.number(score)}"
    text = f"{names} {alone if len(runs) == 1 else best}"
    second = winners([r for r in runs if r not in first], split, metric)
    if second:
        others, value = words.listed([r.name for r in second]), words.number(second[0].score(split, metric))
        text += f", ahead of {others} with {value}"
    return text + "."


def _against_baselines(runs: list[Run]) -> str | None:
    split, metric = judged_on(runs), runs[0].monitor
    first = winners(runs, split, metric)
    known = baselines(runs, split, metric)
    if not first or not known:
        return None
    best = words.listed([run.name for run in first])
    ranked = sorted(known, key=known.get, reverse=runs[0].way(metric) == "more")
    unbeaten = [n for n in ranked if not beats(first[0], split, metric, known[n])]
    if unbeaten:
        names = words.listed([f"{n} ({words.number(known[n])})" for n in unbeaten])
        no = "does not" if len(first) == 1 else "do not"
        are = "is" if len(unbeaten) == 1 else "are"
        return f"{best} {no} beat every baseline on {split}: {names} {are} no worse."
    nearest = f"{ranked[0]} ({words.number(known[ranked[0]])})"
    return f"{best} {'beats' if len(first) == 1 else 'beat'} every baseline on {split}; the nearest is {nearest}."


def notes(runs: list[Run]) -> list[str]:
    """Notes on the outcome of one problem: baselines, single seeds, unequal data, unfinished runs."""
    out = list(filter(None, [_against_baselines(runs)]))
    for section in ("data", "task"):
        trees = [run.config[section] for run in runs]
        keys = sorted({key for tree in trees[1:] for key in config.differences(trees[0], tree)})
        if keys:
            names = words.listed([f"{section}.{key}" for key in keys])
            out.append(f"The problems are not exactly the same: the runs differ in {names}.")
    setting = lambda run: json.dumps({**run.config, "seed": None}, sort_keys=True)
    seeds = collections.defaultdict(set)
    for run in runs:
        seeds[setting(run)].add(run.config.get("seed"))
    single = [run.name for run in runs if len(seeds[setting(run)]) == 1]
    if len(runs) > 1 and single:
        whose = "One seed per setting" if len(single) == len(runs) else f"Only one seed of {words.listed(single)}"
        out.append(f"{whose}: only more seeds can tell whether a difference is more than noise.")
    untested = [run for run in runs if run.score("test", run.monitor) is None]
    if 0 < len(untested) < len(runs):
        names, has = words.listed([run.name for run in untested]), "has" if len(untested) == 1 else "have"
        out.append(f"{names} {has} no test result, so validation decides; `seqjax evaluate --split test` adds it.")
    for run in runs:
        out += [f"{run.name}: {note}" for note in _of_run(run)]
    return out


def _of_run(run: Run) -> list[str]:
    out = []
    if run.status.status not in ("", "done"):
        at = "" if run.status.step is None else f" at step {words.count(run.status.step)}"
        out.append(f"{run.status.status}{at}{f', {run.status.error}' if run.status.error else ''}.")
    for split in run.results:
        if run.is_stale(split):
            step, best = words.count(run.results[split].step), words.count(run.best["step"])
            out.append(
                f"the {split} result is of step {step}, but the best checkpoint is of step {best}: run `seqjax "
                "evaluate` to update it."
            )
    for split, rows in run.metrics.items():
        for key in [run.monitor, *({"loss"} - {run.monitor})]:
            lost = [row["step"] for row in rows if key in row and not math.isfinite(row[key])]
            if lost:
                are = "is" if len(lost) == 1 else "are"
                which = f"{len(lost)} of {len(rows)} {split} values of {key}"
                out.append(f"{which} {are} not finite, first at step {words.count(lost[0])}.")
    if run.torn:
        out.append("the last line of metrics.jsonl is incomplete and was left out.")
    if any(run.folder.glob("metrics.jsonl.damaged*")):
        out.append("damaged rows of metrics.jsonl are left out; the old file is kept as metrics.jsonl.damaged.")
    return out
