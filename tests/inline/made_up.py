"""An executor whose runs take no time: what a run leaves is made up from its config.

loss = (log10 peak - c)^2 + seed / 100 + 1 / step, with c = -2, but -1.25 of an LSTM and 3 of an Elman network;
a peak above 0.5 diverges. Accuracy is 1 / (1 + loss); on other data 0.1 less.
"""

import dataclasses
import itertools
import json
import math
from pathlib import Path

from inline import Instant

BEST = {"lstm": -1.25, "rnn": 3.0}


@dataclasses.dataclass(kw_only=True)
class MadeUp(Instant):
    """`commands` are those that it was given; after `last` of them it is killed, so to speak."""

    last: int | None = None
    commands = ()

    def _run(self, job):
        if self.last is not None and len(self.commands) == self.last:
            raise KeyboardInterrupt
        command = job.command[3:]
        self.commands = (*self.commands, command)
        option = lambda name: Path(command[command.index(name) + 1])
        if command[0] == "train":
            return train(json.loads(option("--config").read_text()), option("--workdir"))
        return evaluate(option("--workdir"), [b for a, b in itertools.pairwise(command) if a == "--at"])


def loss_of(tree) -> float:
    mixer = tree["model"]["mixer"]["name"]
    return (math.log10(tree["optim"]["learning_rate"]) - BEST.get(mixer, -2.0)) ** 2 + tree["seed"] / 100


def train(tree, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    write = lambda name, content: (folder / name).write_text(json.dumps(content))
    write("config.json", tree)
    write("run.json", {"baselines": {"test": {"accuracy": {"guessing": 0.25}}}, "versions": {"jax": "0"}})
    if tree["optim"]["learning_rate"] > 0.5:
        write("status.json", {"status": "failed", "step": 1, "error": "NumericsError: not finite"})
        return 6
    rows = []
    for step in range(1, 5):
        loss = loss_of(tree) + 1 / step - 1 / 4
        row = {"step": step, "split": "validation", "loss": loss, "accuracy": 1 / (1 + loss), "seconds": step / 2}
        rows.append(json.dumps(row) + "\n")
    (folder / "metrics.jsonl").write_text("".join(rows))
    write("status.json", {"status": "done", "step": 4, "error": None})
    return 0


def evaluate(folder: Path, at: list[str]) -> int:
    loss = loss_of(json.loads((folder / "config.json").read_text()))
    results = {}
    for name in ("test", *(f"test at {a}" for a in at)):
        accuracy = 1 / (1 + loss) - 0.1 * (name != "test")
        results[name] = {"step": 4, "examples": 10, "metrics": {"loss": loss, "accuracy": accuracy}}
    (folder / "results.json").write_text(json.dumps(results))
    return 0


Executor = MadeUp
