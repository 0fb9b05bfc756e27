"""What is wrong with a run folder is said in one sentence: where, got, wanted, fix."""

import json

import pytest

from seqjax import report
from seqjax.types import ConfigError, WorkdirError


def fails(error, match, folders, out):
    with pytest.raises(error, match=match) as caught:
        report.write(folders, out)
    assert not (out / "report.html").exists()
    return str(caught.value)


def test_no_folders_or_one_twice(write_run, tmp_path):
    fails(ConfigError, "no run folders", [], tmp_path)
    folder = write_run(tmp_path / "a")
    fails(ConfigError, "more than once", [folder, tmp_path / "a" / ".." / "a"], tmp_path)


def test_no_run_folder(write_run, tmp_path):
    fails(ConfigError, "does not exist", [tmp_path / "nowhere"], tmp_path)
    write_run(tmp_path / "runs" / "gru")
    fails(ConfigError, "no config.json: it holds the runs gru: pass those", [tmp_path / "runs"], tmp_path)


@pytest.mark.parametrize("content", [None, "", "\n", '{"step": 1, "spl'])
def test_no_metrics_yet(write_run, tmp_path, content):
    folder = write_run(tmp_path / "a")
    (folder / "metrics.jsonl").unlink()
    if content is not None:
        (folder / "metrics.jsonl").write_text(content)
    fails(WorkdirError, "no metrics yet", [folder], tmp_path)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"split": "train"}', '{"step": 1.5, "split": "a"}', '{"step": 1}', "\\xff"]
)
def test_bad_metrics_line_is_named(write_run, tmp_path, line):
    folder = write_run(tmp_path / "a")
    path = folder / "metrics.jsonl"
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first}\n{line}\n{rest}")
    assert str(path) in fails(WorkdirError, "line 2", [folder], tmp_path)


@pytest.mark.parametrize("name", [f"{n}.json" for n in ("config", "run", "status", "results", "samples", "states")])
@pytest.mark.parametrize("content", ['{"a": ', "3", '["x"]'])
def test_torn_file_is_named(write_run, tmp_path, name, content):
    folder = write_run(tmp_path / "a")
    (folder / name).write_text(content)
    assert str(folder / name) in fails(WorkdirError, None, [folder], tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("run.json", {"parameters": "many"}, "parameters: got 'many'"),
        ("run.json", {"baselines": {"test": {"loss": 3}}}, "baselines.test.loss: got 3"),
        ("run.json", {"baselines": {"test": 3}}, "baselines.test: got 3"),
        ("run.json", {"parameter_table": [["a", 3]]}, "parameter_table: got"),
        ("run.json", {"starts": [{"step": 0}]}, "time"),
        ("results.json", {"test": {"metrics": {"loss": "low"}}}, "metrics.loss: got 'low'"),
        ("samples.json", [{"prompt": "x"}], "text"),
        ("states.json", [{"name": "x"}], "states"),
        ("config.json", {"data": {"name": "copy"}}, "task.name is missing"),
    ],
)
def test_wrong_content_is_named(write_run, tmp_path, name, content, match):
    folder = write_run(tmp_path / "a")
    (folder / name).write_text(json.dumps(content))
    fails((WorkdirError, ConfigError), match, [folder], tmp_path)


def test_unwritable_out(write_run, tmp_path):
    folder = write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="cannot write"):
        report.write([folder], tmp_path / "file")


def test_unreadable_file(write_run, tmp_path):
    folder = write_run(tmp_path / "a")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    fails(WorkdirError, "cannot be read", [folder], tmp_path)
