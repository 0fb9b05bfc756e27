"""Pairs of texts: read from two files or two columns, trained on, and translated."""

import dataclasses
import functools
import gzip
import json
import re

import launch
import numpy as np
import pytest

from seqjax.data import pairs
from seqjax.evaluators.loss import Loss
from seqjax.tokenizers.bpe import Bpe
from seqjax.tokenizers.word import Word
from seqjax.training import tokenizer_file
from seqjax.training.trained import Trained
from seqjax.training.workdir import Workdir
from seqjax.types import DataError

LINES = [("a cat", "eine Katze"), ("the dog", "der Hund"), ("a dog, a cat", "ein Hund, eine Katze"), ("cat", "Katze!")]
words = functools.partial(Word, min_count=1)


def two_files(folder, split, lines=LINES, packed=False):
    """A path that stands for both files."""
    for side, texts in zip(("en", "de"), zip(*lines, strict=True), strict=True):
        content = "".join(f"{text}\n" for text in texts).encode()
        (folder / f"{split}.{side}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    return str(folder / f"{split}.{{}}{'.gz' * packed}")


def columns(folder, split, lines=LINES):
    (folder / f"{split}.tsv").write_text("".join(f"{s}\t{t}\r\n" for s, t in lines))
    return str(folder / f"{split}.tsv")


TOKENIZERS = {
    "one alphabet": {},
    "one of words": dict(tokenizer=words),
    "two": dict(tokenizer=words, source_tokenizer="character"),
    "subwords": dict(tokenizer=functools.partial(Bpe, vocabulary=270), source_tokenizer="byte"),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_both_sides_are_text_between_marks(tmp_path, kind):
    files = dict(train=two_files(tmp_path, "train", packed=True), validation=two_files(tmp_path, "dev"))
    source = pairs.Source(**files, source="en", target="de", **TOKENIZERS[kind])
    same = pairs.Source(train=columns(tmp_path, "train"), **TOKENIZERS[kind])
    for split in ("train", "validation"):
        for i, (text, answer) in enumerate(LINES):
            example = source.example(split, i)
            for name, value in same.example("train", i).items():
                np.testing.assert_array_equal(example[name], value)
            spaced = answer.replace(",", " ,").replace("!", " !") if source.codec.tokens.unit == "word" else answer
            assert source.decode(example["tokens"]) == spaced
            np.testing.assert_array_equal(source.encode(text, "source"), example["source"])
            begin, *_, end = example["tokens"]
            assert end == source.spec.end == example["tokens"][-1] and begin not in example["tokens"][1:]
            assert np.count_nonzero(example["tokens"] == end) == 1
            if "span" in source.spec.fields:
                assert example["span"].sum() == len(answer) and example["span"][0] == example["span"][-1] == 0
    shown = source.decode(source.example("train", 2)["source"], "source")
    assert shown == ("a dog , a cat" if kind == "one of words" else "a dog, a cat")


def test_one_tokenizer_reads_both_sides_and_only_train(tmp_path):
    more = [*LINES, ("xylophone", "Xylophon")]
    source = pairs.Source(train=columns(tmp_path, "train"), validation=columns(tmp_path, "dev", more))
    assert source.codec.shared and source.spec.vocabulary == source.spec.source_vocabulary
    unknown = source.codec.tokens.unknown
    assert (source.example("validation", 4)["source"] == unknown).sum() == len("xylp")
    assert any(note.startswith("source: ") and "of validation" in note for note in source.notes)


def test_a_pair_with_an_empty_side_is_an_error_or_dropped(tmp_path):
    path = two_files(tmp_path, "train", [*LINES[:2], ("cat", " "), *LINES[2:]])
    with pytest.raises(DataError, match=r"train\.en and train\.de, line 3: the target is empty: fill it in"):
        pairs.Source(train=path, source="en", target="de")
    source = pairs.Source(train=path, source="en", target="de", empty="drop")
    assert source.size("train") == len(LINES)
    np.testing.assert_array_equal(source.example("train", 2)["source"], source.encode(LINES[2][0], "source"))
    with pytest.raises(DataError, match="no pair has two sides that are not empty"):
        pairs.Source(train=two_files(tmp_path, "none", [("", "a")]), source="en", target="de", empty="drop")


def test_what_does_not_pair_is_a_sentence(tmp_path):
    path = two_files(tmp_path, "train")
    (tmp_path / "train.de").write_text("eins\nzwei\n")
    with pytest.raises(DataError, match=r"train\.en has 4 lines, and .*train\.de has 2: line n of one must pair"):
        pairs.Source(train=path, source="en", target="de")
    (tmp_path / "three.tsv").write_text("a\tb\na\tb\tc\n")
    with pytest.raises(DataError, match=r"three\.tsv, line 2: got 3 columns, wanted 2 with a tab between them"):
        pairs.Source(train=str(tmp_path / "three.tsv"))
    with pytest.raises(DataError, match=r"train\.fr does not exist"):
        pairs.Source(train=path, source="fr", target="de")
    for given in (dict(source="en"), {}, dict(target="de")):
        with pytest.raises(ValueError, match="name both for a path with"):
            pairs.Source(train=path, **given)
    with pytest.raises(ValueError, match="and none for a file with two columns"):
        pairs.Source(train=columns(tmp_path, "train"), source="en", target="de")


def test_too_uneven_pairs_of_train_are_dropped(tmp_path):
    uneven = [*LINES, ("a", "ein Satz mit vielen Wörtern"), ("one two three four", "vier")]
    files = dict(train=columns(tmp_path, "train", uneven), validation=columns(tmp_path, "dev", uneven))
    source = pairs.Source(**files, tokenizer=words, max_length_ratio=3.0)
    assert source.size("train") == len(LINES) and source.size("validation") == len(uneven)
    assert len(source.example("train", 3)["span"]) == len(source.example("train", 3)["tokens"])
    assert "2 of the 6 pairs of train were dropped: max_length_ratio" in source.notes
    with pytest.raises(DataError, match=r"no pair of train has data\.max_length_ratio=1\.0 or less: raise it"):
        pairs.Source(train=columns(tmp_path, "train", uneven[-1:]), tokenizer=words, max_length_ratio=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps, which writes answers by beam search; and its config."""
    folder = tmp_path_factory.mktemp("pairs")
    data = dict(name="pairs", train=columns(folder, "train", LINES * 4), validation=columns(folder, "dev"))
    data |= dict(tokenizer=dict(name="word", min_count=1), source_tokenizer=dict(name="character"))
    beam = dict(name="generate", examples=4, samples=4, decoder=dict(name="beam", beam_size=2))
    tree = (
        launch.tiny("train.steps=2", "loader.buckets=[8,24]", "loader.places=48", "loader.batch_size=2")
        | launch.PAIRS
        | dict(data=data, evaluators=beam)
    )
    file = launch.write(folder / "config.json", tree)
    done = launch.main("train", "--config", file, "--workdir", folder / "run")
    assert done.code == 0, done.err
    return folder / "run", tree


def test_a_run_saves_both_tokenizers_and_shows_its_sources_as_text(run):
    folder, _ = run
    (path,) = folder.glob(tokenizer_file.PATTERN)
    state = json.loads(path.read_text())["state"]
    assert state.keys() == {"source", "tokens"} and state["tokens"]["words"][0] == "Katze"
    assert tokenizer_file.of_run(Workdir(folder)) == path.read_bytes() == Trained.load(folder).experiment.tokenizer
    rows = json.loads((folder / "samples.json").read_text())
    assert [row["source"] for row in rows] == [text for text, _ in LINES]
    assert rows[1]["wanted"] == "der Hund" and rows[1]["beam_size"] == 2
    done = launch.main("generate", "--workdir", folder, "--samples", 2)
    assert done.code == 0 and "a cat" in done.out and "eine Katze" in done.out
    dry = launch.main("train", "--config", folder / "config.json", "--dry_run")
    assert dry.code == 0 and re.search(r"first source +'.*(cat|dog)", dry.out)


def test_rows_of_another_number_have_the_same_loss(run):
    """Batches of 6 and of 2 rows, and of 2 rows only."""
    trained = Trained.load(run[0])
    e = trained.experiment
    assert {len(batch["weight"]) for batch, _ in e.batches.kinds} == {6, 2}
    parts = dict(model=e.model, task=e.task, source=e.source, seed=0)
    loaders = (e.loader, dataclasses.replace(e.loader, places=None))
    evaluate = lambda loader: Loss(**parts, loader=loader).over("validation", trained.layout)
    how = dict(on_batch=lambda done: None, give_up=lambda: False, write=None)
    more, same = (evaluate(loader)(trained.params, 2, **how) for loader in loaders)
    assert more == pytest.approx(same, rel=1e-5)


def test_a_run_that_begins_with_another_reads_its_tokenizers(run):
    folder, _ = run
    content = tokenizer_file.of_run(Workdir(folder))
    asks = lambda **data: tokenizer_file.to_read(
        {"init": {"run": str(folder)}, "data": Workdir(folder).config()["data"] | data}
    )
    assert asks() == content and asks(source_tokenizer=None) is None
    assert asks(tokenizer=dict(name="word", min_count=2, vocabulary=None, punctuation=True)) is None


def translate(folder, *args):
    return launch.main("translate", "--workdir", folder, *args)


def test_each_line_gives_its_translation_whatever_stands_beside_it(run, tmp_path):
    folder, _ = run
    lines = ["a cat", "the dog, the cat, a dog", " ", "dog", "a"]
    (tmp_path / "in").write_text("\n".join(lines) + "\n")
    done = translate(folder, "--in", tmp_path / "in", "--out", tmp_path / "out", "--beam", 2, "--batch_size", 2)
    assert done.code == 0 and "5 lines in" in done.err and "1 of 5 lines were empty" in done.err
    out = (tmp_path / "out").read_text().split("\n")[:-1]
    assert len(out) == 5 and out[2] == ""
    for line, text in zip(lines, out, strict=True):
        (tmp_path / "one").write_text(line)
        args = ("--in", tmp_path / "one", "--beam", 2, "--batch_size", 2)
        alone = translate(folder, *args)
        assert alone.out == f"{text}\n"
    several = translate(folder, *args, "--n_best", 2).out.splitlines()
    number, best, score = several[0].split(" ||| ")
    assert (number, best) == ("1", out[-1]) and float(score) < 0 and len(several) == 2
    endless = translate(folder, *args, "--tokens", 1, "--penalty", "none")
    assert endless.code == 0
    assert ("1 of 1 lines were given an answer that did not end within its limit: line 1" in endless.err) == (
        endless.out != "\n"
    )


def test_what_cannot_be_translated_is_a_sentence(run, tmp_path):
    folder, _ = run
    (tmp_path / "long").write_text("cat\n" + "a dog, " * 9)
    done = translate(folder, "--in", tmp_path / "long")
    assert (
        done.code == 3 and "long, line 2: the line has 64 tokens, and the model was trained on at most 24" in done.err
    )
    for args, code, words in (
        (("--in", tmp_path / "none"), 3, "none does not exist"),
        (("--in", tmp_path / "long", "--beam", 0), 2, "beam_size: got 0"),
        (("--in", tmp_path / "long", "--beam", 2, "--n_best", 3), 2, "n_best=3 is larger than beam_size=2"),
        (("--in", tmp_path / "long", "--penalty", "gmt"), 2, "penalty"),
        (("--in", tmp_path / "long", "--batch_size", 0), 2, "wanted at least 1"),
    ):
        done = translate(folder, *args)
        assert done.code == code and words in done.err, done
