"""Run folders as the trainer leaves them, small and made up."""

import json
import math

import pytest

from seqjax import report

TEXT = "Wherefore art <script>alert('x')</script> & thou?\n"


def _write(folder, name="gru", *, final=1.4, steps=1000, rows=None, **config):
    """A whole run folder; `config` replaces sections, `rows` the metrics."""
    folder.mkdir(parents=True)
    tree = {
        "seed": 0,
        "data": {"name": "shakespeare", "length": 128},
        "task": {"name": "next_token", "monitor": "loss"},
        "model": {"name": "stack", "width": 64, "layers": 2, "mixer": {"name": name}},
        "optim": {"learning_rate": 0.003, "warmup_steps": 100},
        "loader": {"batch_size": 32},
        "train": {"steps": steps},
        "parallel": {"mode": "jit"},
    } | config
    if rows is None:
        rows = []
        for step in range(100, steps + 1, 100):
            loss, seconds = final + 3 * math.exp(-step / 200), step / 10
            train = {"loss": loss, "learning_rate": 1e-3, "grad_norm": 0.7, "tokens_per_s": 5e4, "steps_per_s": 10.0}
            rows.append({"step": step, "split": "train", **train, "seconds": seconds})
            rows.append({"step": step, "split": "validation", "loss": loss + 0.1, "seconds": seconds})
    baselines = {"loss": {"uniform": 4.2, "5-gram": 1.7}, "accuracy": {"most frequent": 0.15}}
    info = {
        "parameters": 123456,
        "parameter_table": [["embedding/embedding", [65, 64], 4160], ["head/bias", [], 1]],
        "flops_per_step": 2.5e9,
        "tokens_per_step": 4096,
        "baselines": {"validation": baselines, "test": baselines},
        "costs": {"5-gram": {"parameters": 98765, "seconds": 2.25}},
        "versions": {"jax": "0.10.2"},
        "hardware": {"platform": "cpu", "device_kind": "cpu", "devices": 1},
        "git": "abc1234",
        "starts": [
            {
                "time": "2026-11-20T08:00:00",
                "step": 0,
                "command": "seqjax train",
                "changes": {},
                "origin": {"run": "runs/before", "step": 7, "fresh": []},
            },
            {"time": "2026-11-20T09:00:00", "step": 500, "command": "again", "changes": {"train.steps": [500, 1000]}},
        ],
    }
    metrics = {"loss": final + 0.15, "accuracy": 0.5}
    files = {
        "config.json": tree,
        "run.json": info,
        "status.json": {"status": "done", "step": steps, "error": None},
        "results.json": {"test": {"step": steps, "examples": 10, "metrics": metrics}},
        "samples.json": [{"prompt": "ROMEO:", "text": TEXT, "temperature": 0.8, "top_k": 40, "seed": 3, "step": steps}],
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def write_run():
    """`write_run(folder, mixer, final=..., rows=..., section=...)` makes a run folder and returns it."""
    return _write


@pytest.fixture(scope="session")
def pages():
    """`pages(folders, out)` writes a report and returns its HTML and its markdown."""
    return _pages


def _pages(folders, out):
    path = report.write(folders, out)
    assert path == out / "report.html"
    return path.read_text(), (out / "report.md").read_text()


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """HTML and markdown about the runs of `two`, and their folders, written once."""
    folders = _two(tmp_path_factory.mktemp("written"))
    return *_pages(folders, folders[0].parent / "out"), folders


@pytest.fixture
def two(tmp_path):
    """A run that beats every baseline and one that does not."""
    return _two(tmp_path)


def _two(tmp_path):
    mixer = {"name": "stack", "width": 64, "layers": 2, "mixer": {"name": "attention", "heads": 8, "dilation": 1}}
    return [
        _write(tmp_path / "runs" / "gru"),
        _write(tmp_path / "runs" / "attention", "attention", final=1.6, model=mixer),
    ]
