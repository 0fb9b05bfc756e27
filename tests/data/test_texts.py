"""Texts with labels: columns of a table, data sets in their folders, and the linear models that are their baselines."""

import json
import re

import numpy as np
import pytest

from seqjax import lookup
from seqjax.data import ag_news, banking77, cad_nli, goemotions, sst2
from seqjax.data.digits import Digits
from seqjax.data.folds import Folds
from seqjax.data.table import Source
from seqjax.types import ConfigError, DataError


def table(tmp_path, name="train.jsonl", **splits):
    """The paths of tables with these records, by split."""
    paths = {}
    for split, records in splits.items():
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        paths[split] = str(path)
    return paths


def examples(source, split):
    return [source.example(split, i) for i in range(source.size(split))]


def test_a_column_of_lists_becomes_marks(tmp_path):
    train = [{"t": "a", "y": ["joy", "awe"]}, {"t": "b", "y": []}, {"t": "c", "y": ["fear"]}]
    source = Source(**table(tmp_path, train=train, test=[{"t": "d", "y": ["joy"]}]), text="t", labels="y")
    assert source.classes == ("awe", "fear", "joy") and source.spec.counts == (1, 1, 1) and source.spec.classes is None
    marks = [e["labels"].tolist() for split in ("train", "test") for e in examples(source, split)]
    assert marks == [[True, False, True], [False] * 3, [False, True, False], [False, False, True]]
    assert f"no label: {tmp_path}/train.jsonl, line 2" in source.notes
    (tmp_path / "t.csv").write_text('t,y\na,"awe, joy"\nb,\nc,fear\n')
    csv = Source(train=str(tmp_path / "t.csv"), text="t", labels="y")
    assert csv.classes == source.classes
    assert [e["labels"].tolist() for e in examples(csv, "train")] == marks[:3]
    (tmp_path / "t.csv").write_text("t,y\na,awe|joy\n")
    assert Source(train=str(tmp_path / "t.csv"), text="t", labels="y", label_separator="|").classes == ("awe", "joy")


def test_a_second_text_has_the_same_ids(tmp_path):
    paths = table(tmp_path, train=[{"a": "xyz", "b": "zz", "y": 1}, {"a": "y", "b": "w", "y": 2}])
    source = Source(**paths, text="b", source="a", label="y")
    first = source.example("train", 0)
    assert source.decode(first["source"]) == "xyz" and source.decode(first["tokens"]) == "zz"
    assert source.spec.source_vocabulary == source.spec.vocabulary == 5
    assert source.spec.lengths == {"L": 2, "S": 3} and source.example("train", 1)["source"].tolist() == [2]


