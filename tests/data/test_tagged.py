"""Tagged words from files of columns and from lists, and what is said when something is wrong."""

import gzip
import json

import numpy as np
import pytest

from seqjax.data.tagged import Source
from seqjax.types import DataError

TRAIN = "-DOCSTART- O\n\nAnn B-per\nLee I-per\nsees O\nParis B-loc\n\t\nann B-per\nsees O\nlee B-per\n"
TEST = "Ann B-per\r\nof O\r\n\r\n\r\n# O\r\nParis\tB-loc\r\n"


def write(folder, train=TRAIN, test=TEST):
    (folder / "train.conll").write_bytes(train if isinstance(train, bytes) else train.encode())
    (folder / "test.conll.gz").write_bytes(gzip.compress(test.encode()))
    return dict(dir=str(folder), train="train.conll", test="test.conll.gz")


def read(source, split):
    """The words and tags of a split, and which words are unknown."""
    found = [source.example(split, i) for i in range(source.size(split))]
    return [
        (source.decode(e["tokens"]), " ".join(source.classes[i] for i in e["tags"]), e["unknown"].tolist())
        for e in found
    ]


def test_columns_of_words_and_tags(tmp_path):
    source = Source(**write(tmp_path))
    rare = "\N{REPLACEMENT CHARACTER}"
    assert read(source, "train") == [
        (f"ann lee sees {rare}", "B-per I-per O B-loc", [False] * 4),
        ("ann sees lee", "B-per O B-per", [False] * 3),
    ]
    assert read(source, "test") == [
        (f"ann {rare}", "B-per O", [False, True]),
        (f"{rare} {rare}", "O B-loc", [True, False]),
    ]
    assert source.spec.fields["tags"].names == source.classes == ("B-loc", "B-per", "I-per", "O")
    # B-per for all: it is the most frequent tag, also for the unknown.
    assert source.baselines("test") == {
        "accuracy": {"most frequent tag": 0.5},
        "unknown_accuracy": {"most frequent tag": 0.0},
        "strict_f1": {"most frequent tag": pytest.approx(2 * 2 / (2 + 4))},
        "lenient_f1": {"most frequent tag": pytest.approx(2 * 2 / (2 + 4))},
    }


def test_columns_have_numbers_and_lists_have_names(tmp_path):
    wide = TRAIN.replace(" ", " x ").replace("\nsees", "\nsees")
    numbered = Source(
        **write(tmp_path, wide, TEST.replace("\t", " ").replace(" ", " x ")), word_column=-3, tag_column=2
    )
    sentences = [s.split("\n") for s in ("Ann B-per\nLee I-per\nsees O\nParis B-loc", "ann B-per\nsees O\nlee B-per")]
    records = [{"w": [c.split()[0] for c in s], "t": [c.split()[1] for c in s], "id": 7} for s in sentences]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    named = Source(dir=str(tmp_path), train="train.jsonl", word_column="w", tag_column="t")
    assert read(numbered, "train") == read(named, "train") == read(Source(**write(tmp_path)), "train")


def test_parquet_has_lists_too(tmp_path):
    pa = pytest.importorskip("pyarrow")
    records = [{"w": ["Ann", "runs"], "t": ["B-per", "O"]}]
    pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    options = dict(dir=str(tmp_path), train="a.parquet", word_column="w", tag_column="t", min_count=1)
    assert read(Source(**options), "train") == [("ann runs", "B-per O", [False, False])]


def test_a_treebank_of_your_own(tmp_path):
    row = lambda *cells: "\t".join([*cells, *"_____"])
    lines = ["# text = Go", row("1-2", "GoNow", "_", "_", "_"), row("1", "Go", "go", "VERB", "VB"), ""]
    (tmp_path / "a.conllu").write_text("\n".join(lines))
    options = dict(train=str(tmp_path / "a.conllu"), word_column=1, min_count=1)
    assert read(Source(**options, tag_column=3), "train") == [("go", "VERB", [False])]
    assert Source(**options, tag_column=4).classes == ("VB",)
    assert Source(**options, tag_column=3).baselines("train") == {"accuracy": {"most frequent tag": 1.0}}


