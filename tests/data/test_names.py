"""Names, and finding the folder of datasets."""

import gzip

import pytest

from seqjax.data import names, tinyshakespeare
from seqjax.types import DataError


def rows(source, split):
    return [
        (source.decode(e["tokens"]), source.classes[e["label"]])
        for e in (source.example(split, i) for i in range(source.size(split)))
    ]


def test_split_by_index_among_distinct_names_of_a_file(tmp_path, write_names):
    write_names(tmp_path)
    source = names.Source(dir=str(tmp_path))
    assert source.classes == ("Lower", "Upper")
    lower = [(f"name{c}", "Lower") for c in "cdefghij"]
    assert rows(source, "train") == [*lower, ("Cc", "Upper"), ("namec", "Upper")]
    # Letters that train does not have are unknown.
    assert rows(source, "validation") == [("name\ufffd", "Lower"), ("\ufffd\ufffd", "Upper")]
    assert rows(source, "test") == [("namea", "Lower"), ("\ufffd\ufffd", "Lower"), ("\ufffda", "Upper")]
    assert source.spec.vocabulary == len(set("nameCcdefghij")) + 1
    assert source.spec.length == 5 and source.spec.unit == "character"


def test_majority_class_is_that_of_train(tmp_path, write_names):
    write_names(tmp_path)
    source = names.Source(dir=str(tmp_path))
    assert source.baselines("validation") == {"accuracy": {"majority class": 0.5}}
    assert source.baselines("test") == {"accuracy": {"majority class": pytest.approx(2 / 3)}}


def test_line_ends_are_no_characters(tmp_path, write_names):
    write_names(tmp_path)
    unix = names.Source(dir=str(tmp_path))
    for file in (tmp_path / "names").glob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    windows = names.Source(dir=str(tmp_path))
    assert windows.spec == unix.spec
    assert all(rows(windows, split) == rows(unix, split) for split in unix.spec.splits)


def test_broken_folders(tmp_path):
    folder = tmp_path / "names"
    with pytest.raises(DataError, match=f"{folder} does not exist"):
        names.Source(dir=str(tmp_path))
    folder.mkdir()
    with pytest.raises(DataError, match=rf"no file matches {folder}/\*\.txt"):
        names.Source(dir=str(tmp_path))
    (folder / "One.txt").write_text("Aa\nBb\n")
    with pytest.raises(DataError, match=f"{folder}: no name for split 'train'"):
        names.Source(dir=str(tmp_path))
    (folder / "One.txt").write_text("Aa\nBb\nCc\n")
    with pytest.raises(DataError, match=f"{folder}/One.txt is the only .txt in its folder: wanted two languages"):
        names.Source(dir=str(tmp_path))
    (folder / "One.txt").write_text("Aa\nBb\n\nCc\n")
    with pytest.raises(DataError, match=f"{folder}/One.txt, line 3: empty, wanted a name"):
        names.Source(dir=str(tmp_path))
    (folder / "One.txt").write_bytes(b"Aa\nBb\nC\xe9c\n")
    with pytest.raises(DataError, match=f"{folder}/One.txt, line 3, byte offset 7: byte 0xe9 is not UTF-8"):
        names.Source(dir=str(tmp_path))


@pytest.mark.parametrize("module", [names, tinyshakespeare])
def test_the_folder_of_datasets_is_asked_for_in_both_ways(module, monkeypatch, tmp_path):
    name = module.__name__.split(".")[-1]
    monkeypatch.delenv("SEQJAX_DATA", raising=False)
    with pytest.raises(DataError, match=rf"holds {name}/.*--config\.data\.dir=.*export SEQJAX_DATA="):
        module.Source()
    monkeypatch.setenv("SEQJAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/{name} does not exist"):
        module.Source()


def test_dir_goes_before_the_environment(tmp_path, monkeypatch, write_names):
    folder = tmp_path / "v[1]"  # and is no pattern
    folder.mkdir()
    write_names(folder)
    monkeypatch.setenv("SEQJAX_DATA", str(tmp_path / "elsewhere"))
    assert names.Source(dir=str(folder)).spec.classes == 2


def test_missing_shakespeare_file(tmp_path):
    (tmp_path / "tinyshakespeare").mkdir()
    path = tmp_path / "tinyshakespeare" / "input.txt.gz"
    with pytest.raises(DataError, match=f"{path} does not exist"):
        tinyshakespeare.Source(dir=str(tmp_path))
    path.write_bytes(gzip.compress(b"short")[:10])
    with pytest.raises(DataError, match=f"{path} is not a whole gzip file"):
        tinyshakespeare.Source(dir=str(tmp_path))


def test_real_names(real_data):
    source = names.Source(dir=str(real_data))
    assert {split: source.size(split) for split in source.spec.splits} == {
        "train": 14_396,
        "validation": 1_807,
        "test": 1_809,
    }
    assert source.spec.classes == 18 and source.classes[4] == "English"
    found = [row for split in source.spec.splits for row in rows(source, split) if "\ufffd" not in row[0]]
    assert len(set(found)) == len(found)
    assert 0.5 < source.baselines("test")["accuracy"]["majority class"] < 0.55
