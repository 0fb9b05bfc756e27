"""Reads what a run left in its folder; whatever is unreadable is named with its path and line."""

import dataclasses
import functools
import json
import math
import statistics
from pathlib import Path

from seqjax.metrics import is_better
from seqjax.report.records import Info, Result, Sample, Start, Status
from seqjax.types import ConfigError, WorkdirError, fields_of, mismatch


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder. `index` is its place among those reported, which decides how its lines are drawn."""

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

    @property
    def monitor(self) -> str:
        """The metric by which the run is judged."""
        return self.config["task"]["monitor"]

    @property
    def problem(self) -> str:
        """What was asked of the model; runs are compared with those that have the same."""
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
        """The median over the training rows; None if there are none."""
        values = self.column("train", key)
        return statistics.median(values) if values else None

    @functools.cached_property
    def best(self) -> dict | None:
        """The validation row with the best monitored value, the earliest of equals; None if none is finite."""
        best = None
        for row in self.metrics.get("validation", []):
            if is_better(self.monitor, row.get(self.monitor, math.nan), best and best[self.monitor]):
                best = row
        return best

    @property
    def step(self) -> int:
        """The last step that is known of."""
        return max([self.status.step or 0, *(rows[-1]["step"] for rows in self.metrics.values())])

    @property
    def seconds(self) -> float | None:
        """Training time so far."""
        return max((s for split in self.metrics for s in self.column(split, "seconds")), default=None)

    def is_stale(self, split: str) -> bool:
        """Whether `results.json` has another step of a split than the best, as after more training."""
        step = self.results[split].step if split in self.results else None
        return None not in (step, self.best) and step != self.best["step"]

    def score(self, split: str, metric: str) -> float | None:
        """What counts on a split: the best monitored validation value, and for all else `results.json`."""
        if split == "validation" and metric == self.monitor and self.best:
            return self.best[metric]
        return self.results[split].metrics.get(metric) if split in self.results else None


def read_all(folders: list[Path]) -> list[Run]:
    """Reads run folders; names are the folders' names, with as many parents as it takes to tell them apart.

    Raises:
      ConfigError: no folders, or one of them twice, or one is no run folder.
      WorkdirError: one has no metrics yet, or cannot be read.
    """
    parts = [Path(f).resolve().parts for f in folders]
    if not parts:
        raise ConfigError("no run folders to report on: pass the --workdir of one run or more.")
    if len(set(parts)) < len(parts):
        twice = next(Path(*p) for p in parts if parts.count(p) > 1)
        raise ConfigError(f"{twice} is given more than once: pass every run folder once.")
    depth = 1
    while len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    return [read(Path(f), "/".join(p[-depth:]), i) for i, (f, p) in enumerate(zip(folders, parts, strict=True))]


def read(folder: Path, name: str, index: int) -> Run:
    """Reads one run folder; see `read_all`."""
    if not (folder / "config.json").is_file():
        runs = sorted(p.parent.name for p in folder.glob("*/config.json"))
        fix = f"it holds the runs {', '.join(runs)}: pass those" if runs else "pass the --workdir of a run"
        missing = "has no config.json" if folder.is_dir() else "does not exist"
        raise ConfigError(f"{folder.absolute()} is no run folder, it {missing}; {fix}.")
    config = _json(folder / "config.json", dict, None)
    for section, key in (("data", "name"), ("task", "name"), ("task", "monitor"), ("model", "name")):
        if not isinstance(config.get(section), dict) or not isinstance(config[section].get(key), str):
            raise ConfigError(f"{(folder / 'config.json').absolute()}: {section}.{key} is missing, wanted a string.")
    metrics, torn = _metrics(folder / "metrics.jsonl")
    path = folder / "run.json"
    info = _record(Info, _json(path, dict, {}), path)
    info = dataclasses.replace(info, starts=[_record(Start, s, path) for s in info.starts])
    status = _record(Status, _json(folder / "status.json", dict, {}), folder / "status.json")
    path = folder / "results.json"
    results = {split: _record(Result, r, path) for split, r in _json(path, dict, {}).items()}
    path = folder / "samples.json"
    samples = [_record(Sample, s, path) for s in _json(path, list, [])]
    return Run(name, index, folder, config, metrics, torn, info, status, results, samples)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkdirError(f"{path.absolute()} cannot be read: {error.strerror}.") from error


def _json(path: Path, kind: type, missing):
    """The content of a JSON file of the given kind, or `missing` if there is no such file."""
    if missing is not None and not path.exists():
        return missing
    try:
        tree = json.loads(_bytes(path))
    except ValueError as error:
        raise WorkdirError(f"{path.absolute()} is torn, not JSON: {error}; restore it or delete it.") from error
    if not isinstance(tree, kind):
        raise WorkdirError(f"{path.absolute()} holds a {type(tree).__name__}, wanted a {kind.__name__}.")
    return tree


def _record(kind, tree, path: Path):
    """The dataclass that a JSON object describes; keys it does not know are somebody else's."""
    if not isinstance(tree, dict):
        raise WorkdirError(f"{path.absolute()}: got {tree!r}, wanted an object with {', '.join(fields_of(kind))}.")
    try:
        return kind(**{k: v for k, v in tree.items() if k in fields_of(kind)})
    except (TypeError, ValueError) as error:
        raise WorkdirError(f"{path.absolute()}: {error}") from error


def _metrics(path: Path) -> tuple[dict[str, list[dict]], bool]:
    """Split -> rows, and whether the last line was cut off by a kill.

    A resumed run repeats the steps since its checkpoint: a row replaces those of its split that are not before it.
    """
    *lines, tail = (_bytes(path) if path.exists() else b"").split(b"\n")
    metrics: dict[str, list[dict]] = {}
    torn = False
    for i, line in enumerate([*lines, tail], 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            wrong = not isinstance(row, dict) or mismatch(int, row.get("step")) or mismatch(str, row.get("split"))
        except ValueError:
            wrong, torn = True, i > len(lines)
        if torn:
            continue
        if wrong:
            text = line[:60].decode(errors="replace")
            wanted = 'a JSON object with "step" and "split"; delete that line'
            raise WorkdirError(f"{path.absolute()}, line {i}: got {text!r}, wanted {wanted}.")
        rows = metrics.setdefault(row.pop("split"), [])
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        # Numbers only; null is how the trainer writes what is not finite.
        rows.append({k: math.nan if v is None else v for k, v in row.items() if v is None or type(v) in (int, float)})
    if not metrics:
        raise WorkdirError(f"{path.parent.absolute()} has no metrics yet: wait for its first log line in {path.name}.")
    return metrics, torn
