"""What is run again, how often, and what ends it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from seqjax.supervise import is_worth_restarting, supervise
from seqjax.training.signals import SIGNALS

# Counts its starts in a file, and ends as the list of words says: a code, or the name of a signal.
CHILD = """
import os, signal, sys
file, *ends = sys.argv[1:]
count = len(open(file).read()) if os.path.exists(file) else 0
open(file, "a").write("x")
end = ends[min(count, len(ends) - 1)]
os.kill(os.getpid(), getattr(signal, end)) if end.startswith("SIG") else sys.exit(int(end))
"""


def child(tmp_path, *ends):
    return [sys.executable, "-c", CHILD, str(tmp_path / "starts"), *ends]


def starts(tmp_path) -> int:
    return len((tmp_path / "starts").read_text())


@pytest.mark.parametrize(
    ("ends", "code", "count"),
    [
        (("0",), 0, 1),
        (("75", "75", "0"), 0, 3),
        (("1", "0"), 0, 2),
        (("SIGKILL", "137", "0"), 0, 3),
        (("2", "0"), 2, 1),
        (("75", "6", "0"), 6, 2),
        (("75",), 75, 4),
        (("SIGKILL",), 137, 4),
    ],
)
def test_preemptions_and_crashes_are_run_again_and_mistakes_are_not(tmp_path, ends, code, count):
    assert supervise(child(tmp_path, *ends), restarts=3, wait=0.0) == code
    assert starts(tmp_path) == count


def test_only_what_may_go_better_next_time_is_worth_it():
    assert [code for code in range(-20, 20) if is_worth_restarting(code)] == [*range(-20, 0), 1]
    assert is_worth_restarting(75) and is_worth_restarting(137) and not is_worth_restarting(128)


def test_waiting_doubles(tmp_path, capfd):
    supervise(child(tmp_path, "75"), restarts=2, wait=0.01)
    said = capfd.readouterr().err
    assert "code 75: starting it again in 0.01 s, restarts left: 2" in said
    assert "starting it again in 0.02 s, restarts left: 1" in said
    assert "no restart left" in said


def test_no_wait_is_longer_than_the_longest(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("seqjax.supervise.LONGEST", 0.01)
    assert supervise(child(tmp_path, "75", "0"), restarts=2, wait=1e300) == 0
    assert "again in 0.01 s" in capfd.readouterr().err


@pytest.fixture
def hears():
    """What is started hears SIGHUP, though the tests may run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_handed_on_and_ends_it(tmp_path, number, hears):
    """The child saves and says 75; nothing is started again."""
    code = (
        "import signal, sys, time; "
        f"signal.signal({int(number)}, lambda *_: sys.exit(75)); "
        f"open({str(tmp_path / 'starts')!r}, 'a').write('x'); time.sleep(60)"
    )
    command = [sys.executable, "-m", "seqjax", "supervise", "--wait", "0", "--", sys.executable, "-c", code]
    process = subprocess.Popen(command, env=dict(os.environ, JAX_PLATFORMS="cpu"))
    end = time.monotonic() + 60
    while not (tmp_path / "starts").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(30) == 75
    assert starts(tmp_path) == 1


def test_the_command_after_two_dashes_is_left_alone(tmp_path):
    """Options that seqjax has, too, are the command's own."""
    out = tmp_path / "out"
    code = f"import sys; open({str(out)!r}, 'w').write(' '.join(sys.argv[1:]))"
    words = ["--config.model.width=3", "--restarts", "7", "--", "-x"]
    command = [sys.executable, "-m", "seqjax", "supervise", "--", sys.executable, "-c", code, *words]
    assert subprocess.run(command).returncode == 0
    assert out.read_text() == " ".join(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "/no/such/program"], "cannot run '/no/such/program'"),
        ([], "no command: write it after two dashes"),
        (["--restarts", "-1", "--", "true"], "both must be at least 0"),
        (["--wait", "inf", "--", "true"], "argument --wait: got inf, wanted a finite number"),
    ],
)
def test_what_cannot_be_supervised(words, said):
    done = subprocess.run([sys.executable, "-m", "seqjax", "supervise", *words], capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
