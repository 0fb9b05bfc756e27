"""The small files of a folder: damage is told or harmless, nothing is written through a link."""

import dataclasses
import json
import os
import random

import launch
import pytest

from seqjax.report import output
from seqjax.search._study import Journal
from seqjax.training import files, history
from seqjax.training.experiment import resolve
from seqjax.training.records import Info, Sample, Start, Status, record
from seqjax.training.workdir import Workdir
from seqjax.types import WorkdirError

RESULT = {"step": 4, "examples": 10, "metrics": {"loss": 0.25, "accuracy": None}}
SAMPLES = [{"prompt": "a", "text": f"b{i}", "temperature": 0.5, "seed": i, "step": 4} for i in range(3)]


def rows(count=6):
    return [
        {"step": s, "split": split, "loss": 1 / s, "seconds": None if s == 1 else 0.5 * s}
        for s in range(1, count + 1)
        for split in ("train", "validation")
    ]


def samples(workdir):
    file = workdir.path / "samples.json"
    return [record(Sample, row, file) for row in files.read_json(file, list)]


READ = {
    "config.json": history.config_of,
    "run.json": lambda workdir: workdir.record("run.json", Info),
    "status.json": lambda workdir: workdir.record("status.json", Status),
    "results.json": lambda workdir: workdir.results(),
    "samples.json": samples,
    "sizes.json": lambda workdir: workdir.read("sizes.json"),
    "metrics.jsonl": lambda workdir: workdir.whole().rows,
    "study.journal": lambda workdir: Journal(workdir.path / "study.journal").read_logs(0),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The small files of a run that is done, and of searches: name -> content."""
    workdir = Workdir(tmp_path_factory.mktemp("good"))
    start = dataclasses.asdict(Start("2026-01-01T00:00:00", 0, "seqjax train", {"seed": [0, 1]}))
    workdir.write("config.json", resolve(launch.tiny()))
    workdir.write("run.json", dataclasses.asdict(Info(10, [["a/b", [2, 5], 10]], 1e9, 40, starts=[start])))
    workdir.write("results.json", {"validation": RESULT, "test": RESULT})
    workdir.write("samples.json", SAMPLES)
    workdir.write("sizes.json", {"gru": {"of": "abc", "width": 8, "flops": 1.5}})
    metrics = workdir.append(0)
    for row in rows():
        metrics.write(row)
    metrics.close()
    workdir.status("done", 6)
    Journal(workdir.path / "study.journal").append_logs([{"op_code": i, "worker_id": "w"} for i in range(5)])
    return {file.name: file.read_bytes() for file in workdir.path.iterdir()}


def folder(path, good):
    for name, content in good.items():
        (path / name).write_bytes(content)
    return Workdir(path)


def hurt(content: bytes, draw: random.Random) -> bytes:
    """One damage out of those that disks, editors and programs do."""
    data, at = bytearray(content), draw.randrange(len(content))
    lines = content.splitlines(keepends=True)
    line = draw.randrange(len(lines))

    def bit():
        data[at] ^= 1 << draw.randrange(8)
        return bytes(data)

    def swapped():
        other = draw.randrange(len(lines))
        lines[line], lines[other] = lines[other], lines[line]
        return b"".join(lines)

    def another_type():
        """Of a value somewhere in one of the trees."""
        start = line if b"}\n{" in content else None
        tree = json.loads(content if start is None else lines[start])
        node = tree
        while True:
            key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if not isinstance(node[key], (dict, list)) or not node[key]:
                break
            node = node[key]
        node[key] = draw.choice([None, True, -1, 3, 0.5, "3", [], {}, [[]], {"a": 1}, 10**30, float("nan")])
        text = json.dumps(tree).encode()
        return text if start is None else b"".join([*lines[:start], text + b"\n", *lines[start + 1 :]])

    kinds = {
        "bit": bit,
        "byte": lambda: bytes([*data[:at], draw.randrange(256), *data[at + 1 :]]),
        "cut off": lambda: content[:at],
        "a hole": lambda: content[:at] + content[at + draw.randrange(1, 40) :],
        "zeros": lambda: content[:at] + bytes(min(16, len(content) - at)) + content[at + 16 :],
        "a line lost": lambda: b"".join(lines[:line] + lines[line + 1 :]),
        "a line twice": lambda: b"".join(lines[: line + 1] + lines[line:]),
        "lines swapped": swapped,
        "digit": lambda: content.replace(b"0", b"1", 1),
        "another type": another_type,
        "twice": lambda: content + content,
    }
    return kinds[draw.choice(list(kinds))]()


@pytest.mark.parametrize("name", READ)
def test_damage_is_told_or_harmless(good, tmp_path, name):
    """Of 300 damages none is a traceback, and none changes a value in silence."""
    workdir = folder(tmp_path, good)
    wanted, told = READ[name](workdir), 0
    for seed in range(300):
        (tmp_path / name).write_bytes(damaged := hurt(good[name], random.Random(f"{name} {seed}")))
        try:
            found = READ[name](workdir)
        except WorkdirError as error:
            told += 1
            assert str(tmp_path / name) in str(error) and error.exit_code == 5, damaged
        else:
            # The end of a journal may be lost as in a kill: its trials are looked up again in their folders.
            same = wanted[: len(found)] if name == "study.journal" else wanted
            assert exact(found) == exact(same), damaged
    assert told > 200  # the rest is white space and the like


@pytest.mark.parametrize("name", READ)
def test_a_file_without_a_seal_is_read_as_it_stands(good, tmp_path, name):
    """As those from before; whatever is damaged in one ends in a sentence, too."""
    workdir = folder(tmp_path, good)
    wanted = READ[name](workdir)
    (tmp_path / "status.json").write_text('{"status": "done", "step": 6, "error": null}')
    if name == "status.json":
        wanted = Status("done", 6)
    strip = lambda text: json.dumps(unsealed(json.loads(text)))
    text = good[name].decode()
    lines = text.splitlines() if name.endswith(("jsonl", "journal")) else [text]
    old = "".join(strip(line) + "\n" for line in lines).encode()
    (tmp_path / name).write_bytes(old)
    found = READ[name](workdir)
    assert found == wanted or (name == "status.json" and dataclasses.replace(found, metrics=None) == wanted)
    for seed in range(100):
        (tmp_path / name).write_bytes(damaged := hurt(old, random.Random(f"{name} {seed}")))
        try:
            READ[name](workdir)
        except WorkdirError as error:
            assert str(tmp_path / name) in str(error), damaged


def exact(found) -> str:
    return json.dumps(found, sort_keys=True, default=dataclasses.asdict)


def unsealed(tree):
    if isinstance(tree, list):
        return [unsealed(one) for one in tree]
    return {k: v for k, v in tree.items() if k not in ("format", "seal")} if isinstance(tree, dict) else tree


HOSTILE = {
    "nested": b'{"a": ' * 100_000,
    "deep": b'{"a": ' * 300 + b"1" + b"}" * 300,
    "huge": b'{"step": ' + b"9" * 5000 + b"}",
    "large": b'{"step": 99999999999999999999}',
    "no unicode": b'{"a": "\xff"}',
    "twice": b'{"status": "done", "status": "failed", "step": 1}',
    "not a number": b'{"status": "done", "step": NaN}',
    "endless": b'{"status": "done", "step": 1e999}',
    "empty": b"",
    "zeros": bytes(64),
}


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("name", ["config.json", "run.json", "status.json", "results.json", "metrics.jsonl"])
def test_hostile_content_is_a_sentence(good, tmp_path, name, how):
    workdir = folder(tmp_path, good)
    (tmp_path / name).write_bytes(HOSTILE[how] + b"\n" * (name == "metrics.jsonl"))
    if (name, how) == ("run.json", "endless") or (name, how) == ("run.json", "not a number"):
        assert READ[name](workdir) == Info()  # of keys that nobody reads
        return
    with pytest.raises(WorkdirError) as error:
        READ[name](workdir)
    assert str(tmp_path / name) in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize("kind", ["folder", "pipe", "circle", "forbidden"])
@pytest.mark.parametrize("name", ["config.json", "status.json", "metrics.jsonl"])
def test_what_is_no_file_is_a_sentence(good, tmp_path, name, kind, monkeypatch):
    workdir = folder(tmp_path, good)
    if kind != "forbidden":
        (tmp_path / name).unlink()
    if kind == "folder":
        (tmp_path / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "circle":
        (tmp_path / name).symlink_to(tmp_path / name)
    elif os.geteuid():
        (tmp_path / name).chmod(0)
    else:  # root may read all
        pytest.skip("root may read everything")
    with pytest.raises(WorkdirError, match=rf"{name} cannot be read \(.*\)"):
        READ[name](workdir)


# Metrics.


def test_what_is_lost_is_said_and_kept_beside_the_rest(good, tmp_path):
    workdir = folder(tmp_path, good)
    lines = good["metrics.jsonl"].splitlines(keepends=True)
    damaged = b"".join([*lines[:3], lines[3].replace(b'"loss"', b'"lost"'), *lines[4:]])
    (tmp_path / "metrics.jsonl").write_bytes(damaged)
    with pytest.raises(WorkdirError, match=r"metrics\.jsonl, line 4 was changed .*run `seqjax train`"):
        workdir.whole()
    with pytest.raises(
        WorkdirError, match=r"line 4 was changed .* kept as metrics\.jsonl\.damaged; .* the 11 good rows"
    ):
        workdir.mend()
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
    assert workdir.whole().rows == [*rows()[:3], *rows()[4:]]
    workdir.mend()
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(WorkdirError, match=r"the rows at its end are lost: the file is gone; .* the 0 good rows"):
        workdir.mend()
    assert workdir.whole().rows == [] and [p.name for p in tmp_path.glob("*.damaged*")] == ["metrics.jsonl.damaged"]


def test_older_rows_stay_and_new_ones_are_sealed_behind_them(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(2)))
    metrics = Workdir(tmp_path).append(2)
    metrics.write({"step": 3, "split": "train", "loss": 0.5})
    metrics.write({"step": 4, "split": "train", "loss": 0.25})
    metrics.close()
    assert len(Workdir(tmp_path).whole().rows) == 6
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4] + lines[5:]))
    with pytest.raises(WorkdirError, match="line 5 was changed after it was written, or one before it is lost"):
        Workdir(tmp_path).whole()


# Links.


def test_nothing_is_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    run = tmp_path / "run"
    run.mkdir()
    workdir = Workdir(run)
    actions = {
        ".lock": lambda: workdir.lock(),
        "status.json": lambda: workdir.write("status.json", {}),
        "results.json": lambda: workdir.update("results.json", {"a": 1}),
        ".results.json.lock": lambda: workdir.update("results.json", {"a": 1}),
        "metrics.jsonl": lambda: Workdir(run).append(0),
        "study.journal": lambda: Journal(run / "study.journal"),
        "report.html": lambda: output.save(run / "report.html", "text"),
    }
    for name, action in actions.items():
        for target in (outside, tmp_path / "new"):
            (run / name).unlink(missing_ok=True)
            (run / name).symlink_to(target)
            with pytest.raises(WorkdirError, match=r"it is a link|not JSON"):
                action()
            assert (run / name).is_symlink()
            (run / name).unlink()
    assert outside.read_text() == "mine\n" and not (tmp_path / "new").exists()


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "outside").write_text("mine")
    for name in (f".status.json.{os.getpid()}", "metrics.tmp"):
        (tmp_path / name).symlink_to(tmp_path / "outside")
    workdir = Workdir(tmp_path)
    workdir.write("status.json", {"status": "done", "step": 1})
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n{"st')
    Workdir(tmp_path).append(1).close()
    assert (tmp_path / "outside").read_text() == "mine" and workdir.record("status.json", Status).step == 1
