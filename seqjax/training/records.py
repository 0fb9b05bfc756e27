"""The contents of the small files of a run folder, as checked dataclasses for the code that writes and reads them."""

import dataclasses
from pathlib import Path
from typing import Literal

from seqjax.metrics import Way
from seqjax.training.files import FIX
from seqjax.types import Checked, Natural, WorkdirError, fields_of, mismatch


def record(kind, tree, path: Path):
    """The dataclass that an object of a file describes; unknown keys are ignored.

    Raises:
      WorkdirError: a key is missing, or has a value of another type.
    """
    if not isinstance(tree, dict):
        raise WorkdirError(f"{path}: got {tree!r}, wanted an object with {', '.join(fields_of(kind))}: {FIX}.")
    try:
        return kind(**{k: v for k, v in tree.items() if k in fields_of(kind)})
    except (TypeError, ValueError) as error:
        raise WorkdirError(f"{path}: {error} {FIX.capitalize()}.") from error


@dataclasses.dataclass(frozen=True)
class Start(Checked):
    """One start of a run: the first, or a resume, with the config keys that changed since the one before.

    `origin`: `run`, `step` and `fresh` modules, if the run started with the parameters of another run.
    """

    time: str
    step: Natural
    command: str = ""
    changes: dict = dataclasses.field(default_factory=dict)
    origin: dict | None = None


@dataclasses.dataclass(frozen=True)
class Info(Checked):
    """`run.json`: size, cost, baselines and environment. `baselines[split][metric][name]` is a score to beat.

    `costs[name]`: the parameters and seconds of a baseline that was trained. `tokenizer[split]`: tokens per word, bytes
    per token and the unknown share, of a tokenizer that was trained.
    """

    parameters: int | None = None
    parameter_table: list = dataclasses.field(default_factory=list)  # of [path, shape, count]
    flops_per_step: float | None = None
    tokens_per_step: int | None = None
    carried_bytes: int = 0
    baselines: dict[str, dict[str, dict[str, float | None]]] = dataclasses.field(default_factory=dict)
    costs: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Way] = dataclasses.field(default_factory=dict)  # which way is better; {} in folders of 0.1
    tokenizer: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    versions: dict = dataclasses.field(default_factory=dict)
    hardware: dict = dataclasses.field(default_factory=dict)
    git: str | None = None
    starts: list = dataclasses.field(default_factory=list)  # of Start

    def __post_init__(self):
        super().__post_init__()
        for row in self.parameter_table:
            if not (isinstance(row, list) and [type(v) for v in row] == [str, list, int]):
                raise ValueError(f"parameter_table: got {row!r}, wanted [path, shape, count].")


@dataclasses.dataclass(frozen=True)
class Status(Checked):
    """`status.json`: the state of the run. `metrics`: the seal of the last row of metrics.jsonl, if the run ended."""

    status: Literal["", "running", "preempted", "failed", "done"]  # "": unknown
    step: Natural | None
    error: str | None = None
    metrics: str | None = None


def wrong_row(row: dict) -> str | None:
    """What is wrong with a row of `metrics.jsonl` (step, split, and numbers; null: not finite), or None."""
    for key, hint in (("step", Natural), ("split", str)):
        if problem := mismatch(hint, row.get(key)):
            return f"{key}: {problem}"
    odd = [key for key in row if key not in ("step", "split") and type(row[key]) not in (int, float, type(None))]
    return f"{odd[0]}: got {row[odd[0]]!r}, wanted a number or null" if odd else None


@dataclasses.dataclass(frozen=True)
class Result(Checked):
    """One split in `results.json`: a checkpoint's metrics on all of it."""

    metrics: dict[str, float | None]
    step: int | None = None
    examples: int | None = None


@dataclasses.dataclass(frozen=True)
class Sample(Checked):
    """One entry of `samples.json`: the text that a model generated after a prompt, or to answer a source.

    `wanted`: the reference, if there is one. `score`: log p(text), in nats.
    """

    text: str
    prompt: str = ""
    source: str | None = None
    wanted: str | None = None
    score: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    step: int | None = None


@dataclasses.dataclass(frozen=True)
class States(Checked):
    """One entry of `states.json`: the hidden states of a model, or of the model of one class.

    `states`: their names; the most frequent ones of `total`. `emits`: what each emits, in words. A model without paths
    of states has nothing else. `start`, `transition`: probabilities. On the most probable paths of the split: the
    `share` of the tokens that are in each state, and how many `visits` of it lasted 1, 2, ... tokens. Of one example:
    the `posterior` of each state, and the `path` (-1: a state that is left out), at its `tokens` or `frames`.
    """

    name: str
    states: list[str]
    emits: list[str]
    total: Natural
    split: str
    step: Natural
    unit: str
    start: list[float] = dataclasses.field(default_factory=list)
    transition: list[list[float]] = dataclasses.field(default_factory=list)
    share: list[float] = dataclasses.field(default_factory=list)
    visits: list[list[int]] = dataclasses.field(default_factory=list)
    posterior: list[list[float]] = dataclasses.field(default_factory=list)
    path: list[int] = dataclasses.field(default_factory=list)
    tokens: list[str] = dataclasses.field(default_factory=list)
    frames: list[list[float]] = dataclasses.field(default_factory=list)
