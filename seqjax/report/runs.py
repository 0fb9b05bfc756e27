"""Reads run folders; errors about damaged files name the path and the line."""

import dataclasses
import functools
import math
import statistics
from pathlib import Path

from seqjax import renamed
from seqjax.metrics import FORMER, Way
from seqjax.metrics import best as best_of
from seqjax.search import trials
from seqjax.training import files
from seqjax.training.records import Info, Result, Sample, Start, States, Status, record
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, WorkdirError


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder. `index` is its position in the report, which decides how its lines are drawn."""

    name: str
    index: int
    folder: Path
    config: dict
    metrics: dict[str, list[dict]]  # split -> rows, steps increasing
    torn: bool  # the last line of metrics.jsonl was cut off
    info: Info
    status: Status
    results: dict[str, Result]
    samples: list[Sample]
    states: list[States]

    @property
    def monitor(self) -> str:
        """The metric by which the run is judged."""
        return self.config["task"]["monitor"]

    def way(self, metric: str) -> Way | None:
        """Which way a metric is better; None if the run does not say."""
        return (self.info.metrics or FORMER).get(metric)

    @property
    def problem(self) -> str:
        """The task, the data and the monitor; only runs of the same problem are compared."""
        return f"{self.config['task']['name']} on {self.config['data']['name']}, judged by {self.monitor}"

    def series(self, split: str, metric: str, against: str) -> tuple[list[float], list[float]]:
        """x and y of a curve; a value that is not finite is a gap (NaN)."""
        rows = [r for r in self.metrics.get(split, []) if metric in r and math.isfinite(r.get(against, math.nan))]
        finite = [r[metric] if math.isfinite(r[metric]) else math.nan for r in rows]
        return [r[against] for r in rows], finite

    def column(self, split: str, key: str) -> list[float]:
        """All finite values of a key."""
        return [r[key] for r in self.metrics.get(split, []) if math.isfinite(r.get(key, math.nan))]

    def median(self, key: str) -> float | None:
        """The median over the training rows; None if no row has a finite value."""
        values = self.column("train", key)
        return statistics.median(values) if values else None

    @functools.cached_property
    def best(self) -> dict | None:
        """The validation row with the best monitored value, the first if several are equal; None if none is finite."""
        return best_of(self.way(self.monitor), self.metrics.get("validation", []), lambda row: row.get(self.monitor))

    @property
    def step(self) -> int:
        """The last known step."""
        return max([self.status.step or 0, *(rows[-1]["step"] for rows in self.metrics.values())])

    @property
    def seconds(self) -> float | None:
        """Training time so far, in seconds."""
        return max((s for split in self.metrics for s in self.column(split, "seconds")), default=None)

    def is_stale(self, split: str) -> bool:
        """Whether the result of a split in `results.json` is not of the best step, for example after more training."""
        step = self.results[split].step if split in self.results else None
        return None not in (step, self.best) and step != self.best["step"]

    def score(self, split: str, metric: str) -> float | None:
        """The score on a split: the best monitored validation value; for all other scores, that in `results.json`."""
        if split == "validation" and metric == self.monitor and self.best:
            return self.best[metric]
        return self.results[split].metrics.get(metric) if split in self.results else None


def read_all(folders: list[Path]) -> list[Run]:
    """Reads run folders; names are the folders' names, with as many parent folders as make them unique."""
    parts = [Path(f).resolve().parts for f in folders]
    if not parts:
        raise ConfigError("no run folders to report on: pass the --workdir of at least one run.")
    if len(set(parts)) < len(parts):
        twice = next(Path(*p) for p in parts if parts.count(p) > 1)
        raise ConfigError(f"{twice} is given more than once: pass every run folder once.")
    depth = 1
    while len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    return [read(Path(f), "/".join(p[-depth:]), i) for i, (f, p) in enumerate(zip(folders, parts, strict=True))]


def read(folder: Path, name: str, index: int) -> Run:
    """Reads one run folder; see `read_all`."""
    workdir = Workdir(folder)
    config = workdir.read("config.json")
    if config is None:
        runs = sorted(p.parent.name for p in folder.glob("*/config.json"))
        fix = f"it holds the runs {', '.join(runs)}: pass those" if runs else "pass the --workdir of a run"
        missing = "has no config.json" if folder.is_dir() else "does not exist"
        raise ConfigError(f"{folder.absolute()} is not a run folder, it {missing}: {fix}.")
    config = renamed.modern(config)
    for section, key in (("data", "name"), ("task", "name"), ("task", "monitor"), ("model", "name")):
        if not isinstance(config.get(section), dict) or not isinstance(config[section].get(key), str):
            raise ConfigError(f"{(folder / 'config.json').absolute()}: {section}.{key} is missing, wanted a string.")
    metrics, torn = trials.history(workdir)
    if not metrics:
        raise WorkdirError(f"{workdir.path} has no metrics yet: wait for its first log line in metrics.jsonl.")
    info = workdir.record("run.json", Info) or Info()
    info = dataclasses.replace(info, starts=[record(Start, s, workdir.path / "run.json") for s in info.starts])
    status = workdir.record("status.json", Status) or Status("", None)
    entries = lambda file, kind: [record(kind, tree, file) for tree in files.read_json(file, list) or []]
    samples, states = entries(workdir.path / "samples.json", Sample), entries(workdir.path / "states.json", States)
    return Run(name, index, folder, config, metrics, torn, info, status, workdir.results(), samples, states)
