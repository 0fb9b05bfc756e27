"""The laws of every source that exists, found by their files."""

import functools
import json

import numpy as np
import pytest

from seqjax import lookup
from seqjax.data import tinyshakespeare
from seqjax.data.digits import Digits
from seqjax.embed.log_mel import LogMel
from seqjax.spec import DTYPES, Spec
from seqjax.tokenizers.bpe import Bpe
from seqjax.tokenizers.word import Word

# Name -> options to build it with; "FOLDER" stands for the fake files below. A new source needs a line here.
CASES = {
    "ag_news": [{"dir": "FOLDER"}],
    "banking77": [{"dir": "FOLDER"}],
    "cad_nli": [{"dir": "FOLDER"}, {"dir": "FOLDER", "test": "original", "tokenizer": "byte"}],
    "copy": [{}, {"length": 5, "min_length": 5, "symbols": 30, "seed": 7, "examples": 30}],
    "digits": [{}],
    "dyck": [{}, {"length": 20, "min_length": 20, "kinds": 3, "depth": 9, "examples": 30}],
    "ett": [{"dir": "FOLDER"}, {"dir": "FOLDER", "lookback": 5, "horizon": 3}],
    "fsdd": [
        {"dir": "FOLDER"},
        {"dir": "FOLDER", "features": LogMel, "label": "speaker"},
        {"dir": "FOLDER", "features": None, "held_out": "bob"},
    ],
    "goemotions": [{"dir": "FOLDER"}],
    "folds": [{"of": Digits, "folds": 4, "fold": 2}],
    "modular_addition": [{}, {"length": 16, "min_length": 16, "modulus": 12, "seed": 7, "examples": 30}],
    "mqar": [
        {"examples": 30},
        {"length": 40, "pairs": 9, "vocabulary": 500, "filler": "zero", "train_examples": 40, "examples": 30},
    ],
    "names": [{"dir": "FOLDER"}],
    "pairs": [
        {"train": "FOLDER/pairs.{}", "validation": "FOLDER/dev.{}", "source": "en", "target": "de"},
        {
            "train": "FOLDER/pairs.tsv",
            "tokenizer": functools.partial(Word, min_count=1),
            "source_tokenizer": "character",
        },
    ],
    "parity": [{}, {"length": 40, "min_length": 40, "seed": 7, "examples": 30}],
    "recall": [{}, {"pairs": 3, "keys": 40, "values": 50, "examples": 30}],
    "reference": [{}, {"length": 100, "tokenizer": "byte"}],
    "reverse": [{}, {"length": 5, "min_length": 5, "symbols": 30, "seed": 7, "examples": 30}],
    "s5": [{}, {"length": 12, "degree": 4, "examples": 30}, {"length": 40, "generators": "two", "examples": 30}],
    "selective_copy": [{}, {"length": 40, "min_length": 9, "count": 9, "symbols": 4, "examples": 30}],
    "sst2": [{"dir": "FOLDER"}],
    "table": [
        {"train": "FOLDER/pairs.jsonl", "text": "text", "source": "source", "labels": "labels", "tokenizer": "byte"},
        {
            "train": "FOLDER/train.csv",
            "validation": "FOLDER/dev*.jsonl",
            "text": "text",
            "tokenizer": functools.partial(Word, min_count=1),
        },
        {"train": "FOLDER/train.csv", "validation": "FOLDER/dev*.jsonl", "text": "text", "label": "class"},
        {"train": "FOLDER/train.csv", "text": "text", "tokenizer": "byte"},
        {"train": "FOLDER/dev*.jsonl", "features": "numbers", "label": "class"},
    ],
    "tagged": [
        {"dir": "FOLDER", "train": "names.conll", "validation": "more.conll", "scheme": "bioes"},
        {"train": "FOLDER/lists*.jsonl", "word_column": "words", "tag_column": "tags", "tokenizer": "byte"},
    ],
    "text": [
        {"path": "FOLDER/some.txt", "length": 16},
        {"path": "FOLDER/some.txt", "length": 5, "tokenizer": functools.partial(Bpe, vocabulary=265)},
        {"path": "FOLDER/some.txt", "length": 7, "tokenizer": "byte", "test": 0.0, "validation": 0.3},
    ],
    "tinyshakespeare": [{"dir": "FOLDER", "length": 16}],
    "ud": [{"dir": "FOLDER", "treebank": "ud_toy"}, {"dir": "FOLDER", "treebank": "ud_toy", "column": "xpos"}],
}


