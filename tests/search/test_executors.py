"""Every executor keeps one contract: exit codes, logs, slots, orderly stops, and nothing that outlives it."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from seqjax import lookup
from seqjax.search.executors import _remote
from seqjax.types import ConfigError

PACKAGE = "seqjax.search.executors"
OPTIONS = {"slurm": {"cluster": "local"}}
NEEDS = {"slurm": "submitit", "ray": "ray"}
HEAVY = {"ray", "slurm"}  # they take seconds to start
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY)) for name in lookup.names(PACKAGE)]


@pytest.fixture(params=NAMES)
def executor(request):
    """Makes executors by name; each is closed at the end."""
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    with contextlib.ExitStack() as stack:
        make = lookup.find(request.param, PACKAGE, "Executor")
        yield lambda **options: stack.enter_context(make(**OPTIONS.get(request.param, {}) | options))


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def everything(executor, patience: float = 60) -> dict:
    """Job -> code of all there are."""
    ended, end = {}, time.monotonic() + patience
    while time.monotonic() < end and (found := executor.wait(patience)):
        ended.update(found)
    return ended


def until(condition, patience: float = 60):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_codes_and_logs(executor, tmp_path):
    """Each job ends once, with its own code; what it printed is in its log, also that there is no such program."""
    executor = executor(slots=2)
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    talks = "import os, sys; print('out', os.getcwd(), flush=True); sys.exit('err')"
    commands = {"killed": python(killed), "talks": python(talks), "fine": python(""), "none": ["/no/such/program"]}
    jobs = {executor.submit(command, tmp_path / f"{name}.log"): name for name, command in commands.items()}
    ended = everything(executor)
    codes = {jobs[job]: code for job, code in ended.items()}
    assert codes == {"killed": -signal.SIGKILL, "talks": 1, "fine": 0, "none": 1}
    assert (tmp_path / "talks.log").read_text() == f"out {os.getcwd()}\nerr\n"
    assert "cannot run '/no/such/program'" in (tmp_path / "none.log").read_text()
    assert (tmp_path / "fine.log").read_text() == ""
    assert executor.wait() == []


def test_no_more_than_slots_at_a_time(executor, tmp_path):
    """Five jobs for two slots: never three at once, and all five run."""
    executor = executor(slots=2)
    code = """
import os, sys, time
here, me = sys.argv[1:]
open(os.path.join(here, me + ".on"), "w").close()
time.sleep(0.4)
print(sum(f.endswith(".on") for f in os.listdir(here)))
os.remove(os.path.join(here, me + ".on"))
"""
    for i in range(5):
        executor.submit([*python(code), str(tmp_path), str(i)], tmp_path / f"{i}.log")
    assert set(everything(executor).values()) == {0}
    counts = [int((tmp_path / f"{i}.log").read_text()) for i in range(5)]
    assert max(counts) <= 2


ORDERLY = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(100)
"""
STUBBORN = ORDERLY.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN")


