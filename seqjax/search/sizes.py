"""Solves the width of every contender of a comparison, and measures its cost."""

import dataclasses
from typing import Any, NamedTuple

from seqjax import config
from seqjax.search._build import Builder
from seqjax.search._display import QUIET, Display
from seqjax.search.match import QUANTITIES, Size, measure, resized, solve
from seqjax.search.plan import Comparison, Entry, fitted
from seqjax.training.experiment import Experiment
from seqjax.training.records import record
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError


class Solved(NamedTuple):
    """A contender at a value with its width solved; `known`: its size, if the folder has it."""

    cell: Entry
    of: str  # digest of the inputs that the size depends on
    matched: float | None
    known: Size | None


def sizes(c: Comparison, workdir: Workdir | None = None, display: Display = QUIET) -> list[tuple[Entry, Size]]:
    """Every contender at every value, with its solved width and its cost; both are stored in `workdir`.

    All models are built and all widths solved before anything is compiled or timed, except for match="step_time".

    Raises:
      ConfigError: contenders cannot be built or matched (the message lists them), or the metric does not exist.
    """
    solved, sized, problems = {}, {}, []
    builder = Builder()
    for value in c.values:
        target = c.target
        for name in sorted(c.contenders, key=lambda name: name != c.target):  # the target first
            try:
                found = solved[name, value] = _solved(c, name, value, target, workdir, builder)
                if name == c.target and c.match == "step_time":
                    target = sized.setdefault((name, value), _measured(found, workdir)).step_seconds
                elif name == c.target:
                    target = QUANTITIES[c.match].of(builder(found.cell.config))
                if target is None and c.match:
                    raise ConfigError("a layer of the target has no state: choose another match.")
            except ConfigError as error:
                problems.append(f"contenders.{name}{'' if value is None else f' at {c.axis}={value}'}: {error}")
                if name == c.target:
                    break
    if problems:
        raise ConfigError("\n".join(problems))
    _check_metrics(c, {value: builder(solved[next(iter(c.contenders)), value].cell.config) for value in c.values})
    display.stage("sizes", len(solved))
    for key, found in solved.items():
        size = sized[key] = sized.get(key) or _measured(found, workdir)
        display.done(f"{found.cell.folder}: {size.parameters:,} parameters, {size.step_seconds * 1e3:.3g} ms per step")
    return [(solved[name, value].cell, sized[name, value]) for value in c.values for name in c.contenders]


def _check_metrics(c: Comparison, at: dict[Any, Experiment]) -> None:
    """Refuses a metric that a task lacks, and values at which other metrics choose the learning rate."""
    for e in at.values():
        if c.metric is not None and c.metric not in e.metrics:
            raise ConfigError(f"metric={c.metric!r} is not a metric; this task has {', '.join(sorted(e.metrics))}.")
    if len(monitors := {e.task.monitor for e in at.values()}) > 1:
        chosen = ", ".join(sorted(monitors))
        raise ConfigError(f"vary: learning rates would be chosen by {chosen}: set one task.monitor in base.")


def _solved(c: Comparison, name: str, value, target, workdir: Workdir | None, builder: Builder) -> Solved:
    """Builds one contender at one value. Its width is solved, or read from `workdir` if it is stored there."""
    tree = fitted(c, name, value, builder)
    cell = Entry(list(c.contenders).index(name), name, c.axis, value, tree)
    match = None if name == c.target else c.match
    of = config.digest({"config": tree, "match": match, "target": match and target, "tolerance": c.tolerance})[:12]
    known = _remembered(cell, of, workdir)
    if match is None:
        matched = 1.0 if name == c.target else None
    elif known is None:
        tree, matched = solve(tree, match, target, c.tolerance, builder)
    else:
        tree, matched = resized(tree, known.width), known.matched
    if known is None:
        builder(tree).shapes  # noqa: B018 some errors appear only when the model is traced
    return Solved(dataclasses.replace(cell, config=tree), of, matched, known)


def _remembered(cell: Entry, of: str, workdir: Workdir | None) -> Size | None:
    entry = None if workdir is None else workdir.read("sizes.json", {}).get(str(cell.folder))
    if not isinstance(entry, dict) or entry.get("of") != of:
        return None
    return record(Size, entry, workdir.path / "sizes.json")


def _measured(found: Solved, workdir: Workdir | None) -> Size:
    """The size of a contender; a new measurement is stored in `workdir`."""
    if found.known:
        return found.known
    size = measure(found.cell.config, found.matched)
    if workdir is not None:
        entry = {"of": found.of, **dataclasses.asdict(size)}
        workdir.write("sizes.json", {**workdir.read("sizes.json", {}), str(found.cell.folder): entry})
    return size
