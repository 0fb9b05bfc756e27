"""The run folder: who may write into it, and what is in its files after an accident."""

import contextlib
import json
import math
import os
import resource
import subprocess
import sys

import pytest

from seqjax.training.workdir import Workdir, finite
from seqjax.types import ConfigError, WorkdirError

HOLD = """
import sys
from seqjax.training.workdir import Workdir
workdir = Workdir(sys.argv[1]).lock()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def holder(tmp_path_factory):
    """Another process that holds a folder: (the folder, the process)."""
    folder = tmp_path_factory.mktemp("held") / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.communicate()


def test_a_second_run_is_told_who_holds_the_folder(holder):
    folder, process = holder
    with pytest.raises(WorkdirError, match=rf"{folder} is in use by process {process.pid} on .*another --workdir"):
        Workdir(folder).lock()
    process.kill()
    process.wait()
    Workdir(folder).lock().unlock()  # nobody holds it any more, whatever the file says
    assert f"process {os.getpid()}" in (folder / ".lock").read_text()


def test_the_lock_holds_within_a_process_too_and_can_be_given_back(tmp_path):
    first = Workdir(tmp_path).lock()
    with pytest.raises(WorkdirError, match=f"process {os.getpid()}"):
        Workdir(tmp_path).lock()
    first.unlock()
    first.unlock()
    Workdir(tmp_path).lock().unlock()


def test_folders_above_are_made(tmp_path):
    Workdir(tmp_path / "a" / "b" / "c").lock().unlock()


@pytest.mark.parametrize("below", ["", "/run", "/run/deep"])
def test_a_folder_that_cannot_be_is_a_sentence(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkdirError, match=r"cannot write to .*/file.*another --workdir"):
        Workdir(f"{tmp_path}/file{below}").lock()
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("name", ["ckpt", "ckpt_best"])
def test_a_file_in_the_place_of_checkpoints_is_seen_before_they_are(tmp_path, name):
    (tmp_path / name).write_text("in the way")
    with pytest.raises(WorkdirError, match=f"cannot write to {tmp_path}: {name} is a file"):
        Workdir(tmp_path).lock()
    (tmp_path / name).unlink()
    Workdir(tmp_path).lock().unlock()


@contextlib.contextmanager
def no_file_may_grow():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write("a.json", {"b": 1})
    with pytest.raises(WorkdirError, match=r"cannot write to .*File too large"), no_file_may_grow():
        Workdir(tmp_path).lock()
    with (
        pytest.raises(WorkdirError, match=r"cannot write .*a\.json: File too large \(.* bytes free\)"),
        no_file_may_grow(),
    ):
        workdir.write("a.json", {"b": 2})
    assert workdir.read("a.json") == {"b": 1}
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", ".lock"}


def test_a_json_file_is_whole_or_not_there(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.read("a.json") is None and workdir.read("a.json", 3) == 3
    workdir.write("a.json", {"b": [1, None]})
    with pytest.raises(TypeError):
        workdir.write("a.json", {"b": object()})
    assert workdir.read("a.json") == {"b": [1, None]}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]  # no half-written one beside it


def test_two_processes_update_one_file(tmp_path):
    """Each waits until the other has written, so that nothing is lost."""
    workdir = Workdir(tmp_path)
    read = Workdir.read
    code = f"from seqjax.training.workdir import Workdir; Workdir({str(tmp_path)!r}).update('r.json', {{'b': 2}})"
    others = []

    class Slow(Workdir):
        def read(self, name, default=None):
            found = read(self, name, default)
            others.append(subprocess.Popen([sys.executable, "-c", code]))
            with pytest.raises(subprocess.TimeoutExpired):
                others[0].wait(5)
            return found

    Slow(tmp_path).update("r.json", {"a": 1})
    assert others[0].wait(60) == 0
    assert workdir.read("r.json") == {"a": 1, "b": 2}


def test_a_broken_json_file_is_named(tmp_path):
    (tmp_path / "status.json").write_text('{"status": ')
    with pytest.raises(WorkdirError, match=r"status\.json is not JSON"):
        Workdir(tmp_path).read("status.json")
    (tmp_path / "results.json").write_text("[1, 2]")
    with pytest.raises(WorkdirError, match=r"results\.json holds a list, wanted an object"):
        Workdir(tmp_path).read("results.json")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        Workdir(tmp_path).config()


# metrics.jsonl


def rows(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("split", "seal")} for row in found]


def row(step, split="train", **values):
    return {"step": step, "split": split, **values}


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3, "split": "train"}', "\0\0\0", "é"])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    good = '{"step": 1, "split": "train", "loss": 2.0}\n{"step": 2, "split": "train", "loss": 1.0}\n'
    path.write_bytes((good + torn).encode()[: -1 if torn == "é" else None])
    file = Workdir(tmp_path).append(5)
    file.write(row(3, loss=0.5))
    file.close()
    assert rows(path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.5}]


@pytest.mark.parametrize("step", [0, 2, 4])
def test_later_steps_are_cut(tmp_path, step):
    path = tmp_path / "metrics.jsonl"
    file = Workdir(tmp_path).append(0)
    for s in (1, 2, 2, 3, 4):
        file.write(row(s))
    file.close()
    Workdir(tmp_path).append(step).close()
    assert [found["step"] for found in rows(path)] == [s for s in (1, 2, 2, 3, 4) if s <= step]


@pytest.mark.parametrize("owed", [False, True])
def test_an_evaluation_that_is_made_again_is_written_once(tmp_path, owed):
    path = tmp_path / "metrics.jsonl"
    written = [row(s, split) for s in (1, 2) for split in ("train", "validation")]
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    Workdir(tmp_path).append(2, owed).close()
    assert Workdir(tmp_path).whole().rows == (written[:-1] if owed else written)


def test_what_is_removed_may_be_missing(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    Workdir(tmp_path).remove("results.json", "samples.json")
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_lines_stand_on_disk_at_once_and_are_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = Workdir(tmp_path).append(0)
    file.write(finite(row(1, loss=math.nan, norm=math.inf)))
    assert rows(path) == [{"step": 1, "loss": None, "norm": None}]
    file.close()


def test_untouched_metrics_are_not_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "split": "train"}\n')
    before = path.stat()
    Workdir(tmp_path).append(1).close()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
