"""Configs and run folders of version 0.1, whose keys had other names, stay usable."""

import json

import launch
import pytest

from seqjax import lookup, renamed
from seqjax.report import runs
from seqjax.search import plan, trials
from seqjax.search.space import with_values
from seqjax.training.experiment import Schema, resolve
from seqjax.training.trained import Trained
from seqjax.types import ConfigError, Part, fields_of, marker

OLD = {
    "data": {"name": "copy", "length": 3, "symbols": 4, "examples": 10},
    "task": {"name": "next_token", "given": 1},
    "model": {
        "name": "lm",
        "width": 8,
        "tied": True,
        "mixer": [
            {"name": "gru", "reset": "before", "initial": "learned"},
            {"name": "stacked", "mixer": {"name": "attention", "context": 12, "sight": "causal", "gate": "head"}},
        ],
    },
    "optim": {"peak": 0.01, "warmup": 2, "end": 0.5, "decay": 0.1, "clip": 2.0, "ema": 0.9},
    "loader": {"batch": 4, "overlong": "truncate", "workers": 0},
    "train": {"steps": 4, "accumulate": 2, "keep": 3},
}
NEW = {
    "data": {"name": "copy", "length": 3, "symbols": 4, "examples": 10},
    "task": {"name": "next_token", "prompt_length": 1},
    "model": {
        "name": "stack",
        "width": 8,
        "tie_embeddings": True,
        "mixer": [
            {"name": "gru", "reset_after": False, "initial_state": "learned"},
            {
                "name": "stacked",
                "mixer": {"name": "attention", "max_length": 12, "causal": True, "output_gate": "head"},
            },
        ],
    },
    "optim": {
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "final_scale": 0.5,
        "weight_decay": 0.1,
        "clip_norm": 2.0,
        "ema_decay": 0.9,
    },
    "loader": {"batch_size": 4, "too_long": "truncate", "num_workers": 0},
    "train": {"steps": 4, "accumulation_steps": 2, "keep_checkpoints": 3},
}


def sections(name: str) -> list:
    """The classes that a section of the table may stand for."""
    if name == "comparison":
        return [plan.Comparison]
    if name in fields_of(Schema):
        hint, _ = fields_of(Schema)[name]
        part = marker(hint, Part)
        return [lookup.find(n, part.package, part.symbol) for n in lookup.names(part.package)] if part else [hint]
    return [lookup.find(name, "seqjax.mixers", "Mixer")]


@pytest.mark.parametrize("name", renamed.RENAMED)
def test_the_table_leads_to_keys_that_exist(name):
    for old, new in renamed.RENAMED[name].items():
        new, values = new if isinstance(new, tuple) else (new, {})
        having = [fields_of(target) for target in sections(name) if new in fields_of(target)]
        assert having and not any(old in fields for fields in having if name != "data"), (name, old, new)
        assert all(type(value) is bool for value in values.values())


def test_a_config_with_old_keys_is_the_one_with_new_keys():
    assert renamed.modern(OLD) == NEW == renamed.modern(NEW)
    assert resolve(OLD) == resolve(NEW)


POOLED = {"model": {"name": "classifier", "width": 8, "pool": "attention", "pool_weights": "hard", "mixer": "gru"}}


def test_a_key_that_moved_is_found_in_its_new_section():
    new = {"model": {"name": "stack", "width": 8, "mixer": "gru"}}
    head = {"pool": "attention", "weights": "hard"}
    said = {}
    got = renamed.modern({"task": "classification", **POOLED}, said)
    assert got == {"task": {"name": "classification", "head": head}, **new}
    assert said == {
        "model.name=classifier": "model.name=stack",
        "model.pool": "task.head.pool",
        "model.pool_weights": "task.head.weights",
    }
    section = {"name": "classification", "head": {"name": "pooled"}}
    assert renamed.modern({"task": section, **POOLED})["task"]["head"] == {"name": "pooled", **head}
    assert section == {"name": "classification", "head": {"name": "pooled"}}, "the tree of the caller is not changed"
    with pytest.raises(ConfigError, match=r"model\.pool is called task\.head\.pool now, and both are given: remove"):
        renamed.modern({"task": {"name": "classification", "head": {"pool": "max"}}, **POOLED})
    own = {"model": {"name": "mine:Net", "pool": 3}}
    assert renamed.modern(own) == own, "a key of a model outside the package"


def test_a_moved_key_in_overrides_sweeps_and_comparisons():
    tree = launch.tiny("task=classification", "model=classifier", "model.mixer=gru", "model.pool=last")
    tree["data"] = {"name": "digits"}
    assert tree["model"]["name"] == "classifier"
    base = resolve(tree)
    assert base["model"]["name"] == "stack" and "pool" not in base["model"]
    assert base["task"]["head"] == {"name": "pooled", "pool": "last", "weights": "softmax"}
    assert with_values(base, {"model.pool": "max"})["task"]["head"]["pool"] == "max"
    with pytest.raises(ConfigError, match="pool is not a key"):
        with_values(resolve(NEW), {"model.pool": "max"})
    changes = {"a": {"model.pool": "max"}, "b": {"model": "mine:Net", "model.pool": 3}, "c": {"model.name": "lm"}}
    got = renamed.modern({"base": {**tree, "model": {**tree["model"], "mixer": "gru"}}, "contenders": changes})
    assert got["contenders"] == {
        "a": {"task.head.pool": "max"},
        "b": {"model": "mine:Net", "model.pool": 3},
        "c": {"model.name": "stack"},
    }


