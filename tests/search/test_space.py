"""Search spaces: what each domain draws, what a grid of them is, and what is refused before anything runs."""

import math
from pathlib import Path

import launch
import pytest

from seqjax import config
from seqjax.search import space as spaces
from seqjax.search.space import choice, integers, log, uniform
from seqjax.training.experiment import resolve
from seqjax.types import ConfigError

BASE = resolve(launch.tiny("train.eval_every=2"))
ROOT = Path(__file__).parents[2] / "experiments"
SWEEPS = sorted(file for file in ROOT.rglob("*.py") if "def sweep" in file.read_text())


class Fixed:
    """Stands for an Optuna trial: takes the value at a share of each domain, and remembers the names."""

    def __init__(self, share):
        self.share, self.drawn = share, {}

    def suggest_float(self, name, low, high, *, log):
        value = math.exp(math.log(low) + self.share * math.log(high / low)) if log else low + self.share * (high - low)
        return self.drawn.setdefault(name, value)

    def suggest_int(self, name, low, high):
        return self.drawn.setdefault(name, low + round(self.share * (high - low)))

    def suggest_categorical(self, name, labels):
        assert all(label is None or isinstance(label, (bool, int, float, str)) for label in labels)
        return self.drawn.setdefault(name, labels[round(self.share * (len(labels) - 1))])


SPACE = {
    "optim.learning_rate": log(1e-4, 1e-2),
    "model.dropout": uniform(0, 0.5),
    "model.layers": integers(1, 3),
    "model.width": choice(8, 16),
    "model.mixer": choice("gru", dict(name="attention", heads=choice(2, 4), max_length=integers(10, 20))),
}


@pytest.mark.parametrize(
    ("share", "want", "names"),
    [
        (0.0, (1e-4, 0.0, 1, 8, "gru", None), 5),
        (0.5, (1e-3, 0.25, 2, 8, "gru", None), 5),
        (1.0, (1e-2, 0.5, 3, 16, "attention", (4, 20)), 7),
    ],
)
def test_what_is_drawn_goes_into_the_config(share, want, names):
    """Also inside a section that was chosen, and only then."""
    trial = Fixed(share)
    tree = spaces.with_values(BASE, spaces.suggest(SPACE, trial))
    model, mixer = tree["model"], tree["model"]["mixer"]
    inner = (mixer["heads"], mixer["max_length"]) if mixer["name"] == "attention" else None
    found = (tree["optim"]["learning_rate"], model["dropout"], model["layers"], model["width"], mixer["name"], inner)
    assert found == pytest.approx(want) if inner is None else found[1:] == want[1:]
    assert len(trial.drawn) == names
    assert ("model.mixer(attention).heads" in trial.drawn) == (inner is not None)
    assert resolve(tree) == tree


def test_values_arrive_as_they_are():
    """Words that look like others, floats to the last bit, None and lists."""
    value = 0.1 + 0.2
    tree = spaces.with_values(BASE, {"optim.learning_rate": value, "train.eval_every": None, "loader.buckets": [4, 8]})
    assert tree["optim"]["learning_rate"] == value and tree["train"]["eval_every"] is None
    assert tree["loader"]["buckets"] == [4, 8]


def test_a_grid_is_every_combination_once():
    space = {"model.width": choice(8, 16), "model.mixer": choice("gru", dict(name="attention", heads=choice(1, 2)))}
    points = spaces.grid(space)
    mixers = [
        {"model.mixer": "gru"},
        *({"model.mixer": "attention", "model.mixer(attention).heads": h} for h in (1, 2)),
    ]
    assert points == [{"model.width": width} | mixer for width in (8, 16) for mixer in mixers]
    assert spaces.grid({"model.layers": integers(2, 4)}) == [{"model.layers": n} for n in (2, 3, 4)]
    with pytest.raises(ConfigError, match=r"optim\.learning_rate: log\(0\.1, 1\) has no grid points"):
        spaces.grid({"optim.learning_rate": log(0.1, 1)})