def test_stop_asks_first(executor, tmp_path):
    """A running job ends as it likes, one in the queue never runs; the executor goes on."""
    executor = executor(slots=1)
    running = executor.submit(python(ORDERLY), tmp_path / "running.log")
    queued = executor.submit(python("print('ran')"), tmp_path / "queued.log")
    log = tmp_path / "running.log"
    until(lambda: executor.wait(0.1) or (log.exists() and "ready" in log.read_text()))
    executor.stop(queued)
    assert executor.wait(1) == [(queued, -signal.SIGTERM)]
    executor.stop(running)
    executor.stop(running)  # again: nothing more
    assert everything(executor) == {running: 75}
    assert not (tmp_path / "queued.log").exists()
    last = executor.submit(python(""), tmp_path / "last.log")
    assert everything(executor) == {last: 0}
    executor.stop(last)
    assert executor.wait() == []


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["front", "background"])
def sigint(request):
    """What becomes of SIGINT: in the background, shells have it ignored."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_what_does_not_listen_is_killed(executor, sigint, tmp_path):
    executor = executor(slots=1, grace=0.5)
    job = executor.submit(python(STUBBORN), tmp_path / "log")
    until(lambda: (tmp_path / "log").exists() and "ready" in (tmp_path / "log").read_text())
    assert executor.wait(0.1) == []
    executor.stop(job)
    assert everything(executor) == {job: -signal.SIGKILL}
    assert signal.getsignal(signal.SIGINT) == sigint


def test_waiting_ends_in_time(executor, tmp_path):
    executor = executor(slots=1)
    assert executor.wait() == []
    executor.submit(python("import time; time.sleep(100)"), tmp_path / "log")
    assert executor.wait(0.3) == [] and executor.wait(0) == []


def test_nothing_outlives_the_executor(executor, tmp_path):
    """Neither what runs nor what it started nor what waited."""
    made = executor(slots=1, grace=0.5)
    code = (
        "import subprocess, os; child = subprocess.Popen(['sleep', '100']); print(os.getpid(), child.pid, flush=True)"
    )
    made.submit(python(f"{code}\n{STUBBORN}"), tmp_path / "log")
    made.submit(python("print('ran')"), tmp_path / "queued.log")
    until(lambda: made.wait(0.1) or ((tmp_path / "log").exists() and "ready" in (tmp_path / "log").read_text()))
    pids = list(map(int, (tmp_path / "log").read_text().split()[:2]))
    assert all(map(alive, pids))
    made.close()
    until(lambda: not alive(pids[0]), 10)
    if type(made).__name__ == "Local":  # elsewhere it may be the machine's business
        until(lambda: not alive(pids[1]), 10)
    assert not (tmp_path / "queued.log").exists()
    assert not list(tmp_path.glob("*.lease"))


def test_children_of_a_killed_parent_are_killed(tmp_path):
    code = f"""
import sys, time
from seqjax.search.executors.local import Executor
executor = Executor(slots=1)
executor.submit([sys.executable, "-S", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(100)"],
                {str(tmp_path / "log")!r})
time.sleep(100)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().endswith("\n"))
    pid = int((tmp_path / "log").read_text())
    assert alive(pid)
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid), 10)


@pytest.mark.parametrize("end", ["deleted", "another's", "old", "asked"])
def test_a_job_elsewhere_stops_without_its_lease(tmp_path, monkeypatch, end):
    """It is deleted, or a new executor has taken it, or nobody renews it; renewed, it goes on."""
    monkeypatch.setattr(_remote, "LEASE", 1.0)
    lease, log = tmp_path / "lease", tmp_path / "log"
    lease.write_text("token")
    codes, asked = [], threading.Event()
    args = (
        python(ORDERLY),
        str(log),
        str(lease),
        "token",
        str(tmp_path),
        lambda: asked.is_set() and signal.SIGTERM,
        0.05,
    )
    job = threading.Thread(target=lambda: codes.append(_remote.guarded(*args)))
    job.start()
    until(lambda: log.exists() and "ready" in log.read_text())
    for i in range(15):
        os.utime(lease, (i, i))
        time.sleep(0.1)
    assert job.is_alive()
    if end == "deleted":
        lease.unlink()
    elif end == "another's":  # who renews it for himself
        lease.write_text("other")
        for i in range(100):
            os.utime(lease, (i, i))
            job.join(0.1)
        assert not job.is_alive()
    elif end == "asked":
        asked.set()
    job.join(30)
    assert codes == [75]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_job_that_its_cluster_ends_is_lost_not_failed(tmp_path, number):
    """What dies of the signal before it listens counts as preempted, so another job goes on."""
    (tmp_path / "lease").write_text("token")
    arguments = (str(tmp_path / "log"), str(tmp_path / "lease"), "token", str(tmp_path), lambda: number, 0.05)
    assert _remote.guarded(python("import time; time.sleep(100)"), *arguments) == 75


