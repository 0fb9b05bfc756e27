"""Sweeps for tests on real services: a config, the command, and what every sweep must leave."""

import csv
import json
from pathlib import Path

import launch

CONFIG = """
from seqjax.search.space import choice
def get_config(variant=""):
    return {tree!r}
def sweep():
    return {{"optim.learning_rate": choice({rates})}}
"""


def sweep(folder: Path, rates: int, *more, steps: int = 120) -> list:
    """The command of a sweep over the first of a grid of learning rates, in `folder / "s"`; a trial takes seconds."""
    folder.mkdir(exist_ok=True)
    tree = launch.tiny(f"train.steps={steps}", "train.eval_every=20", "train.checkpoint_every=20")
    text = CONFIG.format(tree=tree, rates=", ".join(str((i + 1) / 100) for i in range(rates + 1)))
    (folder / "c.py").write_text(text)
    return [
        "sweep",
        "--config",
        folder / "c.py",
        "--workdir",
        folder / "s",
        "--sampler",
        "grid",
        "--trials",
        str(rates),
        *more,
    ]


def starts(run: Path) -> list[dict]:
    """Its starts, as the run notes them."""
    return json.loads((run / "run.json").read_text())["starts"]


def check(folder: Path, rates: int, steps: int = 120) -> None:
    """Every trial is there once, is done, and its value is that of its run folder."""
    with open(folder / "s" / "trials.csv") as file:
        found = list(csv.DictReader(file))
    assert [int(row["number"]) for row in found] == list(range(rates))
    assert [row["status"] for row in found] == ["done"] * rates
    for i, row in enumerate(found):
        run = folder / "s" / "trials" / f"{i:04}"
        assert json.loads((run / "config.json").read_text())["optim"]["learning_rate"] == (i + 1) / 100
        assert json.loads((run / "status.json").read_text())["status"] == "done"
        losses = [r["loss"] for r in launch.rows(run) if r["split"] == "validation"]
        assert len(losses) == steps // 20 and float(row["value"]) == min(losses)
        trained = [r["step"] for r in launch.rows(run) if r["split"] == "train"]
        assert trained == list(range(1, steps + 1))
    assert {p.name for p in (folder / "s" / "trials").iterdir() if p.is_dir()} - {"slurm"} == {
        f"{i:04}" for i in range(rates)
    }
    assert not list((folder / "s").rglob("*.lease")) and not list((folder / "s").glob(".claims/0*"))
