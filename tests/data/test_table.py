"""Tables: what is read, and what is said when something is wrong."""

import csv
import gzip
import json

import numpy as np
import pytest

from seqjax import lookup
from seqjax.data.table import Source
from seqjax.types import ConfigError, DataError

ROWS = [
    {"text": "so, good", "class": "b", "series": [1.0, 2.0]},
    {"text": 'two\nlines "é"', "class": "a", "series": [3.5]},
    {"text": "bad\u2028", "class": "b", "series": [4.0, 5.0, 6.0]},
]


def write(path, records):
    """The records in the format of the suffix."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        content = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    elif name.endswith(".csv"):
        with (path.parent / "plain.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, records[0])
            writer.writeheader()
            writer.writerows(records)
        content = (path.parent / "plain.csv").read_bytes().decode()
        (path.parent / "plain.csv").unlink()
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(records), path)
        return path
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def examples(source, split):
    return [source.example(split, i) for i in range(source.size(split))]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("tokens", ["character", "byte"])
def test_text_is_the_same_from_every_format(tmp_path, suffix, tokens):
    path = write(tmp_path / f"a.{suffix}", ROWS)
    source = Source(train=str(path), text="text", label="class", tokenizer=tokens)
    found = examples(source, "train")
    assert [source.decode(e["tokens"]) for e in found] == [r["text"] for r in ROWS]
    assert [source.classes[e["label"]] for e in found] == ["b", "a", "b"]
    assert source.classes == ("a", "b") and source.spec.splits == ("train",)
    assert source.spec.vocabulary == (256 if tokens == "byte" else len(set("".join(r["text"] for r in ROWS))) + 1)
    assert source.baselines("train") == {"accuracy": {"majority class": pytest.approx(2 / 3)}}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_features_are_steps_by_features(tmp_path, suffix):
    flat = Source(train=str(write(tmp_path / f"a.{suffix}", ROWS)), features="series")
    assert flat.spec.features == 1 and flat.spec.length == 3 and flat.spec.classes is None
    np.testing.assert_array_equal(flat.example("train", 0)["features"], [[1], [2]])
    nested = [{"pose": [[1, 2, 3], [4, 5, 6]], "class": 7}, {"pose": [[7, 8, 9]], "class": -1}]
    deep = Source(train=str(write(tmp_path / f"b.{suffix}", nested)), features="pose", label="class")
    np.testing.assert_array_equal(deep.example("train", 0)["features"], [[1, 2, 3], [4, 5, 6]])
    assert deep.spec.features == 3 and deep.classes == (-1, 7)


def test_characters_that_train_lacks_are_unknown(tmp_path):
    train, test = write(tmp_path / "a.jsonl", [{"t": "abc"}]), write(tmp_path / "b.csv", [{"t": "azzc"}])
    source = Source(train=str(train), test=str(test), text="t")
    assert source.spec.vocabulary == 4 and source.spec.length == 4 and source.spec.splits == ("train", "test")
    np.testing.assert_array_equal(source.example("test", 0)["tokens"], [0, 3, 3, 2])
    assert source.decode(source.example("test", 0)["tokens"]) == "a\ufffd\ufffdc"
    assert source.baselines("test") == {}


def test_globs_are_read_in_order(tmp_path):
    for part in (2, 0, 1):
        write(tmp_path / f"part{part}.jsonl", [{"t": f"{part}"}])
    write(tmp_path / "part[x].jsonl", [{"t": "x"}])
    source = Source(train=str(tmp_path / "part?.jsonl"), text="t")
    assert "".join(source.decode(e["tokens"]) for e in examples(source, "train")) == "012"
    assert Source(train=str(tmp_path / "part[x].jsonl"), text="t").size("train") == 1


def test_a_cell_may_be_long(tmp_path):
    path = write(tmp_path / "a.csv", [{"t": "ab" * 100_000}])
    before = csv.field_size_limit()
    assert Source(train=str(path), text="t").spec.length == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    "name, content, options, place, words",
    [
        ("a.jsonl", '{"t": "a"}\n{"x": 1}', {"text": "t"}, ", line 2", "no column 't'"),
        ("a.jsonl", '{"texts": "a", "x": 1}', {"text": "text"}, ", line 1", "Did you mean 'texts'? It has: texts, x"),
        ("a.csv", "texts,x\na,1", {"text": "text"}, ", line 1", "Did you mean 'texts'? It has: texts, x"),
        ("a.csv", "t,x\na,1", {"text": "t", "label": "y"}, ", line 1", "no column 'y'"),
        ("a.jsonl", '\n{"t": "a"}\n{"t": "a"', {"text": "t"}, ", line 3", "not JSON"),
        ("a.jsonl", "[1, 2]", {"text": "t"}, ", line 1", "got a list, wanted an object"),
        ("a.jsonl", '{"t": null}', {"text": "t"}, ", line 1", "column 't': got None (NoneType), wanted text"),
        ("a.jsonl", '{"t": 5}', {"text": "t"}, ", line 1", "got 5 (int), wanted text"),
        ("a.jsonl", '{"t": ""}', {"text": "t"}, ", line 1", "the text is empty"),
        ("a.jsonl", '{"t": "a\\ud800"}', {"text": "t"}, ", line 1", "character 1 is the lone surrogate U+D800"),
        ("a.csv", 't,x\n"a\nb",1\n,2', {"text": "t"}, ", line 4", "column 't': the text is empty"),
        ("a.csv", 't,x\n"a\nb",1\n"c\nd"', {"text": "t"}, ", line 4", "got 1 cells, wanted 2"),
        ("a.csv", "t,x\na,1,2", {"text": "t"}, ", line 2", "got 3 cells, wanted 2"),
        ("a.csv", "t,x\na,", {"text": "t", "label": "x"}, ", line 2", "column 'x': the cell is empty"),
        ("a.csv", 't,x\na,1\n"b', {"text": "t"}, ", line 3", "not csv"),
        ("a.csv", "t,t\na,1", {"text": "t"}, ", line 1", "2 columns are called 't'"),
        ("a.csv", "t,x\n", {"text": "t"}, "", "has 0 records"),
        ("a.jsonl", "\n\n", {"text": "t"}, "", "has 0 records"),
        ("a.jsonl", "", {"text": "t"}, "", "is empty, 0 bytes"),
        ("a.csv", b"t\nab\nc\xff", {"text": "t"}, ", line 3, byte offset 6", "byte 0xff is not UTF-8"),
        ("a.xls", "t\na", {"text": "t"}, "", "ends in '.xls', wanted one of .jsonl"),
        ("a.csv", "t;t\na;1", {"text": "t"}, ", line 1", "2 columns are called 't'"),
        ("a.csv", "id;title;y\n1;a;2", {"text": "titel"}, ", line 1", "Did you mean 'title'? It has: id, title, y."),
        ("a.tsv", "t\tx\na", {"text": "t"}, ", line 2", "got 1 cells, wanted 2"),
        ("a.csv", "t;x\na;b;c", {"text": "t"}, ", line 2", "put a cell that contains ';' in quotes"),
        ("a.csv", "t,y\na, ", {"text": "t", "label": "y"}, ", line 2", "column 'y': the cell is empty"),
        (
            "a.csv",
            "t,y\na,pos\nb,pos",
            {"text": "t", "label": "y"},
            ", line 2",
            "all 2 records of train have the label 'pos'",
        ),
        (
            "a.jsonl",
            '{"t": "a", "y": 1}',
            {"text": "t", "label": "y"},
            ", line 1",
            "all 1 records of train have the label 1",
        ),
        ("a.jsonl", '{"t": "a", "t": "b"}', {"text": "t"}, ", line 1", "not JSON (two keys are called 't')"),
        ("a.jsonl", '{"t": 1' + "0" * 5000 + "}", {"text": "t"}, ", line 1", "not JSON (Exceeds the limit"),
        (
            "a.jsonl",
            '{"m": {"t": "a"}}',
            {"text": "m.t"},
            ", line 1",
            "If 't' is a part of 'm', make it a column of its",
        ),
        ("a.jsonl", '{"m": {"t": "a"}}', {"text": "m"}, ", line 1", "got {'t': 'a'} (dict), wanted text"),
        ("a.jsonl", '{"t": "a", "y": 1.5}', {"text": "t", "label": "y"}, ", line 1", "column 'y': got 1.5 (float)"),
        ("a.jsonl", '{"t": "a", "y": true}', {"text": "t", "label": "y"}, ", line 1", "column 'y': got True (bool)"),
        ("a.jsonl", '{"t":"a","y":1}\n{"t":"a","y":"b"}', {"text": "t", "label": "y"}, ", line 2", "mixes strings"),
        ("a.jsonl", '{"f": [1, NaN]}', {"features": "f"}, ", line 1", "column 'f', step 1: got nan (float)"),
        ("a.jsonl", '{"f": [[1, 2], [3, -Infinity]]}', {"features": "f"}, ", line 1", "step 1: got -inf"),
        ("a.jsonl", '{"f": [1, 1e39]}', {"features": "f"}, ", line 1", "step 1: got 1e+39 (float), wanted a finite"),
        ("a.jsonl", '{"f": [1' + "0" * 400 + "]}", {"features": "f"}, ", line 1", "wanted a finite float32"),
        ("a.jsonl", '{"f": [1, null]}', {"features": "f"}, ", line 1", "step 1: got None (NoneType)"),
        ("a.jsonl", '{"f": [1, "2"]}', {"features": "f"}, ", line 1", "step 1: got '2' (str)"),
        ("a.jsonl", '{"f": [true]}', {"features": "f"}, ", line 1", "step 0: got True (bool)"),
        (
            "a.jsonl",
            '{"f": [[1, 2], [3]]}',
            {"features": "f"},
            ", line 1",
            "step 1: got [3] (list), wanted a list of 2",
        ),
        ("a.jsonl", '{"f": [[1, 2], 3]}', {"features": "f"}, ", line 1", "step 1: got 3 (int), wanted a list of 2"),
        ("a.jsonl", '{"f": [1, [2]]}', {"features": "f"}, ", line 1", "step 1: got [2] (list), wanted a finite"),
        ("a.jsonl", '{"f": [[[1]]]}', {"features": "f"}, ", line 1", "step 0: got [1] (list), wanted a finite"),
        (
            "a.jsonl",
            '{"f": [[], []]}',
            {"features": "f"},
            ", line 1",
            "step 0: got [] (list), wanted a list of numbers",
        ),
        ("a.jsonl", '{"f": []}', {"features": "f"}, ", line 1", "got [] (list), wanted a list of numbers"),
        ("a.jsonl", '{"f": 3}', {"features": "f"}, ", line 1", "got 3 (int), wanted a list of numbers"),
        ("a.csv", 'f\n"[1, 2]"', {"features": "f"}, ", line 2", "got '[1, 2]' (str), wanted a list of numbers"),
        ("a.jsonl", '{"f": [[1, 2]]}\n{"f": [[1]]}', {"features": "f"}, ", line 2", "1 features per step, wanted 2"),
        ("a.parquet", "no parquet at all", {"text": "t"}, "", "is not readable as parquet"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, name, content, options, place, words):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        Source(train=str(path), **options)
    assert f"{path}{place}" in str(error.value) and words in str(error.value), str(error.value)


@pytest.mark.parametrize(
    "records, options, place, words",
    [
        ([{"t": "a"}, {"t": None}], {"text": "t"}, ", row 1", "got None"),
        ([{"t": "a"}], {"text": "u"}, "", "no column 'u'"),
        ([{"f": [1.0]}, {"f": [2.0, float("nan")]}], {"features": "f"}, ", row 1", "step 1: got nan"),
        ([{"f": [[1.0], [2.0, 3.0]]}], {"features": "f"}, ", row 0", "step 1: got [2.0, 3.0]"),
        ([{"t": b"a"}], {"text": "t"}, ", row 0", "got b'a' (bytes), wanted text"),
        ([{"m": {"t": "a"}}], {"text": "m.t"}, "", "If 't' is a part of 'm', make it a column of its own"),
        ([{"m": {"t": "a"}}], {"text": "m"}, ", row 0", "got {'t': 'a'} (dict), wanted text"),
        ([{"f": [{"x": 1.0}]}], {"features": "f"}, ", row 0", "step 0: got {'x': 1.0} (dict), wanted a finite"),
    ],
)
def test_what_is_wrong_in_parquet_is_said_with_file_and_row(tmp_path, records, options, place, words):
    path = write(tmp_path / "a.parquet", records)
    with pytest.raises(DataError) as error:
        Source(train=str(path), **options)
    assert f"{path}{place}" in str(error.value) and words in str(error.value), str(error.value)


def test_parquet_with_two_columns_of_one_name(tmp_path):
    """Only those that are asked for: of the others nothing is read."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table([["a"], ["b"], ["c"]], names=["t", "u", "u"]), path)
    assert Source(train=str(path), text="t").size("train") == 1
    with pytest.raises(DataError, match=f"{path}: 2 columns are called 'u'"):
        Source(train=str(path), text="u")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_of_30000_columns_a_message_lists_20(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", [{f"column{i}": "a" for i in range(30_000)}])
    with pytest.raises(DataError) as error:
        Source(train=str(path), text="text")
    assert str(error.value).endswith("column18, column19 and 29,980 more.") and len(str(error.value)) < 1000


def test_names_in_a_message_are_cut():
    assert lookup.listed(["a", "b" * 10**6], 1) == "a and 1 more"
    assert len(lookup.listed(["b" * 10**6])) == 60
    assert lookup.nearest("ab" * 10**6, ["ab" * 10**6, "c"]) == ""  # nor does it take time that grows with the square


@pytest.mark.parametrize("separator, name", [(",", None), (";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "CSV.GZ"])
def test_the_separator_is_the_one_that_finds_the_columns(tmp_path, separator, name, suffix):
    content = "\ufeff" + separator.join(["id", "title", "y"]) + "\r\n"
    content += separator.join(["1", '"a,b;c\td|e\nf"', "p"]) + "\r\n" + separator.join(["2", "g", "q"]) + "\r\n\r\n"
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content.encode()) if suffix.lower().endswith("gz") else content.encode())
    source = Source(train=str(path), text="title", label="y")
    assert [source.decode(e["tokens"]) for e in examples(source, "train")] == ["a,b;c\td|e\nf", "g"]
    usual = "\t" if suffix == "tsv.gz" else ","
    name = name or "commas"
    assert source.notes == (() if separator == usual else (f"cells are separated by {name} in {path}",))


def test_a_table_of_one_column_has_no_separator(tmp_path):
    (tmp_path / "a.csv").write_text("t\na;b;c\nd\te\n")
    source = Source(train=str(tmp_path / "a.csv"), text="t")
    assert [source.decode(e["tokens"]) for e in examples(source, "train")] == ["a;b;c", "d\te"] and source.notes == ()


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path):
    path = write(tmp_path / "a.csv", [{"t": "a", "y": str(i)} for i in (10, 11, 2, 0, 1, -3)])
    assert Source(train=str(path), text="t", label="y").classes == ("-3", "0", "1", "2", "10", "11")
    path = write(tmp_path / "a.csv", [{"t": "a", "y": y} for y in ("2.5", "10", "+3", "9" * 5000)])
    assert Source(train=str(path), text="t", label="y").classes == ("2.5", "+3", "10", "9" * 5000)
    path = write(tmp_path / "a.csv", [{"t": "a", "y": y} for y in ("10", "9", "x")])
    assert Source(train=str(path), text="t", label="y").classes == ("10", "9", "x")


def test_white_space_around_a_label_is_taken_away_and_said(tmp_path):
    train = write(tmp_path / "a.csv", [{"t": "a", "y": y} for y in ("pos ", "pos", "neg", "\u00a0neg")])
    test = write(tmp_path / "b.csv", [{"t": "a", "y": " pos"}])
    source = Source(train=str(train), test=str(test), text="t", label="y")
    assert source.classes == ("neg", "pos") and [e["label"] for e in examples(source, "train")] == [1, 1, 0, 0]
    assert source.notes == (f"white space around the label was removed in {train}, line 2 and 2 more",)


def test_labels_that_look_alike_are_told(tmp_path):
    for labels in (("Yes", "yes", "no"), ("1", "01", "2"), ("\u00e9", "e\u0301", "f")):
        path = write(tmp_path / "a.csv", [{"t": "a", "y": y} for y in labels])
        (note,) = Source(train=str(path), text="t", label="y").notes
        assert all(repr(label) in note for label in labels[:2]) and repr(labels[2]) not in note


def test_characters_that_train_lacks_are_told(tmp_path):
    train, test = write(tmp_path / "a.jsonl", [{"t": "abc"}]), write(tmp_path / "b.jsonl", [{"t": "azzc"}, {"t": "y"}])
    (note,) = Source(train=str(train), test=str(test), text="t").notes
    assert note.startswith("3 of the 5 characters of test (60.00%, 2 distinct) do not occur in train")
    (note,) = Source(train=str(train), test=str(test), text="t", tokenizer="byte").notes
    assert note.startswith("3 of the 5 bytes of test (60.00%, 2 distinct) do not occur in train")
    assert Source(train=str(train), validation=str(write(tmp_path / "c.jsonl", [{"t": "cab"}])), text="t").notes == ()


def test_records_that_take_half_the_memory(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", [{"t": "ab" * 1000}] * 50)
    monkeypatch.setattr("seqjax.data._files.memory", lambda: 210_000)  # the file itself fits
    with pytest.raises(DataError, match=rf"{path}, line 4\d: the records up to here take half the memory, 105,000"):
        Source(train=str(path), text="t")


def test_json_that_is_nested_too_deep(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "a"}\n{"t": ' + "[" * 10**5 + "]" * 10**5 + "}\n")
    with pytest.raises(DataError, match=rf"{path}, line 2: not JSON \(maximum recursion depth"):
        Source(train=str(path), text="t")


def test_a_label_that_train_lacks(tmp_path):
    train = write(tmp_path / "a.jsonl", [{"t": "a", "y": "good"}, {"t": "b", "y": "bad"}])
    test = write(tmp_path / "b.jsonl", [{"t": "a", "y": "bad"}, {"t": "b", "y": "goood"}])
    with pytest.raises(DataError) as error:
        Source(train=str(train), test=str(test), text="t", label="y")
    assert f"{test}, line 2: label 'goood'" in str(error.value) and "Did you mean 'good'" in str(error.value)


def test_labels_of_equal_text_are_equal(tmp_path):
    """Classes keep the kind and the order that they have in train."""
    numbers = write(tmp_path / "a.jsonl", [{"t": "a", "y": y} for y in (10, 9, -1)])
    texts = write(tmp_path / "b.csv", [{"t": "a", "y": y} for y in ("9", "-1", "10")])
    for train, test, classes in [(numbers, texts, (-1, 9, 10)), (texts, numbers, ("-1", "9", "10"))]:
        source = Source(train=str(train), test=str(test), text="t", label="y")
        assert source.classes == classes
        for split, file in (("train", train), ("test", test)):
            wanted = ["10", "9", "-1"] if file is numbers else ["9", "-1", "10"]
            assert [str(source.classes[e["label"]]) for e in examples(source, split)] == wanted
    other = write(tmp_path / "c.csv", [{"t": "a", "y": "09"}])
    with pytest.raises(DataError, match=f"{other}, line 2: label '09' is not among the 3 of train. Did you mean '9'"):
        Source(train=str(numbers), test=str(other), text="t", label="y")


def test_features_of_another_split_have_another_width(tmp_path):
    train, test = write(tmp_path / "a.jsonl", [{"f": [1]}]), write(tmp_path / "b.jsonl", [{"f": [[1, 2]]}])
    with pytest.raises(DataError, match=f"{test}, line 1: 2 features per step, wanted 1 as in {train}, line 1"):
        Source(train=str(train), test=str(test), features="f")


def test_missing_files_and_files_in_two_splits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"no file matches {tmp_path}/no.jsonl"):
        Source(train="no.jsonl", text="t")
    write(tmp_path / "a.jsonl", [{"t": "a"}])
    with pytest.raises(DataError, match=rf"no file matches {tmp_path}/x/\*\.csv"):
        Source(train="a.jsonl", validation="x/*.csv", text="t")
    with pytest.raises(DataError, match=f"{tmp_path}/a.jsonl is in both train and test"):
        Source(train="*.jsonl", test="a.jsonl", text="t")


@pytest.mark.parametrize("options", [{}, {"text": "a", "features": "b"}])
def test_one_of_text_and_features(options):
    with pytest.raises(ValueError, match="name one column, either text or features"):
        Source(train="a.jsonl", **options)


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"x")

    def missing(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(lookup.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"parquet needs pyarrow.parquet.*pip install .*\.\[data\]"):
        Source(train=str(tmp_path / "a.parquet"), text="t")
