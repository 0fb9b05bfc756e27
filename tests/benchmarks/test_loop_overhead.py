"""The benchmark of the loop: what is measured is what it says, and the tables hold it. No speed is asserted."""

import json
import os
import time

import pytest

from benchmarks import _training, harness, loop, results
from benchmarks.results import Target

TINY = dict(width=4, length=4, batch=2, mixer="rnn")


def busy(others: float):
    """What `watched` says."""
    return {"others": others, "noisy": others > harness.QUIET}


def test_ratios_are_of_medians_and_hold_against_their_targets():
    figures = {"loop ms": [10.0, 11.0, 12.0], "step ms": [9.0, 10.0, 11.0]}
    checks = {"loop / step": ("loop ms", "step ms", Target("step", most=1.05)), "in 10": ("loop ms", 10.0, None)}
    row = loop.row("loop", "a step", figures, checks, busy(0.0))
    ratio = row["ratios"]["loop / step"]
    assert (ratio["ratio"], ratio["met"], ratio["target"]) == (1.1, False, "≤ 1.05")
    assert (ratio["low"], ratio["high"]) == (10.5 / 10.5, 11.5 / 9.5)
    assert (row["ratios"]["in 10"]["ratio"], row["ratios"]["in 10"]["met"]) == (1.1, None)
    noisy = loop.row("loop", "a step", figures, checks, busy(0.5))
    assert noisy["ratios"]["loop / step"]["met"] is None
    ((caption, (head, line)),) = loop.tables([noisy])
    assert (caption, head) == ("Loop", ["", "loop ms", "step ms", "loop / step", "in 10", "others"])
    assert line[1:4] == ["11 (10.5–11.5)", "10 (9.5–10.5)", results.cell(noisy["ratios"]["loop / step"])]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_others_are_those_that_are_not_us(share, monkeypatch):
    monkeypatch.setattr(harness, "_busy", lambda: sum(os.times()[:4]) + share * time.perf_counter())
    found: dict = {}
    with loop.watched(found):
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        time.sleep(0.3)
    assert found["others"] == pytest.approx(share, abs=0.06)  # os.times counts in hundredths
    assert found["noisy"] == (share > 0)


def test_a_loop_says_what_its_steps_took():
    tree = _training.tree(**TINY, steps=8, log_every=2, steps_per_call=2)
    assert tree["train"]["checkpoint_every"] is None
    assert tree["parallel"]["data"] == 1  # small batches cannot be divided over all devices of any machine
    times = _training.looped(tree)
    assert len(times) == 3 and min(times) > 0  # of four intervals, the first compiles


@pytest.mark.parametrize("plain", [False, True])
def test_a_step_alone_goes_on(plain):
    ms = _training.stepping(_training.tree(**TINY, steps=8), plain=plain)
    start = time.perf_counter()
    assert 0 < 3 * ms(3) <= 1e3 * (time.perf_counter() - start)


def test_saves_are_measured_per_100_mb():
    (row,) = loop.measure_saves(quick=True, sizes=(1,))
    found = row["figures"]
    assert row["case"] == {"what": "saves", "of": "1 MB"}
    assert found["per 100 MB, ms"] == pytest.approx([100 * ms for ms in found["blocks, ms"]])
    assert found["on disk, ms"][1] >= found["returns, ms"][1] > 0
    assert row["ratios"]["per 100 MB / 50 ms"]["ratio"] == pytest.approx(found["per 100 MB, ms"][1] / 50)


def test_all_that_is_measured_can_be_written(tmp_path, monkeypatch):
    per_step = lambda tree: 8.0 / tree["train"]["steps_per_call"]
    monkeypatch.setattr(_training, "looped", lambda tree: [per_step(tree)] * 3)
    monkeypatch.setattr(_training, "stepping", lambda tree, plain=False: lambda n: 4.0 if plain else 7.9)
    monkeypatch.setattr(_training, "started", lambda config, cache: 3.0 if os.listdir(cache) else _fill(cache))
    monkeypatch.setattr("seqjax.runtime.setup", lambda: None)
    monkeypatch.setenv("SEQJAX_CACHE", "")  # it is set anew, and must be as it was afterwards
    monkeypatch.setattr(harness, "QUIET", 99.0)
    loop.main(["--quick", "--what", "loop", "calls", "starts", "--out", str(tmp_path)])
    (file,) = tmp_path.glob("loop-*.json")
    saved = json.loads(file.read_text())
    found = {row["case"]["of"]: {k: (r["ratio"], r["met"]) for k, r in row["ratios"].items()} for row in saved["rows"]}
    assert found == {
        "a step of 1 ms": {"loop / step": (8 / 7.9, None), "loop / plain": (2.0, None)},
        "a step of 5 ms": {"loop / step": (8 / 7.9, True), "loop / plain": (2.0, None)},
        "a step of 20 ms": {"loop / step": (8 / 7.9, True), "loop / plain": (2.0, None)},
        "1 steps a call": {"gain": (1.0, None)},
        "10 steps a call": {"gain": (10.0, None)},
        "50 steps a call": {"gain": (50.0, True)},
        "gru": {"second / first": (0.75, False)},
        "attention": {"second / first": (0.75, False)},
    }
    assert "## Starts" in file.with_suffix(".md").read_text()


def _fill(cache: str) -> float:
    """A first start leaves something behind."""
    with open(os.path.join(cache, "program"), "w"):
        return 4.0


@pytest.mark.slow
def test_a_process_is_timed_to_its_first_step(tmp_path):
    start = time.perf_counter()
    ms = _training.started("quickstart.py:tiny", str(tmp_path))
    assert 0 < ms < 1e3 * (time.perf_counter() - start)
    assert any(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="ended with 2"):
        _training.started("quickstart.py:tiny", str(tmp_path), "--config.train.steps=none")
