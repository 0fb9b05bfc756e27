"""The JSON files of a run folder, as checked dataclasses: got, wanted, where."""

import dataclasses

from seqjax.types import Checked, mismatch


@dataclasses.dataclass(frozen=True)
class Start(Checked):
    """One start of a run: the first, or a resume, with the config keys that changed since the one before.

    `origin`: the `run`, `step` and `fresh` modules that it began with, if with the parameters of another run.
    """

    time: str
    step: int
    command: str = ""
    changes: dict = dataclasses.field(default_factory=dict)
    origin: dict | None = None


@dataclasses.dataclass(frozen=True)
class Info(Checked):
    """`run.json`: size, cost, baselines and surroundings. `baselines[split][metric][name]` is a value to be beaten."""

    parameters: int | None = None
    parameter_table: list = dataclasses.field(default_factory=list)  # of [path, shape, count]
    flops_per_step: float | None = None
    tokens_per_step: int | None = None
    baselines: dict = dataclasses.field(default_factory=dict)
    versions: dict = dataclasses.field(default_factory=dict)
    hardware: dict = dataclasses.field(default_factory=dict)
    git: str | None = None
    starts: list = dataclasses.field(default_factory=list)  # of Start

    def __post_init__(self):
        super().__post_init__()
        for split, metrics in self.baselines.items():
            for metric, values in metrics.items() if isinstance(metrics, dict) else [("", metrics)]:
                if not isinstance(values, dict) or any(mismatch(float | None, v) for v in values.values()):
                    where = ".".join(filter(None, ["baselines", split, metric]))
                    raise ValueError(f"{where}: got {values!r}, wanted an object of names and numbers.")
        for row in self.parameter_table:
            if not (isinstance(row, list) and [type(v) for v in row] == [str, list, int]):
                raise ValueError(f"parameter_table: got {row!r}, wanted [path, shape, count].")


@dataclasses.dataclass(frozen=True)
class Status(Checked):
    """`status.json`: where the run stands."""

    status: str = ""
    step: int | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Result(Checked):
    """One split in `results.json`: a checkpoint's metrics on all of it."""

    metrics: dict
    step: int | None = None
    examples: int | None = None

    def __post_init__(self):
        super().__post_init__()
        for name, value in self.metrics.items():
            if problem := mismatch(float | None, value):
                raise ValueError(f"metrics.{name}: {problem}.")


@dataclasses.dataclass(frozen=True)
class Sample(Checked):
    """One entry of `samples.json`: what a model wrote after a prompt."""

    text: str
    prompt: str = ""
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    step: int | None = None