@pytest.mark.parametrize(
    "records, options, line, words",
    [
        ([{"t": "a", "y": ["p", "p "]}], dict(labels="y"), 1, "the label 'p' is there twice: remove one of them"),
        ([{"t": "a", "y": ["p"]}, {"t": "b", "y": ["q", 3]}], dict(labels="y"), 2, "mixes strings and numbers"),
        ([{"t": "a", "y": 3}], dict(labels="y"), 1, "got 3 (int), wanted a list of labels, or a string with ',' in it"),
        ([{"t": "a", "y": ["p", ""]}], dict(labels="y"), 1, "the cell is empty"),
        ([{"t": "a", "y": ["p", ["q"]]}], dict(labels="y"), 1, "got ['q'] (list), wanted a string or a whole number"),
        ([{"t": "a", "s": ""}], dict(source="s"), 1, "column 's': the text is empty"),
        ([{"t": "a", "s": "b"}, {"t": "a"}], dict(source="s"), 2, "no column 's'"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, records, options, line, words):
    with pytest.raises(DataError, match=rf"line {line}\b") as error:
        Source(**table(tmp_path, train=records), text="t", **options)
    assert words in str(error.value), str(error.value)


def test_sets_of_labels_of_another_split(tmp_path):
    paths = table(tmp_path, train=[{"t": "a", "y": ["joy"]}], test=[{"t": "b", "y": ["joy", "jot"]}])
    with pytest.raises(DataError, match=r"test\.jsonl, line 1: label 'jot' is not among the 1 of train\. Did you mean"):
        Source(**paths, text="t", labels="y")
    with pytest.raises(DataError, match=r"column 'y': no record of train has a label: name another column"):
        Source(**table(tmp_path, train=[{"t": "a", "y": []}]), text="t", labels="y")


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(text="t", label="y", labels="y"), "got label='y' and labels='y': name one column"),
        (dict(features="t", source="s"), "source='s' is a second text beside a text"),
        (dict(text="t", labels="y", label_separator=" "), "label_separator=' ' is white space: name a sign"),
    ],
)
def test_columns_that_do_not_go_together(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Source(train="t.csv", **options)


WORDS = {"good": ["fine", "nice", "lovely"], "bad": ["awful", "poor", "sad"]}


def reviews(n, seed):
    draw = np.random.default_rng(seed)
    for i in range(n):
        label = ("good", "bad")[i % 2]
        yield {"t": f"a {draw.choice(WORDS[label])} film {draw.integers(99)}", "y": label, "s": f"seen {i % 3}"}


def test_linear_models_learn_what_the_words_say(tmp_path):
    pytest.importorskip("sklearn")
    paths = table(tmp_path, train=[*reviews(60, 0)], test=[*reviews(20, 1)])
    found = Source(**paths, text="t", label="y").slow_baselines("test")
    assert {one.name for one in found} == {"TF-IDF + logistic regression", "TF-IDF + linear SVM"}
    assert all(one.metrics == {"accuracy": 1, "macro_f1": 1} for one in found)
    assert all(one.parameters > 10 and one.seconds > 0 for one in found)


def test_of_pairs_they_tell_what_one_side_says(tmp_path):
    """The label is whether both texts have the same word: only the overlap says it."""
    pytest.importorskip("sklearn")

    def pairs(n, seed):
        draw = np.random.default_rng(seed)
        for i in range(n):
            same, one = i % 2, draw.integers(6)
            yield {
                "a": f"the word {one}x",
                "b": f"the word {one if same else (one + 1 + draw.integers(5)) % 6}x",
                "y": same,
            }

    paths = table(tmp_path, train=[*pairs(400, 0)], test=[*pairs(200, 1)])
    every = Source(**paths, text="b", source="a", label="y").slow_baselines("test")
    found = {one.name: one.metrics["accuracy"] for one in every}
    assert found["word overlap"] == 1 and found.keys() == {"word overlap", "only the text", "only the source"}
    assert all(abs(found[f"only the {side}"] - 0.5) < 0.15 for side in ("text", "source"))


def test_of_sets_of_labels_they_have_thresholds_of_validation(tmp_path):
    pytest.importorskip("sklearn")
    named = {"fine": "joy", "sad": "grief", "odd": "awe"}
    draw = np.random.default_rng(0)

    def comments(n):
        for _ in range(n):
            words = draw.permutation([*named])[: draw.integers(1, 3)]
            yield {"t": " ".join([*words, str(draw.integers(20))]), "y": [named[word] for word in words]}

    paths = table(tmp_path, **{split: [*comments(n)] for split, n in dict(train=150, validation=40, test=40).items()})
    source = Source(**paths, text="t", labels="y")
    found = source.slow_baselines("test")
    names = {f"{kind}_f1" for kind in ("micro", "macro", "sample")}
    wanted = names | {f"multi_label_{name}" for name in (*names, "average_precision")}
    assert len(found) == 2 and all(one.metrics.keys() == wanted for one in found)
    assert all(value > 0.95 for one in found for value in one.metrics.values())


def test_without_scikit_learn_they_say_what_to_install(tmp_path, monkeypatch):
    source = Source(**table(tmp_path, train=[*reviews(8, 0)]), text="t", label="y")
    assert source.baselines("train") == {"accuracy": {"majority class": 0.5}}

    def missing(module):
        raise ModuleNotFoundError(module, name=module)

    monkeypatch.setattr(lookup.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"a linear baseline of texts needs sklearn.*pip install 'seqjax\[eval\]'"):
        source.slow_baselines("train")


def test_who_has_no_texts_has_none(tmp_path):
    pytest.importorskip("sklearn")
    numbers = Source(**table(tmp_path, train=[{"f": [1], "y": 0}, {"f": [2], "y": 1}]), features="f", label="y")
    documents = Source(**table(tmp_path, train=[{"t": "abc"}]), text="t")
    folds = Folds(of=Digits, folds=3)
    assert [s.slow_baselines("train") for s in (numbers, documents, folds)] == [[], [], []]
    labels = [int(e["label"]) for e in examples(folds, "train")]
    assert folds.spec.counts == tuple(np.bincount(labels))  # those of the fold, not of the whole


@pytest.mark.parametrize(
    "module, name, old, new, words",
    [
        (sst2, "sst2/dev.tsv.gz", "\t1", "\t2", "line 2: got the label '2', wanted one of 0, 1"),
        (sst2, "sst2/train.tsv.gz", "\t", " ", "line 1: got 1 cells, wanted 2: copy the file again"),
        (banking77, "banking77/test.csv.gz", ",b", ",d", "line 3: got the label 'd', wanted one of a, b, c"),
        (ag_news, "ag_news/test.csv.gz", '"4"', '"5"', "line 4: got the label '5', wanted one of 1, 2, 3, 4"),
        (goemotions, "goemotions/test.tsv.gz", "\t0,2", "\t0,3", "line 3: got the label '3', wanted one of 0, 1, 2"),
        (cad_nli, "cad_nli/all_combined.dev.tsv.gz", "neutral", "other", "line 2: got the label 'other', wanted one"),
        (cad_nli, "cad_nli/all_combined.test.tsv.gz", "\tneutral", "\t", "line 2: a cell is empty"),
    ],
)
def test_broken_files_are_named(tmp_path, write_texts, module, name, old, new, words):
    import gzip

    write_texts(tmp_path)
    content = gzip.decompress((tmp_path / name).read_bytes()).decode()
    assert old in content
    (tmp_path / name).write_bytes(gzip.compress(content.replace(old, new, 1).encode()))
    with pytest.raises(DataError) as error:
        module.Source(dir=str(tmp_path))
    assert f"{tmp_path / name}, {words}" in str(error.value), str(error.value)


def test_real_data(real_data):
    """The sizes that their read-mes name, and a label of each."""
    sizes = {
        sst2: (6920, 872, 1821),
        banking77: (9002, 1001, 3080),
        ag_news: (4499, 500, 7600),
        cad_nli: (8330, 1000, 2000),
        goemotions: (43410, 5426, 5427),
    }
    for module, wanted in sizes.items():
        source = module.Source(dir=str(real_data))
        assert tuple(source.size(split) for split in ("train", "validation", "test")) == wanted
        assert min(source.spec.counts) > 0 and len(source.classes) == len(source.spec.counts)
        if module is banking77:
            assert source.classes[source.example("train", 0)["label"]] == "card_arrival" and len(source.classes) == 77
        if module is goemotions:
            assert sum(source.spec.counts) == 51_103 and source.spec.counts[source.classes.index("grief")] == 77
