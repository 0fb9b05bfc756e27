"""The check of an accelerator: no part stops another, and the summary and the exit code say what became of each."""

import json
import time

import launch
import pytest

from benchmarks import gpu_check, loop, results, session
from benchmarks.gpu_check import Part
from benchmarks.harness import Timing, Visit

MACHINE = {
    "platform": "gpu",
    "device": "Some GPU",
    "devices": 2,
    "absent": ["torch"],
    "runtime": "cuda 12080",
    "capability": "9.0",
    "memory": 80 * 2**30,
    "driver": "580.1\n580.1",
    "versions": {"jax": "1.2"},
    "git": "abc",
}


def part(name: str, code: str, **env) -> Part:
    return Part(name, ["-c", code], gpu_check._last_line, env=env)


SAID = "SKIPPED [2] tests/a.py:3: no GPU\nSKIPPED [1] tests/b.py:4: no GPU\n3 passed, 3 skipped in 2s"
FINE = part("fine", "import os; print(os.environ['SAID'])", SAID=SAID)
BROKEN = part("broken", "print('1 failed in 2s'); raise ValueError('no such kernel')")


def test_a_part_that_fails_does_not_stop_the_others(tmp_path):
    confused = FINE._replace(name="confused", figures=lambda log: 1 / 0)
    assert gpu_check.check([BROKEN, confused, FINE], MACHINE, tmp_path, minutes=1) == 1
    page = (tmp_path / "summary.md").read_text()
    assert "2 passed, 1 failed, 0 skipped." in page
    broken, unread, fine = (line.split(" | ") for line in page.splitlines() if line.startswith(("| b", "| c", "| f")))
    assert broken[:2] == ["| broken", "failed"] and fine[:2] == ["| fine", "passed"]
    assert broken[3] == "code 1: ValueError: no such kernel; 1 failed in 2s |"
    assert (unread[1], fine[3]) == (
        "passed",
        "3 passed, 3 skipped in 2s; skipped: no GPU |",
    ) and "ZeroDivisionError" in unread[3]
    assert "2 x Some GPU, compute capability 9.0, 80 GiB for JAX; cuda 12080" in page and "driver 580.1\n" in page
    assert "Traceback" in (tmp_path / "broken.log").read_text()
    assert gpu_check.check([FINE], MACHINE, tmp_path, minutes=1) == 0


def test_a_part_that_does_not_end_is_ended_with_all_that_it_started(tmp_path):
    sleep = "import subprocess, os, sys; print(os.getpid(), flush=True); subprocess.run(['sleep', '50'])"
    begin = time.monotonic()
    outcome = gpu_check.run(part("endless", sleep), tmp_path, limit=1)
    assert (outcome.became, outcome.reason) == ("failed", "no end after 1 s")
    assert time.monotonic() - begin < 20 and launch.gone(int(outcome.figures))


def test_an_interrupt_leaves_a_summary(tmp_path, monkeypatch):
    outcomes = [gpu_check.Outcome("fine", "passed")]

    def run(part, out, limit):
        if not outcomes:
            raise KeyboardInterrupt
        return outcomes.pop()

    monkeypatch.setattr(gpu_check, "run", run)
    assert gpu_check.check([FINE, BROKEN, FINE], MACHINE, tmp_path, minutes=1) == 130
    page = (tmp_path / "summary.md").read_text()
    assert "1 passed, 0 failed, 2 skipped. Interrupted." in page and "| broken | skipped | 0 | interrupted |" in page


def test_parts_share_the_time_that_is_left(tmp_path, monkeypatch):
    limits = []

    def run(part, out, limit):
        limits.append(round(limit))
        return gpu_check.Outcome(part.name, "passed")

    monkeypatch.setattr(gpu_check, "run", run)
    assert gpu_check.check([FINE._replace(weight=3.0), FINE, FINE], MACHINE, tmp_path, minutes=10) == 0
    assert limits == [360, 300, 600]  # what a part leaves belongs to the next ones
    assert gpu_check.check([FINE], MACHINE, tmp_path, minutes=0) == 0
    assert "no time left" in (tmp_path / "summary.md").read_text()


