"""Configs: load, override, check everything at once, round-trip."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest

from seqjax import config, lookup
from seqjax.types import Checked, ConfigError, Count, Part, Positive
from seqjax.words import settled


@dataclasses.dataclass(frozen=True)
class Speed(Checked):
    rate: Positive = 0.5
    most: Count = 9

    def __post_init__(self):
        super().__post_init__()
        if self.rate > self.most:
            raise ValueError(f"rate={self.rate} is above most={self.most}.")


@dataclasses.dataclass
class Schema:
    model: Annotated[Callable, Part("seqjax.models", "Model")]
    steps: Count
    speed: Speed = dataclasses.field(default_factory=Speed)


TREE = {"model": {"name": "stack", "mixer": {"name": "gru"}}, "steps": 3}


def problems(tree) -> str:
    with pytest.raises(ConfigError) as error:
        config.resolve(Schema, tree)
    return str(error.value)


def test_defaults_are_filled_in_and_json_round_trips():
    resolved = config.resolve(Schema, TREE)
    assert resolved["speed"] == {"rate": 0.5, "most": 9}
    assert resolved["model"]["width"] == 128 and resolved["model"]["mixer"]["reset_after"] is True
    again = json.loads(json.dumps(resolved))
    assert again == resolved == config.resolve(Schema, again)
    assert config.digest(again) == config.digest(resolved)


def test_a_part_has_a_default_and_its_own_defaults():
    mixer = {"name": "stacked", "layers": 3}
    resolved = config.resolve(Schema, TREE | {"model": {"name": "stack", "mixer": mixer}})["model"]["mixer"]
    assert resolved["layers"] == 3 and resolved["mixer"]["name"] == "lstm" and resolved["mixer"]["zoneout"] == 0.0
    built = config.factory(Part("seqjax.mixers", "Mixer"), resolved)(width=4)
    assert [type(m).__name__ for m in built.parts()] == ["LSTM"] * 3


@pytest.mark.parametrize("name", lookup.names("seqjax.mixers"))
def test_a_default_made_of_parts_is_a_section_like_any_other(name):
    """In a config, and built from it: what the class has by default."""
    part = Part("seqjax.mixers", "Mixer")
    model = {"name": "stack", "mixer": name}
    if lookup.find(name, "seqjax.mixers", "Mixer").memory:
        model |= {"name": "seq2seq", "cross_attention": None}
    resolved = config.resolve(Schema, TREE | {"model": model})["model"]["mixer"]
    assert json.loads(json.dumps(resolved)) == resolved
    made = lambda factory: config.resolve(Schema, TREE | {"model": model | {"mixer": part.section(factory)}})
    assert made(config.factory(part, resolved))["model"]["mixer"] == resolved


def test_a_default_list_of_parts_may_be_replaced():
    mixer = {"name": "parallel", "mixer": ["gru", {"name": "attention", "window": 4}]}
    resolved = config.resolve(Schema, TREE | {"model": {"name": "stack", "mixer": mixer}})["model"]["mixer"]
    assert [(one["name"], one.get("window")) for one in resolved["mixer"]] == [("gru", None), ("attention", 4)]
    default = config.resolve(Schema, TREE | {"model": {"name": "stack", "mixer": "parallel"}})["model"]["mixer"]
    assert [(one["name"], one.get("window")) for one in default["mixer"]] == [("attention", 1024), ("rg_lru", None)]
    gated = config.resolve(
        Schema, TREE | {"model": {"name": "stack", "mixer": {"name": "gated", "mixer": {"kernel_size": 2}}}}
    )
    inner = gated["model"]["mixer"]["mixer"]
    assert (inner["name"], inner["kernel_size"], inner["activation"], inner["mixer"]["name"]) == (
        "short_conv",
        2,
        "none",
        "rg_lru",
    )


def test_all_problems_are_listed_at_once():
    text = problems(
        {
            "model": {"name": "stack", "widht": 3, "layers": True, "inputs": 7, "mixer": {"name": "grru"}},
            "stpes": 3,
            "speed": {"rate": -1, "most": None},
        }
    )
    for words in (
        "8 problems",
        "stpes is not a key. Did you mean 'steps'?",
        "steps is required and missing",
        "model.widht is not a key. Did you mean 'width'?",
        "model.inputs is filled in from the data",
        "model.layers: got True, wanted an int of at least 1",
        "model.mixer.name: no 'grru' in seqjax.mixers. Did you mean 'gru'?",
        "speed.rate: got -1, wanted a float above 0",
        "speed.most: got None, wanted an int of at least 1",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speed": 3}, "speed: got 3, wanted a section with rate, most"),
        ({"speed": {"rate": 99}}, "speed: rate=99 is above most=9"),
        ({"speed": {"name": "x"}}, "speed.name is not a key"),
        (
            {"model": 3},
            "model: got 3, wanted a section whose name is one of gmm, hmm, linear, markov, pair, seq2seq, stack",
        ),
        ({"model": {"mixer": "gru"}}, "model.name is required"),
        ({"model": {"name": "stack", "mixer": [{"name": "gru"}, {"name": "lstm", "heads": 2}]}}, "model.mixer.1.heads"),
        ({"model": {"name": "stack", "mixer": []}}, "model.mixer: got []"),
        ({"model": {"name": "stack", "mixer": "rnn:scan"}}, "wanted a dataclass or a module like Mixer"),
        ({"model": {"name": "stack"}}, "model.mixer is required and missing"),
    ],
)
def test_each_problem(change, words):
    assert words in problems({**TREE, **change})


@dataclasses.dataclass(frozen=True)
class Trip(Checked):
    car: Annotated[Callable | None, Part("seqjax.mixers", "Mixer")] = None
    speed: Speed = Speed(most=3)
    stops: tuple[Count, ...] = (1, 2)


@dataclasses.dataclass
class Outer:
    trip: Trip = dataclasses.field(default_factory=lambda: Trip(stops=(5,)))


@pytest.mark.parametrize("tree", [{}, {"trip": {}}, {"trip": {"car": "gru", "speed": {"rate": 2}}}], ids=str)
def test_sections_in_sections_and_parts_that_may_be_missing_round_trip(tree):
    resolved = config.resolve(Outer, tree)
    assert config.resolve(Outer, json.loads(json.dumps(resolved))) == resolved
    assert resolved["trip"]["stops"] == ([1, 2] if tree else [5]), "a default keeps its own values"
    assert resolved["trip"]["speed"]["most"] == (9 if "car" in tree.get("trip", {}) else 3)


def test_a_name_alone_is_a_section():
    tree = {**TREE, "model": {"name": "stack", "mixer": ["gru", "attention"]}}
    assert [m["name"] for m in config.resolve(Schema, tree)["model"]["mixer"]] == ["gru", "attention"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{[]:1}", "{[]:1}"),
        ("-inf", float("-inf")),
        ("3", 3),
        ("3e-4", 3e-4),
        ("true", True),
        ("None", None),
        ("[1,2]", [1, 2]),
        ("a b", "a b"),
        ("(1,)", [1]),
        ('{"a": true}', {"a": True}),
        ("[1, null]", [1, None]),
        ("[NaN]", "[NaN]"),
        ("Infinity", "Infinity"),
        ("[true", "[true"),
        ("...", "..."),
        ("{1,2}", "{1,2}"),
        ("b'x'", "b'x'"),
        ("1+2j", "1+2j"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("[" * 100_000, "[" * 100_000),
        ("-" * 100_000 + "1", "-" * 100_000 + "1"),
    ],
)
def test_values_from_the_command_line(text, value):
    """Where no type says how to read them."""
    assert settled(dict, config.override({}, [f"a.b={text}"])) == {"a": {"b": value}}


def test_overrides():
    tree = {"model": {"mixer": {"name": "attention", "heads": 2}}, "list": [{"name": "a"}, "b"]}
    new = settled(dict, config.override(tree, ["model.mixer.heads=4", "list.0.k=1", "list.1.k=2"]))
    assert new == {
        "model": {"mixer": {"name": "attention", "heads": 4}},
        "list": [{"name": "a", "k": 1}, {"name": "b", "k": 2}],
    }
    assert tree["model"]["mixer"]["heads"] == 2, "the argument is left alone"
    # A whole section first, whatever the order of the words; then its keys.
    again = settled(dict, config.override(tree, ["model.mixer.x=1", "model.mixer=gru"]))
    assert again["model"]["mixer"] == {"name": "gru", "x": 1}
    assert config.override(tree, ["model.mixer.name=gru"])["model"]["mixer"] == {"name": "gru", "heads": 2}


@pytest.mark.parametrize("words", ["a", "=3", "steps.x=3", "list.7=1", "list.x=1"])
def test_overrides_that_lead_nowhere(words):
    with pytest.raises(ConfigError, match=r"--config\."):
        config.override({"steps": 3, "list": [1]}, [words])


def test_load_python_and_json(tmp_path):
    (tmp_path / "c.py").write_text(
        "from ml_collections import ConfigDict\n"
        "import numpy as np\n"
        "def get_config(arg='x'):\n  return ConfigDict(dict(a=dict(b=(1, np.int64(2))), arg=arg))\n"
    )
    assert config.load(str(tmp_path / "c.py")) == {"a": {"b": [1, 2]}, "arg": "x"}
    assert config.load(f"{tmp_path}/c.py:tiny")["arg"] == "tiny"
    odd = tmp_path / "a:b.json"
    odd.write_text('{"a": 1}')
    assert config.load(str(odd)) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.py", None, "no config file"),
        ("c.py", "x = 1", "get_config"),
        ("c.py", "def get_config(): pass", "get_config returned a NoneType"),
        ("c.py", "import no_such_thing", "no_such_thing"),
        ("c.json", "{", "is not JSON"),
        ("c.json", "[1]", "holds a list"),
        ("c.txt", "a", "wanted a .py or .json"),
    ],
)
def test_files_that_are_no_config(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=words):
        config.load(str(tmp_path / name))


def test_a_file_that_cannot_be_read_is_not_called_wrong(tmp_path, monkeypatch):
    def read_text(self):
        raise OSError(5, "Input/output error")

    (tmp_path / "c.json").write_text("{}")
    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(ConfigError, match=r"c\.json cannot be read: Input/output error\.$"):
        config.load(str(tmp_path / "c.json"))


def test_differences():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": [5]}
    assert config.differences(old, new) == {"a.c": (2, 4), "d": (3, None), "e": (None, [5])}
