"""Run by test_parallel.py in a process that simulates eight devices: trains in many ways, prints what came out."""

import json
import sys
from pathlib import Path

import jax
import launch

from seqjax.training.experiment import Experiment, resolve

WAYS = {
    "one": ("data=1",),
    "data": ("data=8",),
    "fsdp": ("fsdp=4", "data=2"),
    "tensor": ("tensor=2",),
    "all": ("data=2", "fsdp=2", "tensor=2"),
    "pmap": ("mode=pmap",),
    "pmap of four": ("mode=pmap", "data=4"),
    "pmap of two": ("mode=pmap", "data=2"),
}
# One way for the first three steps, another for the last three, from the checkpoint of the first.
GROUPS = "optim.groups=[{'match':'embedding/.*','rate':0},{'match':'head/.*','rate':0.5,'from_step':1}]"
CHAINS = (("pmap", "data"), ("all", "pmap of four"), ("tensor", "one"), ("one", "fsdp"))


def tree(root: Path) -> dict:
    """Ragged lines as documents, a recurrent and an attention layer, and two terms with other weights."""
    lines = [{"t": "abcdefgh"[: 2 + i % 7] * (1 + i % 2)} for i in range(40)]
    (root / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = launch.tiny("loader.batch_size=16", "train.steps=6", "optim.schedule=constant", "model.layers=2")
    out["data"] = {"name": "table", "train": str(root / "lines.jsonl"), "text": "t"}
    out["task"] = {"name": "held.tasks:Both"}
    out["model"] |= {"expansion": 1, "mixer": [{"name": "gru"}, {"name": "attention", "heads": 2}]}
    return out


def running(root: Path) -> dict:
    """Two texts as streams of 5 windows, so that six steps reach a second epoch; 8 devices do not divide the batch."""
    for name, count in (("a", 100), ("b", 120)):
        (root / f"{name}.txt").write_text("".join("abcdefgh"[i * i % 7 % 5] for i in range(count)))
    out = tree(root) | {"task": {"name": "next_token", "carry_state": True}}
    out["data"] = {"name": "text", "path": str(root / "*.txt"), "length": 3, "validation": 0.2, "test": 0.0}
    out["model"] |= {"layers": 1, "mixer": {"name": "gru"}}
    out["loader"]["batch_size"] = 12
    return out


def main(root: Path):
    assert jax.device_count() == 8
    config = launch.write(root / "c.json", tree(root))

    def train(folder: Path, way: str, *overrides: str, config: str = config):
        words = [f"--config.{o}" for o in (*(f"parallel.{p}" for p in WAYS[way]), *overrides)]
        outcome = launch.main("train", "--config", config, "--workdir", folder, *words)
        assert outcome.code == 0, outcome

    train(root / "one", "one")
    result = {"one": launch.rows(root / "one"), "chains": {}}
    for before, after in CHAINS:
        folder = root / f"{before} to {after}"
        train(folder, before, "train.steps=3")
        train(folder, after, *(["train.accumulation_steps=2"] if after == "pmap of four" else []))
        starts = json.loads((folder / "run.json").read_text())["starts"]
        result["chains"][folder.name] = {"rows": launch.rows(folder), "starts": [s["step"] for s in starts]}
    result["begun"] = {}
    for way in ("one", "all", "pmap"):
        folder = root / f"begun {way}"
        train(folder, way, "train.steps=2", f"init.run={root / 'one to fsdp'}", "init.checkpoint=latest")
        result["begun"][way] = launch.rows(folder)
    grouped = (GROUPS, "optim.ema_decay=0.9", "optim.weight_decay=0.1", "optim.layer_decay=0.8")
    train(root / "grouped", "one", "train.steps=4", *grouped)
    train(root / "grouped chain", "all", "train.steps=2", *grouped)
    train(root / "grouped chain", "pmap", "train.steps=4", *grouped)
    result["grouped"] = [launch.rows(root / name) for name in ("grouped", "grouped chain")]
    result["evaluated"] = []
    for name in ("one", "one to fsdp"):
        outcome = launch.main("evaluate", "--workdir", root / name, "--checkpoint", "latest", "--split", "train")
        assert outcome.code == 0, outcome
        result["evaluated"].append(json.loads((root / name / "results.json").read_text())["train"])
    result["generated"] = []
    for name in ("one", "all to pmap of four"):
        words = ("--checkpoint", "latest", "--temperature", 0, "--prompt", "abc", "--tokens", 6)
        outcome = launch.main("generate", "--workdir", root / name, *words)
        assert outcome.code == 0, outcome
        result["generated"].append(outcome.out)
    result["refused"] = launch.main(
        "train", "--config", config, "--workdir", root / "no", "--config.loader.batch_size=12"
    )
    carry = launch.write(root / "carry.json", running(root))
    train(root / "streams", "one", config=carry)
    train(root / "chained", "all", "train.steps=3", config=carry)
    train(root / "chained", "pmap of two", "train.accumulation_steps=2", config=carry)
    assert launch.main("evaluate", "--workdir", root / "chained", "--checkpoint", "latest").code == 0
    result["carried"] = [launch.rows(root / name) for name in ("streams", "chained")]
    result["carried evaluated"] = json.loads((root / "chained" / "results.json").read_text())["validation"]
    table = tree(root) | {"task": {"name": "next_token"}, "model": {"name": "held.learners:Bigram"}}
    counting = launch.write(root / "counting.json", table | {"learner": {"name": "held.learners:Counting"}})
    result["counted"] = {}
    for way in ("one", "fsdp", "all", "pmap"):
        train(root / f"counted {way}", way, "train.steps=3", config=counting)
        result["counted"][way] = launch.rows(root / f"counted {way}")
    hidden = tree(root) | {"task": {"name": "next_token"}, "model": {"name": "hmm", "states": 4}, "optim": {}}
    expecting = launch.write(root / "expecting.json", hidden | {"learner": {"name": "em", "decay": 0.7}})
    result["expected"] = {}
    for way in ("one", "fsdp", "all", "pmap"):
        train(root / f"expected {way}", way, config=expecting)
        result["expected"][way] = launch.rows(root / f"expected {way}")
    result["share"] = share()
    print(json.dumps(result))


def share() -> float:
    """The part of a state of usual size that one of eight devices holds under fsdp=8."""
    e = Experiment(resolve(launch.tiny("loader.batch_size=8", "model.width=64", "model.layers=2", "model.expansion=4",
                                       "model.mixer=attention", "parallel.fsdp=8")))  # fmt: skip
    state = e.parallel.layout(8, 1).init(e.make_state)
    leaves = jax.tree.leaves(state)
    return sum(a.addressable_shards[0].data.nbytes for a in leaves) / sum(a.nbytes for a in leaves)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
