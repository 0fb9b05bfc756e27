"""The field's usual words lead to our keys, and a hint never leads astray."""

import json

import launch
import pytest

from seqjax import hints, lookup
from seqjax.search.plan import Comparison
from seqjax.training.experiment import Schema
from seqjax.types import Injected, Part, fields_of, listed, marker


def exists(hint, keys) -> bool:
    """Whether a section can have a key, given the annotation of the section."""
    if not keys or hint is dict:
        return True
    hint = listed(hint) or hint
    part = marker(hint, Part)
    targets = [lookup.find(n, part.package, part.symbol) for n in lookup.names(part.package)] if part else [hint]
    found = [fields_of(target)[keys[0]][0] for target in targets if keys[0] in fields_of(target)]
    return any(marker(one, Injected) is None and exists(one, keys[1:]) for one in found)


@pytest.mark.parametrize("key", [*hints.WORDS, *hints.COMPARED])
def test_every_key_of_the_table_exists(key):
    if key == "--workdir":
        assert key in launch.main("train", "--help").out
    else:
        assert exists(Schema, key.partition("=")[0].split("."))


def test_a_comparison_has_the_keys_of_its_own():
    assert {key.partition("=")[0] for key in hints.COMPARED.values()} <= set(fields_of(Comparison))


def test_no_word_means_two_keys():
    words = [hints.plain(word) for words in (*hints.WORDS.values(), hints.SIZES) for word in words.split()]
    assert len(words) == len(set(words)) and set(words) == set(hints.KEYS) | hints.FROM_DATA


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("train", "--lr", "3e-4"), "Did you mean --config.optim.learning_rate=3e-4?"),
        (("train", "--lr=3e-4", "--workdir", "x"), "Did you mean --config.optim.learning_rate=3e-4?"),
        (("train", "--learning-rate", "3e-4"), "Did you mean --config.optim.learning_rate=3e-4?"),
        (("train", "optim.lr=3e-4"), "Did you mean --config.optim.learning_rate=3e-4?"),
        (("train", "--optim.learning_rate=3e-4"), "Did you mean --config.optim.learning_rate=3e-4?"),
        (("train", "--model.mixer.mixer.heads", "2"), "Did you mean --config.model.mixer.mixer.heads=2?"),
        (("train", "--hidden_size"), "Did you mean --config.model.width=VALUE?"),
        (("train", "--batch_size", "--workdir"), "argument --workdir"),
        (("train", "--bf16", "--lr", "3"), "Did you mean --config.model.dtype=bfloat16?"),
        (("train", "--epochs", "3"), "Did you mean --config.train.steps=STEPS?"),
        (("train", "--seed", "3"), "Did you mean --config.seed=3?"),
        (("train", "--output_dir", "a b"), "Did you mean --workdir='a b'?"),
        (("train", "--vocab_size", "9"), "Sizes come from the data: leave it out."),
        (("train", "--kills", "3"), "'seqjax verify-resume' has this option."),
        (("train", "quickstart.py:gru"), "Did you mean --config quickstart.py:gru?"),
        (("sweep", "--workdir", "x", "--batch_size", "8"), "Did you mean --config.loader.batch_size=8?"),
        (("compare", "--batch_size", "8"), "Did you mean --config.base.loader.batch_size=8?"),
        (("compare", "--lr", "3e-4"), "Did you mean --config.learning_rates=LIST?"),
        (("trian",), "Did you mean 'train'?"),
        (("list", "mixer"), "Did you mean 'mixers'?"),
    ],
    ids=" ".join,
)
def test_a_word_on_the_command_line(words, hint):
    outcome = launch.main(*words)
    assert outcome.code == 2 and hint in outcome.err.splitlines()[-1]


def test_a_command_that_sets_the_learning_rates_itself_does_not_offer_it():
    """Nor does a short word lead to an option that only shares its dashes."""
    outcome = launch.main("fingerprint", "--lr", "3e-4")
    assert outcome.code == 2 and "'--lr' is not an option of 'seqjax fingerprint'. See" in outcome.err


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("optim.lr=1", "optim.lr is not a key. Did you mean 'learning_rate'?"),
        ("lr=1", "lr is not a key. Did you mean 'optim.learning_rate'?"),
        ("train.learning_rate=1", "train.learning_rate is not a key. Did you mean 'optim.learning_rate'?"),
        ("model.hidden_size=1", "model.hidden_size is not a key. Did you mean 'width'?"),
        ("model.mixer.d_model=1", "model.mixer.d_model is not a key. Did you mean 'model.width'?"),
        ("model.num_heads=1", "model.num_heads is not a key. Did you mean 'model.mixer.heads'?"),
        ("model.mixer.num_heads=1", "model.mixer.num_heads is not a key. Keys of 'gru'"),  # which has none
        ("train.epochs=1", "train.epochs is not a key. Did you mean 'steps=STEPS'?"),
        ("train.batch_size=1", "train.batch_size is not a key. Did you mean 'loader.batch_size'?"),
        ("model.vocab_size=1", "model.vocab_size is not a key. Sizes come from the data: leave it out."),
        ("model.widht=1", "model.widht is not a key. Did you mean 'width'?"),
        ("data.seq_len=1", "data.seq_len is not a key. Did you mean 'length'?"),
        ("data.file=x", "data.file is not a key. Keys of 'copy'"),
    ],
)
def test_an_unknown_key(tmp_path, assignment, said):
    file = launch.write(tmp_path / "c.json", launch.tiny())
    outcome = launch.main("train", "--config", file, "--dry_run", f"--config.{assignment}")
    assert outcome.code == 2 and said in outcome.err


def test_a_comparison_is_not_offered_the_keys_of_a_config(tmp_path):
    file = launch.write(tmp_path / "c.json", {"base": launch.tiny(), "contenders": {}, "rates": [1, 2]})
    outcome = launch.main("compare", "--config", file, "--dry_run", "--config.lr=3")
    assert outcome.code == 2 and "lr is not a key. Keys: base" in outcome.err


def test_what_a_section_loses_that_is_named_anew_is_said(tmp_path):
    tree = launch.tiny("model.mixer=attention", "model.mixer.heads=2", "loader.buckets=[4,8]")
    train = ("train", "--config", launch.write(tmp_path / "c.json", tree), "--print_config")
    text = ("--config.data=text", "--config.data.path=a.txt")
    outcome = launch.main(*train, *text, "--config.loader.buckets=[4]")
    assert outcome.code == 0 and json.loads(outcome.out)["data"]["length"] != 3
    assert outcome.err == (
        "note: --config.SECTION=NAME replaces a section and drops what the file set in it: data.length=3, "
        "data.symbols=4, data.examples=10; --config.SECTION.name=NAME keeps it.\n"
    )
    assert "model.mixer.heads=2;" in launch.main(*train, "--config.model.mixer=gru").err
    assert not launch.main(*train, "--config.model.mixer=gru", "--config.model.mixer.heads=2").err.count("drops")
    assert not launch.main(*train, "--config.model.mixer.name=attention", "--config.seed=3").err
    assert not launch.main(*train, *text, "--quiet").err
