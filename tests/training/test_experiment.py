"""From a config to an experiment: what is wrong is said at once, and what is right has every default."""

import dataclasses
import json

import jax
import launch
import pytest

from seqjax import config
from seqjax.tasks.next_token import NextToken
from seqjax.training.experiment import Experiment, Schema, resolve
from seqjax.types import ConfigError


def test_resolving_twice_changes_nothing():
    tree = resolve(launch.tiny())
    assert resolve(tree) == tree == resolve(json.loads(json.dumps(tree)))
    assert set(tree) == {f.name for f in dataclasses.fields(Schema)}


def test_all_problems_are_listed_at_once():
    wrong = launch.tiny(
        "train.steps=0",
        "optim.learning_rate=-1",
        "loader.batch_size=0",
        "model.widht=3",
        "data.name=cpoy",
        "seed=x",
        "tarin.steps=3",
    )
    with pytest.raises(ConfigError) as error:
        resolve(wrong)
    text = str(error.value)
    assert text.startswith("7 problems")
    for words in ("train.steps: got 0", "optim.learning_rate: got -1", "loader.batch_size: got 0", "model.widht",
                  "'width'", "data.name", "'copy'", "seed: got 'x'", "tarin", "'train'"):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("key", ["data", "task", "model", "train"])
def test_a_missing_section_is_named(key):
    tree = launch.tiny()
    del tree[key]
    with pytest.raises(ConfigError, match=f"{key} is required and missing"):
        resolve(tree)


def test_sizes_travel_from_data_to_model():
    e = Experiment(resolve(launch.tiny("data.symbols=5")))
    assert e.source.spec.vocabulary == e.task.outputs() == e.model.head.keywords["outputs"] == 6
    params = e.shapes.params
    assert params["embedding"]["embedding"].shape == (6, 8) and params["head"]["kernel"].shape == (8, 6)


def test_an_error_of_the_source_is_not_one_of_the_model(monkeypatch):
    e = Experiment(resolve(launch.tiny()))
    monkeypatch.setattr(e.source, "size", lambda split: int("many"))
    with pytest.raises(ValueError, match="invalid literal for int") as error:
        e.shapes  # noqa: B018
    assert not isinstance(error.value, ConfigError)


def test_a_prefix_is_not_predicted():
    prefix = ("model.mixer.name=attention", "model.mixer.heads=2", "model.mixer.prefix=3")
    with pytest.raises(
        ConfigError,
        match=r"mixer\.prefix=3 lets .* task\.prompt_length=2 the model predicts .*: set task\.prompt_length=3",
    ):
        Experiment(resolve(launch.tiny(*prefix, "task.prompt_length=2")))
    assert Experiment(resolve(launch.tiny(*prefix, "task.prompt_length=3"))).model.prefix == 3


def test_evaluation_needs_a_validation_split(tmp_path):
    (tmp_path / "a.txt").write_text("abcab" * 40)
    data = {"name": "text", "path": str(tmp_path / "a.txt"), "length": 4, "validation": 0.0}
    with pytest.raises(ConfigError, match=r"train.eval_every=2 evaluates on validation, but data has only train, test"):
        Experiment(resolve(launch.tiny(f"data={data!r}", "train.eval_every=2")))


def test_of_the_shortest_bucket_something_is_left_to_read():
    with pytest.raises(
        ConfigError, match=r"loader.buckets=\[1, 7\]: the model predicts the next token, so it reads none of 1 token"
    ):
        Experiment(resolve(launch.tiny("loader.buckets=[1,7]")))


def test_the_length_that_a_task_gives_is_checked(monkeypatch):
    monkeypatch.setattr(NextToken, "length", lambda self, L: L)
    with pytest.raises(ConfigError, match=r"NextToken reads 6 of 7 tokens, but length\(7\)=7: return 6"):
        Experiment(resolve(launch.tiny())).shapes  # noqa: B018


def test_what_is_float32_is_not_made_float64():
    with jax.enable_x64(True), pytest.raises(ConfigError, match=r"JAX_ENABLE_X64 is set, .* float32: unset it"):
        Experiment(resolve(launch.tiny()))


def test_building_does_not_depend_on_what_was_built_before():
    """Two experiments of one config are equal where it counts: digest, batches, sizes."""
    a, b = (Experiment(resolve(launch.tiny())) for _ in range(2))
    assert config.digest(a.config) == config.digest(b.config)
    assert (a.batches[3]["tokens"] == b.batches[3]["tokens"]).all()
    assert a.model.inputs == b.model.inputs and a.task.outputs() == b.task.outputs()


def test_another_seed_is_another_experiment():
    a, b = (Experiment(resolve(launch.tiny(f"seed={seed}"))) for seed in (0, 1))
    assert config.digest(a.config) != config.digest(b.config)
    assert (a.batches[0]["tokens"] != b.batches[0]["tokens"]).any()