def test_the_tables_are_those_of_the_benchmark(tmp_path):
    timing = lambda ms: Timing([Visit(ms / 1e3, ms / 1e3, 0.0)] * 3, "keep", "cpu", 1.0, None, 1.0)
    row = results.row({"what": "x", "L": 3}, {"ours": timing(2), "other": timing(3)}, "wall", [])
    results.save({"name": "race", "rows": [row]}, tmp_path / "race-some-gpu", draw=None)
    ((_, cells),) = gpu_check.tables(tmp_path / "race.log", begin=("",))
    assert cells == [["case", "ours, ms", "other"], ["x (3)", "2", "1.50"]]
    rows = [loop.row(what, "a", {"ms": [1.0]}, {}, {"others": 0.0, "noisy": False}) for what in ("calls", "saves")]
    results.save({"name": "loop", "rows": rows}, tmp_path / "loop-some-gpu", loop.tables(rows), draw=None)
    assert [caption for caption, _ in gpu_check.tables(tmp_path / "loop.log", begin=("",))] == ["Calls", "Saves"]
    ((_, cells),) = gpu_check.tables(tmp_path / "loop.log", begin=("Sav",))
    assert cells == [["", "ms", "others"], ["a", "1 (1–1)", "0.00"]]
    assert gpu_check.tables(tmp_path / "none.log", begin=("",)) == "nothing was measured"
    outcome = gpu_check.Outcome("loop", "passed", figures=[("Saves", cells)])
    assert "**loop**: Saves\n\n|  | ms | others |\n| --- | --- | --- |\n| a |" in gpu_check.summary(MACHINE, [outcome])


class Parsed(Exception):
    pass


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_each_benchmark_with_a_check_understands_its_options(tmp_path, monkeypatch, platform):
    found = gpu_check.parts(MACHINE | {"platform": platform}, tmp_path)
    assert {"tests", "verify-resume", "killed", "recurrence", "attention", "loop"} <= {part.name for part in found}

    def parse(parser, argv, whole=session.parse):
        raise Parsed(whole(parser, argv))

    monkeypatch.setattr(session, "parse", parse)
    for part in found:
        _, module, *words = part.command
        if module == f"benchmarks.{part.name}":
            assert "torch" not in words  # the machine lacks it
            with pytest.raises(Parsed) as parsed:
                gpu_check.importlib.import_module(module).main(words)
            args = parsed.value.args[0]
            assert args.quick and args.out == tmp_path


def test_a_device_that_cannot_be_asked_is_in_the_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "PROBE", "raise RuntimeError('no driver')")
    machine = gpu_check.probe()
    assert gpu_check.about(machine) == ["- The device cannot be asked: RuntimeError: no driver"]
    assert gpu_check.parts(machine, tmp_path)


def test_what_the_check_asks_the_device(monkeypatch):
    machine = gpu_check.probe()
    assert (machine["platform"], machine["devices"]) == ("cpu", 1) and machine["versions"]["jax"]
    assert any("No accelerator" in line for line in gpu_check.about(machine))
    json.dumps(machine)


def test_the_command_takes_a_new_folder_and_known_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "probe", lambda: MACHINE)
    monkeypatch.setattr(gpu_check, "parts", lambda machine, out: [FINE, BROKEN])
    monkeypatch.setattr(gpu_check.signal, "signal", lambda *_: None)
    out = tmp_path / "new"
    for words, said in ((["--parts", "fast"], "got fast; choose from fine, broken"), ([], None)):
        with pytest.raises(SystemExit) as end:
            gpu_check.main(["--out", str(out), *words])
        assert said is None or said in capsys.readouterr().err
    assert end.value.code == 1 and "# Check of an accelerator" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu_check.main(["--out", str(out)])
    assert "holds an earlier check or other files" in capsys.readouterr().err
