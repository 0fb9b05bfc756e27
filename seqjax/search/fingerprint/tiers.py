"""The probes of a fingerprint, and their sizes and numbers of steps in each tier."""

import dataclasses
from collections.abc import Iterable

from seqjax import config
from seqjax.training.experiment import resolve

METRIC = "accuracy"  # of the test score
CHOICE = "loss"  # chooses the learning rate on validation, because accuracies are often equal
ABOUT = {
    "recall": "give the value of each key: lookup by content",
    "copy": "repeat the symbols: capacity of the state",
    "selective_copy": "repeat the symbols that were among noise: choose what to keep",
    "parity": "is the number of ones odd? one bit that every symbol may flip",
    "modular_addition": "a sum modulo 5: counting",
    "s5": "the product of permutations: update a state, in order",
    "dyck": "which bracket closes next: a stack of bounded depth",
}


@dataclasses.dataclass(frozen=True)
class Probe:
    """One probe: a data source, the number of training steps, and the lengths at which it is scored.

    `factors` are multiples of `data.length`; above 1, examples are longer than any example of train.
    """

    data: dict
    steps: int
    factors: tuple[int, ...] = (1,)

    @property
    def name(self) -> str:
        """The name of its data source."""
        return self.data["name"]

    @property
    def about(self) -> str:
        """What the probe asks for, in a few words."""
        return ABOUT[self.name]

    def length(self, factor: int) -> int | None:
        """The option `length` of the source times `factor`; None if the source has no such option."""
        return factor * self.data["length"] if "length" in self.data else None

    def at(self, factor: int) -> str | None:
        """The assignment that makes examples `factor` times as long; None at the trained length."""
        return None if factor == 1 else f"data.length={self.length(factor)}"


@dataclasses.dataclass(frozen=True)
class Tier:
    """Sizes of the model, learning rates to choose from, probes, and the lengths that are timed.

    Each run has `evaluations` validations, and the best checkpoint is kept. Validation and test have `examples`
    examples each. A timed batch has `rows` rows.
    """

    probes: tuple[Probe, ...]
    peaks: tuple[float, ...]
    lengths: tuple[int, ...]
    width: int
    layers: int
    batch: int
    examples: int
    evaluations: int
    rows: int

    def tree(self, probe: Probe, mixer: str, peak: float, seed: int, overrides: Iterable[str] = ()) -> dict:
        """The resolved config of one run."""
        every = max(1, probe.steps // self.evaluations)
        tree = {
            "data": {**probe.data, "examples": self.examples},
            "task": {"name": "next_token", "monitor": CHOICE},
            "model": {"name": "stack", "width": self.width, "layers": self.layers, "expansion": 2, "mixer": mixer},
            "optim": {"learning_rate": peak, "warmup_steps": min(100, probe.steps // 10)},
            "loader": {"batch_size": self.batch},
            "train": {"steps": probe.steps, "log_every": every, "eval_every": every, "checkpoint_every": every},
            "seed": seed,
        }
        return resolve(config.override(tree, overrides))


TIERS = {
    # At most 10 minutes per mixer on two cores.
    "cpu": Tier(
        probes=(
            Probe({"name": "recall", "pairs": 8, "keys": 16, "values": 16}, 1200),
            Probe({"name": "copy", "length": 16}, 800, (1, 2, 4, 8)),
            Probe({"name": "selective_copy", "length": 32, "count": 8}, 800, (1, 2, 4)),
            Probe({"name": "parity", "length": 16}, 600, (1, 2, 4, 8)),
            Probe({"name": "modular_addition", "length": 16}, 1000, (1, 2, 4, 8)),
            Probe({"name": "s5", "length": 12, "generators": "two"}, 1600, (1, 2, 4, 8)),
            Probe({"name": "dyck", "length": 32}, 600, (1, 2, 4, 8)),
        ),
        peaks=(1e-3, 3e-3, 1e-2),
        lengths=(128, 256, 512, 1024, 2048, 4096),
        width=64,
        layers=2,
        batch=32,
        examples=512,
        evaluations=4,
        rows=1,
    ),
    # A few hours per mixer on one GPU.
    "gpu": Tier(
        probes=(
            Probe({"name": "recall", "pairs": 64, "keys": 256, "values": 256}, 20_000),
            Probe({"name": "copy", "length": 64, "symbols": 16}, 10_000, (1, 2, 4, 8)),
            Probe({"name": "selective_copy", "length": 256, "count": 16, "symbols": 16}, 10_000, (1, 2, 4, 8)),
            Probe({"name": "parity", "length": 40}, 10_000, (1, 2, 4, 8)),
            Probe({"name": "modular_addition", "length": 40}, 10_000, (1, 2, 4, 8)),
            Probe({"name": "s5", "length": 24, "generators": "two"}, 20_000, (1, 2, 4, 8)),
            Probe({"name": "dyck", "length": 128, "depth": 8}, 10_000, (1, 2, 4, 8)),
        ),
        peaks=(3e-4, 1e-3, 3e-3),
        lengths=(128, 512, 2048, 8192, 32_768),
        width=256,
        layers=4,
        batch=128,
        examples=2048,
        evaluations=10,
        rows=4,
    ),
    # For tests: checks that all parts work together.
    "tiny": Tier(
        probes=(
            Probe({"name": "recall", "pairs": 2, "keys": 4, "values": 4}, 2),
            Probe({"name": "parity", "length": 4}, 2, (1, 2)),
        ),
        peaks=(1e-2, 1e-3),
        lengths=(8, 16),
        width=8,
        layers=1,
        batch=4,
        examples=8,
        evaluations=1,
        rows=1,
    ),
}