def cases():
    for name in lookup.names("seqjax.data"):
        for number, options in enumerate(CASES.get(name, [None])):
            yield pytest.param((name, options), id=f"{name}{number}")


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory, fake_text, write_shakespeare, write_names, write_ett, write_treebank, write_fsdd, write_texts
):
    folder = tmp_path_factory.mktemp("data")
    (folder / "some.txt").write_text(fake_text, encoding="utf-8")
    write_shakespeare(folder, fake_text)
    write_names(folder)
    write_ett(folder)
    write_treebank(folder)
    write_fsdd(folder)
    write_texts(folder)
    pairs = [{"text": f"{i} é", "source": "so" * (i + 1), "labels": ["a", "b", "c"][: i % 4]} for i in range(9)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    lines = ["text,class", *(f'"record {i}, of train",{"abc"[i % 3]}' for i in range(30))]
    (folder / "train.csv").write_text("\n".join(lines))
    for name, count in (("pairs", 20), ("dev", 5)):
        sides = [[f"{side} {name} {i}" for i in range(count)] for side in ("source", "target é")]
        for suffix, lines in (("en", sides[0]), ("de", sides[1]), ("tsv", map("\t".join, zip(*sides, strict=True)))):
            (folder / f"{name}.{suffix}").write_text("\n".join(lines))
    for part in range(2):
        records = [
            {"text": f"validation {part} {i} é", "class": "abc"[i % 3], "numbers": [0.5 * i, part, 2] + [1] * i}
            for i in range(10)
        ]
        (folder / f"dev{part}.jsonl").write_text("\n".join(map(json.dumps, records)))
    for name, sentences in (
        ("names", ("Ann B-x|Lee I-x|runs O", "Ann B-x|runs O", "Ann B-x")),
        ("more", ("Ann B-x|is O",)),
    ):
        lines = "\n\n".join(sentences).replace("|", "\n") + "\n"
        (folder / f"{name}.conll").write_text(lines)
    lists = [{"words": ["Ann", "é" * n], "tags": ["B-x", "O"]} for n in (1, 2)]
    (folder / "lists.jsonl").write_text("\n".join(map(json.dumps, lists)))
    return folder


@pytest.fixture(scope="module", params=cases())
def build(request, folder, fake_text_sha256):
    """Builds the source of one case."""
    name, options = request.param
    if options is None:
        pytest.fail(f"source {name!r} has no line in CASES of {__file__}: add options to build it with.")
    if name in ("digits", "folds"):
        pytest.importorskip("sklearn")
    options = {k: v.replace("FOLDER", str(folder)) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tinyshakespeare, "SHA256", fake_text_sha256)
        yield lambda: lookup.find(name, "seqjax.data", "Source")(**options)


@pytest.fixture(scope="module")
def source(build):
    return build()


def finite(source):
    return [split for split in source.spec.splits if source.size(split) is not None]


def indices(source, split, most=100):
    size = source.size(split)
    return range(most) if size is None else np.linspace(0, size - 1, min(size, most)).astype(int)


def examples(source, most=100):
    return [source.example(split, i) for split in source.spec.splits for i in indices(source, split, most)]


def sequence(example):
    return example["tokens"] if "tokens" in example else example["features"]


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_says_what_it_is(source):
    assert isinstance(source.spec, Spec)
    first = type(source).__doc__.split("\n")[0]
    assert first.endswith(".") and ": " in first and len(first) < 120
    assert source.spec.splits[0] == "train"
    assert set(source.spec.splits) <= {"train", "validation", "test"}


def test_an_example_is_a_pure_function_of_split_and_index(build, source):
    other = build()
    for split in source.spec.splits:
        for index in [*indices(source, split, 10)][::-1]:
            same(source.example(split, index), other.example(split, int(index)))
            same(source.example(split, index), source.example(split, index))


def test_nobody_can_write_into_a_source(source):
    for split in source.spec.splits:
        before = {k: np.copy(v) for k, v in source.example(split, 0).items()}
        for value in source.example(split, 0).values():
            if np.ndim(value) and value.flags.writeable:
                value[...] = 0
        same(before, source.example(split, 0))


def test_endless_splits_take_any_index_and_repeat_none(source):
    for split in set(source.spec.splits) - set(finite(source)):
        seen = {sequence(source.example(split, i)).tobytes() for i in (0, 1, 2**32, 2**63, 2**64 - 1)}
        assert len(seen) > 1
        with pytest.raises(IndexError):
            source.example(split, -1)


def test_finite_splits_end(source):
    for split in finite(source):
        assert source.size(split) > 0
        for index in (source.size(split), -1):
            with pytest.raises(IndexError):
                source.example(split, index)


def test_values_fit_the_spec(source):
    """Dtypes, too: the loader would convert them, but a source that already has the right ones is faster."""
    spec = source.spec
    for example in examples(source):
        assert example.keys() == spec.fields.keys()
        for name, field in spec.fields.items():
            value = example[name]
            if field.axis is None and field.kind == "real":
                assert value.dtype == np.float32 and value.shape == field.shape and np.isfinite(value).all()
                continue
            if field.axis is None and field.kind == "bool":
                assert value.dtype == bool and value.shape == field.shape
                continue
            if field.axis is None:
                assert isinstance(value, (int, np.integer)) and 0 <= value < field.size
                continue
            assert value.dtype == DTYPES[field.kind] and value.shape[1:] == field.shape
            assert len(value) == len(example[spec.axes[field.axis]]) <= spec.lengths[field.axis]
            if field.kind == "ids":
                assert value.min() >= 0 and value.max() < field.size
            if field.kind == "real":
                assert np.isfinite(value).all()
        if "scored" in example:
            # No token predicts the first; but the tag of a word stands at its first piece.
            words = "tags" in spec.fields and bool(spec.fields["tags"].names)
            assert example["scored"].any() and example["scored"][0] == words


def test_every_class_is_in_train(source):
    if source.spec.classes is not None:
        labels = {int(source.example("train", i)["label"]) for i in range(source.size("train"))}
        assert labels == set(range(source.spec.classes)) == set(range(len(source.classes)))


def test_counts_are_those_of_train(source):
    spec = source.spec
    if (name := {"label", "labels"} & spec.fields.keys()) and source.size("train") is not None:
        values = [source.example("train", i)[min(name)] for i in range(source.size("train"))]
        hot = np.eye(spec.classes)[values] if "label" in name else np.array(values)
        assert spec.counts == tuple(hot.sum(axis=0)) or spec.counts is None


def test_lengths_are_the_real_ones_and_the_spec_has_the_longest(source):
    longest = max(len(sequence(e)) for e in examples(source))
    for split in finite(source):
        real = [len(sequence(source.example(split, i))) for i in range(source.size(split))]
        both = [max(n, len(source.example(split, i).get("source", ()))) for i, n in enumerate(real)]
        np.testing.assert_array_equal(source.lengths(split), both)
        longest = max(longest, *real)
    assert longest == source.spec.length


def test_finite_splits_share_no_example(source):
    owner = {}
    for split in finite(source):
        for index in range(source.size(split)):
            example = source.example(split, index)
            key = (sequence(example).tobytes(), int(example.get("label", 0)))
            assert owner.setdefault(key, split) == split


def test_text_survives_encoding(source):
    if source.spec.unit not in ("character", "byte", "word", "subword"):
        with pytest.raises(NotImplementedError, match="has no text"):
            source.encode("a")
        with pytest.raises(NotImplementedError, match="has no text"):
            source.decode(np.zeros(1, np.int32))
        return
    for index in indices(source, "train", 5):
        text = source.decode(source.example("train", index)["tokens"])
        ids = source.encode(text)
        assert ids.dtype == np.int32
        assert text and source.decode(ids) == text


def test_baselines_are_numbers(source):
    for split in finite(source):
        for metric, values in source.baselines(split).items():
            per = (f"bits_per_{source.spec.unit}", "bits_per_character")
            assert metric in ("accuracy", "unknown_accuracy", "strict_f1", "lenient_f1", "loss", *per)
            assert all(isinstance(v, float) and 0 < v < 50 for v in values.values())
