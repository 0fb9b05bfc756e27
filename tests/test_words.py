"""A word of the command line is read by the type of its key."""

from typing import Annotated, Any, Literal

import launch
import pytest

from seqjax import config
from seqjax.commands import verify_resume
from seqjax.search import plan
from seqjax.search.executors import named
from seqjax.training.experiment import Schema, resolve
from seqjax.types import Count, Part, Range, mismatch
from seqjax.words import Word, read, settled

MIXER = Annotated[Any, Part("seqjax.mixers", "Mixer", many=True)]


@pytest.mark.parametrize(
    ("hint", "word", "value"),
    [
        (str, "0", "0"),
        (str, "2024", "2024"),
        (str, "None", "None"),
        (str, "true", "true"),
        (str, "[a]", "[a]"),
        (str, "'quoted'", "quoted"),
        (str | None, "0", "0"),
        (str | None, "None", None),
        (str | None, "null", None),
        (str | None, '"None"', "None"),
        (str | None, "1e3", "1e3"),
        (str | None, "'", "'"),
        (float | str | None, "2000", 2000),
        (float | str | None, "gru", "gru"),
        (int | None, "none", None),
        (float, "1e999", "1e999"),
        (float, "inf", float("inf")),
        (Literal["none", "median"], "none", "none"),
        (Literal["best"] | Count, "best", "best"),
        (Literal["best"] | Count, "7", 7),
        (tuple[str, ...], "[embedding,head]", ["embedding", "head"]),
        (tuple[str, ...], "(embedding, head)", ["embedding", "head"]),
        (tuple[str, ...], '["embedding","head"]', ["embedding", "head"]),
        (tuple[str, ...], "[0,None]", ["0", "None"]),
        (tuple[str, ...], "[]", []),
        (tuple[Count, ...], "[8,16]", [8, 16]),
        (MIXER, "[gru,attention]", ["gru", "attention"]),
        (MIXER, "gru", "gru"),
        (dict, "{'b2': 0.95}", {"b2": 0.95}),
        (Any, "0", 0),
    ],
)
def test_a_word_is_read_by_its_type(hint, word, value):
    assert read(hint, Word(word)) == value and type(read(hint, Word(word))) is type(value)


@pytest.mark.parametrize(
    ("hint", "word", "words"),
    [
        (Count | None, "0", "got 0, wanted an int of at least 1, or None"),
        (Annotated[float, Range(above=0, below=9)], "9", "got 9, wanted a float above 0 and below 9"),
        (tuple[str, ...], "head", "got 'head', wanted a list, each a str: write [head]"),
        (Count, str(2**31), "got 2147483648, wanted an int of at least 1: the largest int is 2147483647"),
        (Count, "many", "got 'many', wanted an int of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(hint, word, words):
    assert mismatch(hint, read(hint, Word(word))) == words


def test_words_of_a_config(tmp_path):
    """Through the sections of a config, parts and lists of parts; what a file says is never read again."""
    table = {"name": "table", "train": "t.csv"}
    words = [
        "data.text=0",
        "data.train=2024",
        "data.label='None'",
        "init.fresh=[head]",
        "init.run=7",
        "optim.options.b2=0.9",
    ]
    tree = resolve(config.override(launch.TINY | {"data": table}, words))
    assert (tree["data"]["text"], tree["data"]["train"], tree["data"]["label"]) == ("0", "2024", "None")
    assert (tree["init"]["fresh"], tree["init"]["run"], tree["optim"]["options"]) == (["head"], "7", {"b2": 0.9})
    words = ["model.layers=2", "model.mixer=[gru,attention]", "model.mixer.1.max_length=40"]
    mixers = resolve(config.override(launch.TINY, words))["model"]["mixer"]
    assert [m["name"] for m in mixers] == ["gru", "attention"] and mixers[1]["max_length"] == 40
    mixer = resolve(config.override(launch.TINY, ["model.mixer={'name':'attention'}", "model.mixer.heads=2"]))["model"][
        "mixer"
    ]
    assert mixer["heads"] == 2
    with pytest.raises(config.ConfigError, match=r"train\.steps: got '8', wanted an int"):
        resolve(config.override(launch.TINY, {"train.steps": "8"}))
    file = launch.write(tmp_path / "c.json", launch.TINY)
    outcome = launch.main("train", "--config", file, "--config.train.eval_every=0", "--print_config")
    assert "train.eval_every: got 0, wanted an int of at least 1, or None" in outcome.err


def test_values_are_taken_as_they_are():
    """Of a sweep and of a contender: no text stands between."""
    tree = {"data": {"text": "a"}}
    assert config.override(tree, {"data.text": "0", "data.label": None, "b": (1, 2)}) == {
        "data": {"text": "0", "label": None},
        "b": [1, 2],
    }


def test_words_of_a_comparison_are_read_by_the_type_of_its_base():
    tree = config.override(
        {"base": launch.TINY}, ["base.init.run=7", "base.train.steps=9", "seeds=[3,4,5]", "target=gru"]
    )
    found = plan.settled(tree)
    assert found["base"]["init"] == {"run": "7"} and found["base"]["train"]["steps"] == 9
    assert found["seeds"] == [3, 4, 5] and found["target"] == "gru"
    assert settled(Schema, launch.TINY) == launch.TINY


def test_words_of_an_executor():
    made = named("slurm", 1, ["account=007", "options=[constraint=a100]", "minutes=5"])
    assert made.args[1] | {"account": "007", "options": ["constraint=a100"], "minutes": 5} == made.args[1]


@pytest.mark.parametrize("key", [*verify_resume.SET, "train"])
def test_what_verify_resume_sets_is_not_taken_in_silence(tmp_path, key):
    file = launch.write(tmp_path / "c.json", launch.TINY)
    outcome = launch.main("verify-resume", "--config", file, f"--config.{key}=40")
    assert outcome.code == 2 and f"--config.{key}=40: verify-resume sets train." in outcome.err