def test_a_run_of_before_is_the_run_of_a_comparison(tmp_path):
    """Its config has old names, and no key that was added later."""
    now = resolve(NEW)
    old = {**now, **OLD, "model": {k: v for k, v in now["model"].items() if k != "embed"} | {"name": "lm"}}
    old["task"] = {"name": "next_token", "given": 1, "monitor": "loss"}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert trials.outcome(trials.Trial(tmp_path, now)) == trials.Outcome()
    old["seed"] = 5
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(ConfigError, match="holds the run of another config, seed is 5 there"):
        trials.outcome(trials.Trial(tmp_path, now))


def test_a_key_under_both_names_is_refused():
    with pytest.raises(ConfigError, match=r"optim\.peak is called learning_rate now, and both are given: remove"):
        resolve({**NEW, "optim": {"peak": 0.1, "learning_rate": 0.2}})


def test_a_comparison_with_old_keys():
    old = {"base": OLD, "contenders": {"a": {"optim.warmup": 1}, "b": {}}, "rates": [0.1, 0.2], "rate_seeds": [0]}
    new = {"base": NEW, "contenders": {"a": {"optim.warmup_steps": 1}, "b": {}}}
    assert renamed.modern(old) == {**new, "learning_rates": [0.1, 0.2], "learning_rate_seeds": [0]}


def test_overrides_and_values_from_the_command_line(tmp_path):
    words = ["--config.optim.peak=0.5", "--config.model.mixer=attention", "--config.model.mixer.sight=bidirectional"]
    config = launch.write(tmp_path / "c.json", {**launch.TINY, "optim": {}})
    outcome = launch.main("train", "--config", config, *words, "--print_config")
    tree = json.loads(outcome.out)
    assert tree["optim"]["learning_rate"] == 0.5 and tree["model"]["mixer"]["causal"] is False


def test_only_a_config_of_the_user_is_told_in_one_line(tmp_path, caplog):
    """Those that the library reads again, it has written itself."""
    resolve(OLD)
    assert not caplog.messages
    config = launch.write(tmp_path / "c.json", OLD)
    assert launch.main("train", "--config", config, "--config.train.keep=2", "--print_config").code == 0
    (said,) = caplog.messages
    assert said.startswith("keys renamed since 0.1: task.given -> task.prompt_length, model.mixer.0.reset -> ")
    for pair in ("optim.peak -> optim.learning_rate", "train.keep -> train.keep_checkpoints"):
        assert said.count(pair) == 1
    old = {"base": {"optim": {"peak": 1.0}}, "contenders": {"a": {"optim.clip": 1}}, "rates": [0.1]}
    renamed.told(old)
    wanted = {"rates -> learning_rates", "optim.peak -> optim.learning_rate", "optim.clip -> optim.clip_norm"}
    assert set(caplog.messages[1].removeprefix("keys renamed since 0.1: ").split(", ")) == wanted


def test_a_sweep_with_old_keys_searches_under_todays_names():
    """Its base is resolved, so that it already has every key under its new name."""
    values = {"optim.peak": 0.5, "model.mixer.1.mixer.context": 20, "loader.batch": 2}
    tree = with_values(resolve(NEW), values)
    assert tree["optim"]["learning_rate"] == 0.5 and tree["loader"]["batch_size"] == 2
    assert tree["model"]["mixer"][1]["mixer"]["max_length"] == 20


def test_a_run_folder_of_before_goes_on_is_evaluated_and_reported(tmp_path, caplog):
    """Its files have neither seals nor today's keys, and its checkpoints no config."""
    folder, config = tmp_path / "run", launch.write(tmp_path / "c.json", OLD)
    assert launch.main("train", "--config", config, "--workdir", folder, "--quiet").code == 0
    tree = {**resolve(OLD), **OLD}
    (folder / "config.json").write_text(json.dumps(tree))
    for name in ("run.json", "status.json"):
        kept = {
            k: v for k, v in json.loads((folder / name).read_text()).items() if k not in ("format", "seal", "metrics")
        }
        (folder / name).write_text(json.dumps(kept))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    bare = [{k: v for k, v in row.items() if k != "seal"} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))

    outcome = launch.main("train", "--config", config, "--workdir", folder, "--quiet")
    assert outcome.code == 0 and "already done at step 4" in outcome.out
    caplog.clear()
    assert Trained.load(folder, "latest").step == 4
    assert not [said for said in caplog.messages if "renamed" in said]
    outcome = launch.main("train", "--config", config, "--config.train.steps=6", "--workdir", folder, "--quiet")
    assert outcome.code == 0, outcome.err
    now = json.loads((folder / "config.json").read_text())
    assert now["optim"]["learning_rate"] == 0.01 and "peak" not in now["optim"]
    assert Trained.load(folder, "latest").step == 6
    assert runs.read(folder, "run", 0).config["loader"]["batch_size"] == 4