def test_labels_tell_all_values_apart():
    gru = lambda **options: dict(name="gru", **options)
    assert choice(gru(), dict(name="lstm"), "rnn").labels == ["gru", "lstm", "rnn"]
    assert choice(gru(layers=1), gru(layers=2)).labels == [
        '{"name": "gru", "layers": 1}',
        '{"name": "gru", "layers": 2}',
    ]
    assert choice(True, 2, None, [1, 2]).labels == [True, 2, None, "[1, 2]"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: log(0, 1), "0 < low"),
        (lambda: uniform(1, 1), "low < high"),
        (lambda: uniform(0, math.inf), "infinite"),
        (lambda: uniform("a", 1), "low: got 'a'"),
        (lambda: integers(1, 2.5), "whole"),
        (lambda: integers(1, True), "high: got True"),
        (lambda: choice(3), "at least two"),
        (lambda: choice(3, 3), "all different"),
        (lambda: choice(1, True), "all different"),
    ],
)
def test_what_is_no_domain(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_all_problems_are_listed_at_once():
    space = {
        "model.widht": choice(8, 16),
        "optim.learning_rate": uniform(-1, 1),
        "model.mixer": choice("gru", "gruu", dict(name="attention", heads=choice(2, "four"))),
        "model.layers": integers(1, 2),
        "optim.warmup_steps": choice(0, 100),
        "task.monitor": choice("loss", "accuracy"),
    }
    with pytest.raises(ConfigError) as error:
        spaces.check(BASE, space)
    text = str(error.value)
    for words in ("model.widht is not a key", "'width'", "optim.learning_rate: got -1", "'gruu'", "heads: got 'four'",
                  "optim.warmup_steps=100", "to 'accuracy', but one monitor must judge all trials"):  # fmt: skip
        assert words in text, (words, text)
    assert text.startswith("6 problems") and "layers" not in text.replace("Keys", "\0").split("\0")[0]
    section = choice(dict(name="next_token", monitor="accuracy"), dict(name="next_token", prompt_length=1))
    with pytest.raises(ConfigError, match=r"1 problem .*\n.*to 'accuracy', but one monitor must judge all trials"):
        spaces.check(BASE, {"task": section})
    spaces.check(BASE, SPACE)


def test_each_problem_is_that_of_a_member_of_the_space():
    """The config itself trains 4 steps, which no trial does."""
    for space in (
        {"train.steps": choice(100, 1000), "optim.warmup_steps": choice(0, 100)},
        {"optim.warmup_steps": choice(50, 100), "train.steps": choice(100, 1000)},
        {"model.mixer.heads": choice(2, 4), "model.mixer": choice("attention", "linear_attention")},
    ):
        spaces.check(BASE, space)
    with pytest.raises(ConfigError, match=r"1 problem .*\n.*optim\.warmup_steps=100 .* train\.steps=50") as error:
        spaces.check(BASE, {"train.steps": choice(50, 1000), "optim.warmup_steps": choice(0, 100)})
    assert "steps=4" not in str(error.value)


CONFIG = """
from seqjax.search.space import choice, log
def get_config(variant=""):
    return {tree!r}
"""


def test_a_space_is_read_from_beside_the_config(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(
        CONFIG.format(tree=launch.tiny()) + "def sweep():\n    return {'optim.learning_rate': log(0.1, 1)}\n"
    )
    assert spaces.read(str(file)) == spaces.read(f"{file}:tiny") == {"optim.learning_rate": log(0.1, 1)}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "has no search space: define sweep"),
        ("def sweep():\n    return {}\n", "has no search space"),
        ("def sweep():\n    return {'optim.learning_rate': 0.1}\n", "optim.learning_rate=0.1"),
        ("def sweep():\n    return {'optim.learning_rate': log(0, 1)}\n", "0 < low"),
        ("def sweep():\n    return nothing\n", "NameError"),
    ],
)
def test_what_is_no_space(tmp_path, body, words):
    file = tmp_path / "c.py"
    file.write_text(CONFIG.format(tree=launch.tiny()) + body)
    with pytest.raises(ConfigError, match=words):
        spaces.read(str(file))


def test_a_run_folder_has_no_space(tmp_path):
    file = launch.write(tmp_path / "config.json", BASE)
    with pytest.raises(ConfigError, match="has no search space"):
        spaces.read(file)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda f: f.stem)
def test_the_spaces_of_the_experiments_fit_their_configs(file):
    spaces.check(resolve(config.load(str(file))), spaces.read(str(file)))