def test_tags_are_written_in_another_scheme_and_repaired(tmp_path):
    tags = lambda **options: [tags for _, tags, _ in read(Source(**write(tmp_path), **options), "train")]
    assert tags(scheme="bioes") == ["B-per E-per O S-loc", "S-per O S-per"]
    first = write(tmp_path, "a I-per\nb I-per\nc B-per\nd O\n", "a I-per\n")  # IOB1: B only between two of one type
    assert [read(Source(**first, repair=True), s)[0][1] for s in ("train", "test")] == ["B-per I-per B-per O", "B-per"]
    assert Source(**first, repair=True, scheme="bilou").classes == ("B-per", "L-per", "O", "U-per")


def test_pieces_of_words_have_the_tag_on_the_first(tmp_path):
    source = Source(**write(tmp_path), tokenizer="byte")
    example, (words, tags, _) = source.example("train", 0), read(Source(**write(tmp_path)), "train")[0]
    first = example["scored"]
    assert source.decode(example["tokens"]) == "AnnLeeseesParis" and source.spec.lengths == {"L": 15}
    assert first.sum() == len(words.split()) and first[[0, 3, 6, 10]].all()
    assert " ".join(source.classes[i] for i in example["tags"][first]) == tags and not example["tags"][~first].any()
    assert source.spec.fields.keys() == {"tokens", "scored", "tags", "unknown"}
    assert source.baselines("test") == Source(**write(tmp_path)).baselines("test")
    assert np.concatenate([source.example("test", i)["unknown"] for i in range(2)]).sum() == 2


BROKEN = [
    (
        dict(train=TRAIN.replace("Lee I-per", "Lee I-loc")),
        "train.conll, line 4: I-loc follows B-per, which BIO forbids",
    ),
    (dict(train="a\nb\n"), "train.conll, line 1: got 1 columns, wanted words in 0 and tags in -1"),
    (dict(test="a O\nb\n"), "line 2: got 1 columns, wanted 2 as in line 1: correct the line"),
    (dict(test="a O\nb\t\n"), "line 2: the tag is empty"),
    (dict(test="a B-org\n"), "line 1: test has the tag 'B-org', which is not in train.* Correct it, or add an example"),
    (dict(test=TEST.replace("B-loc", "B-Loc")), "line 6: test has the tag 'B-Loc', .* Did you mean 'B-loc'"),
    (dict(test="I-per O\na I-per\n"), "line 2: I-per follows O, which BIO forbids"),
    (dict(test="\n\n"), "has no sentence"),
    (dict(train=b"caf\xe9 O\n"), "train.conll, line 1, byte offset 3: byte 0xe9 is not UTF-8"),
]


@pytest.mark.parametrize(("files", "words"), BROKEN, ids=range(len(BROKEN)))
def test_broken_files_of_columns(tmp_path, files, words):
    with pytest.raises(DataError, match=words):
        Source(**write(tmp_path, **files))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"w": ["a", "b"], "t": ["O"]}, "line 2: got 2 words and 1 tags, wanted a tag for each word"),
        ({"w": [], "t": []}, r"line 2, column 'w': got '\[\]', wanted a list of strings"),
        ({"w": "a b", "t": ["O"]}, "line 2, column 'w': got 'a b', wanted a list of strings"),
        ({"w": ["a", " "], "t": ["O", "O"]}, "line 2, column 'w', place 1: the string is empty"),
        ({"w": ["a"], "t": [7]}, "line 2, column 't'"),
        ({"w": ["a"]}, "line 2: no column 't'"),
        ({"w": ["a", "b"], "t": ["O", "I-x"]}, "line 2, word 1: I-x follows O, which BIO forbids"),
        ({"w": ["\ud800"], "t": ["O"]}, "line 2, column 'w', place 0: character 0 is the lone surrogate"),
    ],
)
def test_broken_lists(tmp_path, record, words):
    good = {"w": ["a", "b"], "t": ["B-x", "I-x"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(record) + "\n")
    with pytest.raises(DataError, match=words):
        Source(train=str(tmp_path / "a.jsonl"), word_column="w", tag_column="t")


def test_options_that_do_not_fit_the_files(tmp_path):
    files = write(tmp_path)
    for options, words in (
        (dict(word_column="word"), "got data.word_column='word', wanted the number of a column, from 0"),
        (dict(test="train.conll"), "is in both train and test"),
        (dict(word_column=1, tag_column=0, scheme="bioes"), "data.scheme='bioes' needs tags of BIO, BIOES or BILOU"),
        (dict(word_column=1, tag_column=0, repair=True), "data.repair=True needs tags of BIO"),
        (dict(tag_column=2), r"line 3: got 2 columns, wanted words in 0 and tags in 2"),
    ):
        with pytest.raises(DataError, match=words):
            Source(**files | options)