def test_a_job_that_was_started_again_leaves_its_successor_alone(tmp_path):
    """A cluster starts what it took away once more; by then the lease is that of another job."""
    (tmp_path / "lease").write_text("other")
    arguments = (str(tmp_path / "log"), str(tmp_path / "lease"), "token", str(tmp_path))
    assert _remote.guarded(python("print('ran')"), *arguments) == -signal.SIGTERM
    assert not (tmp_path / "log").exists()


def test_a_lease_that_cannot_be_read_once_is_not_gone(tmp_path, monkeypatch):
    """Nor is an executor ended that cannot renew it once."""
    lease = tmp_path / "lease"
    lease.write_text("token")
    renewed = _remote._read(str(lease), "token", 0.0)
    assert renewed > 0 and _remote._read(str(lease), "other", renewed) is None
    failing = lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        assert _remote._read(str(lease), "token", renewed) == renewed
        code = python("import time; time.sleep(0.3)")
        arguments = (code, str(tmp_path / "log"), str(lease), "token", str(tmp_path))
        assert _remote.guarded(*arguments, poll=0.05) == 0
    executor = _remote.Remote()
    executor._running["job"] = 0, _remote._Held(executor, lease, None)
    monkeypatch.setattr(_remote, "RENEW", -1.0)
    monkeypatch.setattr(executor, "_result", lambda call: None)
    for error in (failing, os.utime):
        monkeypatch.setattr(_remote.os, "utime", error)
        executor._collect()
    assert _remote._read(str(lease), "token", 0.0) > renewed
    lease.unlink()
    executor._collect()
    assert _remote._read(str(lease), "token", renewed) is None and not lease.exists()


@pytest.mark.slow  # submitit and ray take seconds to start
@pytest.mark.parametrize("name", NEEDS)
def test_a_job_that_cannot_be_run_was_not_killed(name, tmp_path, caplog):
    pytest.importorskip(NEEDS[name])
    (tmp_path / "log").mkdir()  # so `guarded` cannot open it
    with lookup.find(name, PACKAGE, "Executor")(**OPTIONS.get(name, {})) as executor:
        executor.submit(python(""), tmp_path / "log")
        assert list(everything(executor).values()) == [1]
    assert "could not be run" in caplog.text and "IsADirectoryError" in caplog.text


@pytest.mark.parametrize(("given", "seen"), [(None, ["0,1\n", "2,3\n"]), ("7,5,GPU-a,1,0", ["7,5\n", "GPU-a,1\n"])])
def test_each_slot_has_its_own_gpus(given, seen, tmp_path, monkeypatch):
    from seqjax.search.executors.local import Executor

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    code = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.5)"
    with Executor(slots=2, gpus=2) as executor:
        for i in range(2):
            executor.submit(python(code), tmp_path / str(i))
        everything(executor)
    assert sorted((tmp_path / str(i)).read_text() for i in range(2)) == seen


def test_what_an_executor_cannot_be_told(tmp_path, monkeypatch):
    from seqjax.search.executors.slurm import Executor

    with pytest.raises(ValueError, match="slots"):
        lookup.find("local", PACKAGE, "Executor")(slots=0)
    with pytest.raises(ValueError, match="constraint"):
        Executor(options=("constraint",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(ConfigError, match="2 slots of 1 GPUs need 2, but CUDA_VISIBLE_DEVICES='3' names 1"):
        lookup.find("local", PACKAGE, "Executor")(slots=2, gpus=1)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install .*\.\[slurm\]"):
        Executor()


def test_slurm_needs_its_programs(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    from seqjax.search.executors.slurm import Executor

    monkeypatch.setenv("PATH", str(tmp_path))
    with Executor() as executor, pytest.raises(ConfigError, match=r"executor\.cluster=local"):
        executor.submit(python(""), tmp_path / "log")
