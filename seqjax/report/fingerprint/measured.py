"""The content of a fingerprint.json, and the numbers computed from it."""

import dataclasses
from typing import Any

from seqjax.search.fingerprint import checked


@dataclasses.dataclass(frozen=True)
class Measured:
    """One fingerprint.json; `index` chooses its colour, dashes and marker."""

    index: int
    tree: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the mixer, or the name given with --name."""
        return self.tree["name"]

    @property
    def probes(self) -> dict[str, dict]:
        """Name of a probe -> its record."""
        return self.tree["probes"]

    def score(self, probe: str, factor: int = 1) -> dict | None:
        """The record of a probe at a multiple of the trained length; None if it has no score there."""
        scores = self.probes.get(probe, {}).get("scores", [])
        return next((s for s in scores if s["factor"] == factor and s["accuracy"]), None)

    def accuracy(self, probe: str, factor: int = 1) -> float | None:
        """The mean accuracy over seeds; None without a score."""
        score = self.score(probe, factor)
        return None if score is None else sum(score["accuracy"]) / len(score["accuracy"])

    def skill(self, probe: str, factor: int = 1) -> float | None:
        """(accuracy - chance) / (1 - chance): 0 is the best answer that needs no memory, 1 is perfect."""
        score = self.score(probe, factor)
        if score is None or score["chance"] >= 1:
            return None
        return (self.accuracy(probe, factor) - score["chance"]) / (1 - score["chance"])

    def costs(self, key: str) -> tuple[list[int], list[float]]:
        """The measured lengths, and the cost at each."""
        known = sorted((int(length), cost[key]) for length, cost in self.tree["costs"].items() if key in cost)
        return [length for length, _ in known], [value for _, value in known]


def read(trees: list[dict]) -> list[Measured]:
    """Fingerprints in the order of their names. Raises WorkdirError if one is incomplete."""
    for tree in trees:
        checked(tree, "a fingerprint")
    return [Measured(i, tree) for i, tree in enumerate(sorted(trees, key=lambda tree: tree["name"]))]


def probes(marks: list[Measured]) -> list[str]:
    """The names of all probes."""
    return list(dict.fromkeys(name for mark in marks for name in mark.probes))


def factors(marks: list[Measured], probe: str) -> list[int]:
    """All multiples of its trained length at which a probe was scored."""
    return sorted({s["factor"] for mark in marks for s in mark.probes.get(probe, {}).get("scores", [])})


def title(name: str) -> str:
    """`modular_addition` -> `modular addition`."""
    return name.replace("_", " ")
