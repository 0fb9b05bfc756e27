"""Several processes are one run: the same losses, one folder, one end. Processes meet on 127.0.0.1."""

import concurrent.futures
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import eight_devices
import launch
import numpy as np
import pytest

from seqjax.data import Batches, Loader, copy
from seqjax.training import processes, roll_call
from seqjax.training.checkpoint import Checkpoints
from seqjax.types import ConfigError

STEPS = 12
HEARTBEAT = 10
ENDED_BY_JAX = (-signal.SIGABRT, 128 + signal.SIGABRT)


def port() -> int:
    """One that is free."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(count: int, config: str, folder, *args, each=None, missing=()):
    """The processes of one run: `count` of them, with eight devices in all; `each` says what else one is told."""
    join = (
        "--coordinator_address",
        f"127.0.0.1:{port()}",
        "--num_processes",
        count,
        "--heartbeat_timeout",
        HEARTBEAT,
        "--initialization_timeout",
        40,
    )
    env = {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1] / "faults")]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={8 // count}",
    }
    return [
        launch.start(
            *("train", "--config", config, "--workdir", folder, *join, "--process_id", i, *args),
            *(each or {}).get(i, ()),
            **env,
        )
        for i in range(count)
        if i not in missing
    ]


def train(count: int, *args, **kwargs) -> list[launch.Outcome]:
    outcomes = [launch.end(p) for p in start(count, *args, **kwargs)]
    assert [o.code for o in outcomes] == [0] * count, outcomes
    return outcomes


def losses(folder) -> list[float]:
    return [row["loss"] for row in launch.rows(folder) if row["split"] == "train"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("config")
    tree = eight_devices.tree(root)
    tree["train"] |= {"steps": STEPS, "checkpoint_every": 4}
    return launch.write(root / "c.json", tree)


@pytest.fixture(scope="module")
def two(config, tmp_path_factory):
    """The folder of an undisturbed run of two processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    train(2, config, folder)
    return folder


WAYS = {
    "jit": (1, ()),
    "fsdp": (1, ("fsdp=8",)),
    "tensor": (1, ("tensor=2", "fsdp=2")),
    "pmap": (1, ("mode=pmap",)),
    "2 processes, fsdp and tensor": (2, ("fsdp=2", "tensor=2")),
    "2 processes, tensor across both": (2, ("tensor=8",)),
    "2 processes, pmap": (2, ("mode=pmap",)),
    "4 processes": (4, ()),
}


@pytest.mark.slow
@pytest.mark.parametrize(("count", "options"), WAYS.values(), ids=WAYS)
def test_losses_of_all_ways_agree(config, two, tmp_path, count, options):
    """Twelve steps without dropout, on eight devices: within 1e-5 of two processes with jit."""
    train(count, config, tmp_path / "run", *(f"--config.parallel.{o}" for o in options))
    assert len(losses(tmp_path / "run")) == STEPS
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(two), rtol=1e-5)
    about = json.loads((tmp_path / "run" / "run.json").read_text())["hardware"]
    assert (about["devices"], about["processes"]) == (8, count)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_a_checkpoint_of_two_processes_goes_on_with_another_number(config, two, tmp_path, count):
    """The same data order and the same losses, from the step that was saved."""
    folder = tmp_path / "run"
    train(2, config, folder, "--config.train.steps=6")
    train(count, config, folder)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [s["step"] for s in starts] == [0, 6]
    np.testing.assert_allclose(losses(folder), losses(two), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_begin_with_another_run(config, two, tmp_path):
    begin = (f"--config.init.run={two}", "--config.init.checkpoint=latest", "--config.train.steps=4")
    train(1, config, tmp_path / "one", *begin)
    train(2, config, tmp_path / "run", *begin, "--config.parallel.fsdp=2", "--config.parallel.tensor=2")
    assert losses(tmp_path / "one")[0] < 0.95 * losses(two)[0]
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(tmp_path / "one"), rtol=1e-5)


@pytest.mark.slow
def test_expected_counts_of_two_processes_are_those_of_one(tmp_path):
    """Stepwise EM, which begins with data; and from a checkpoint of two processes it goes on in one."""
    tree = eight_devices.tree(tmp_path) | {"task": {"name": "next_token"}, "optim": {}}
    tree["model"] = {"name": "hmm", "states": 2, "topology": "linear"}
    config = launch.write(tmp_path / "c.json", tree | {"learner": {"name": "em", "decay": 0.7}})
    train(1, config, tmp_path / "one")
    one = losses(tmp_path / "one")
    assert len(one) == 6 and one[-1] < one[0]
    for way in ("fsdp=2", "mode=pmap"):
        train(2, config, tmp_path / way, f"--config.parallel.{way}", "--config.train.steps=3")
        train(1, config, tmp_path / way)
        np.testing.assert_allclose(losses(tmp_path / way), one, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_when_one_process_is_lost_the_other_ends_and_both_resume(config, two, tmp_path, number):
    folder = tmp_path / "run"
    first, second = start(2, config, folder, "--config.train.steps=100000")
    launch.until(lambda: Checkpoints(folder / "ckpt").steps(), first)
    second.send_signal(number)
    outcome = launch.end(first, timeout=HEARTBEAT + 20)
    second.kill()
    launch.end(second)
    assert outcome.code in ENDED_BY_JAX
    reached = Checkpoints(folder / "ckpt").steps()[0]
    train(2, config, folder, f"--config.train.steps={reached + 4}")
    assert json.loads((folder / "run.json").read_text())["starts"][1]["step"] == reached
    train(2, config, tmp_path / "straight", f"--config.train.steps={reached + 4}")
    assert launch.final(folder) == launch.final(tmp_path / "straight")
    assert launch.rows(folder) == launch.rows(tmp_path / "straight")
    assert losses(folder)[:STEPS] == losses(two)[: len(losses(folder))]


@pytest.mark.slow
@pytest.mark.parametrize(("told", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_to_one_process_ends_both_behind_the_same_step(config, tmp_path, told, number):
    folder = tmp_path / "run"
    both = start(2, config, folder, "--config.train.steps=100000", "--config.train.checkpoint_every=none")
    launch.until(lambda: len(launch.rows(folder)) > 2, both[0])
    both[told].send_signal(number)
    outcomes = [launch.end(p, timeout=60) for p in both]
    assert [o.code for o in outcomes] == [75, 75]
    for outcome in outcomes:
        assert "run the same command again" in outcome.err.splitlines()[-1] and "Traceback" not in outcome.err
    status = json.loads((folder / "status.json").read_text())
    assert status["status"] == "preempted" and Checkpoints(folder / "ckpt").steps() == [status["step"]]


@pytest.mark.slow
def test_who_never_comes_is_missed(config, tmp_path):
    for missing in (0, 1):
        (alone,) = start(2, config, tmp_path / "run", "--initialization_timeout", 5, missing=(missing,))
        outcome = launch.end(alone, timeout=60)
        assert outcome.code == processes.ABORTED
        last = outcome.err.splitlines()[-1]
        assert (
            f"process {1 - missing} of 2 waited 5 s" in last
            and "127.0.0.1:" in last
            and "--initialization_timeout" in last
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_different_configs_are_stopped(config, tmp_path):
    folder = tmp_path / "run"
    outcomes = [launch.end(p) for p in start(2, config, folder, each={1: ["--config.optim.learning_rate=0.02"]})]
    for outcome in outcomes:
        assert (
            outcome.code == 2
            and "optim.learning_rate" in outcome.err
            and "0.02" in outcome.err
            and "0.01" in outcome.err
        )
    assert not folder.exists()
    outcomes = [launch.end(p) for p in start(2, config, folder, each={1: ["--workdir", tmp_path / "other"]})]
    assert all(
        o.code == 2 and f"--workdir is '{tmp_path / 'other'}', process 0 has '{folder}'" in o.err for o in outcomes
    )
    assert not folder.exists() and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_locked_folder_ends_all_processes(config, tmp_path):
    from seqjax.training.workdir import Workdir

    lock = Workdir(tmp_path / "run").lock()
    outcomes = [launch.end(p) for p in start(2, config, tmp_path / "run")]
    lock.unlock()
    assert [o.code for o in outcomes] == [5, 5]
    assert all(f"process {os.getpid()}" in o.err for o in outcomes)


@pytest.mark.slow
def test_a_bad_record_in_the_share_of_one_process_ends_both(tmp_path):
    """Who reads it says so; the other must not wait for ever."""
    tree = launch.tiny("loader.batch_size=16", "train.steps=20", "task.name=classification")
    tree["data"] = {"name": "faulty.sources:Faulty", "fault": "token 9", "count": 64}
    outcomes = [launch.end(p, 90) for p in start(2, launch.write(tmp_path / "c.json", tree), tmp_path / "run")]
    told = [o for o in outcomes if o.code == 3]
    assert told and "record 5" in told[0].err.splitlines()[-1], outcomes
    assert all(o.code in (3, *ENDED_BY_JAX) for o in outcomes)


# In one process: shares of a batch, and what is refused.


@pytest.mark.parametrize("step", range(4))
def test_shares_of_a_batch_are_the_batch(step):
    """Also of the last batch, which has rows for some processes only; and nothing else is read."""
    source, read = copy.Source(length=4, symbols=4, examples=10), []
    example = source.example
    source.example = lambda split, index: read.append(index) or example(split, index)
    batches = Batches(source, "validation", Loader(batch_size=4))
    whole, indices = batches[step], list(read)
    shares = [np.array([0, 1]), np.array([2, 3])]
    parts = []
    for rows in shares:
        read.clear()
        parts.append(batches.part(step, rows))
        assert read == indices[rows[0] : rows[-1] + 1]
    for key, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), array)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(coordinator="127.0.0.1:1"), "--num_processes, --process_id missing"),
        (dict(count=2, index=0), "--coordinator_address missing"),
        (dict(coordinator="a:1", count=2, index=2), "--process_id 2 of --num_processes 2"),
        (dict(coordinator="a", count=2, index=1), "HOST:PORT"),
        (dict(coordinator="a:99999", count=2, index=1), "HOST:PORT"),
        (dict(coordinator="a:1", count=2, index=1, timeout=0), "--initialization_timeout 0"),
    ],
)
def test_incomplete_company_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        processes.join(**given)


def answers(port: int, *processes: tuple[int, int]) -> list[str | None]:
    """What the roll call says to processes (index, count) that come at the same time; None: all is well."""

    def one(count, index):
        try:
            roll_call.answer(f"localhost:{port}", count, index)
        except ConfigError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, *zip(*((count, index) for index, count in processes), strict=True)))


def test_processes_report_before_jax_joins_them():
    assert answers(port(), (0, 3), (1, 3), (2, 3)) == [None] * 3
    assert answers(port(), (0, 1)) == [None]


def test_two_processes_with_one_id_are_told_so():
    said = "two processes have --process_id 1: give each its own id, from 0 to 2."
    assert answers(port(), (0, 3), (1, 3), (1, 3)) == [said] * 3
    assert all("has --num_processes 3, process 0 2" in s for s in answers(port(), (0, 2), (1, 3)))


def test_a_port_in_use_is_a_sentence():
    with socket.create_server(("", 0)) as taken:
        (said,) = answers(taken.getsockname()[1], (0, 2))
    assert said.startswith("process 0 cannot listen on port") and "Address already in use" in said


def test_who_speaks_another_language_is_passed_over():
    number = port()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waits = pool.submit(answers, number, (0, 2))
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b""):
            roll_call_is_open(number).sendall(words)
        assert answers(number, (1, 2)) == waits.result(30) == [None]


def roll_call_is_open(number: int) -> socket.socket:
    for _ in range(100):
        try:
            return socket.create_connection(("localhost", number))
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nobody listens")


ENVIRONMENTS = {
    "alone": ({}, None),
    "a SLURM step": ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}, "slurm"),
    "a SLURM step of one": ({"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"}, None),
    "a SLURM script": ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, None),
    "Open MPI": ({"OMPI_COMM_WORLD_SIZE": "2"}, "ompi"),
    "Open MPI, one": ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    "an indexed job": ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "k8s"),
    "a notebook in a pod": ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    "a TPU slice": ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu"),
    "one TPU host": ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
}


@pytest.mark.parametrize(("env", "wanted"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_launchers_are_told_by_their_environment(env, wanted):
    assert processes.launcher(env) == wanted


@pytest.mark.parametrize("env", [e for e, wanted in ENVIRONMENTS.values() if wanted == "k8s"])
def test_kubernetes_without_its_package_is_refused(monkeypatch, env):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="jax\\[k8s\\]"):
        processes.join()
    processes.join(count=1)


def test_an_open_mpi_that_does_not_say_where_is_asked_for_the_coordinator(monkeypatch):
    for key, value in {"SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{key}", value)
    with pytest.raises(ConfigError, match="--coordinator_address"):
        processes.join()


@pytest.mark.slow
def test_sequences_cut_over_the_devices_of_two_processes_give_the_same_losses(tmp_path):
    """Attention in a ring and linear recurrences chunk by chunk, across processes, with evaluation and a restart."""
    tree = launch.tiny("data.length=8", "loader.batch_size=8", f"train.steps={STEPS}", "model.layers=3")
    tree["optim"]["schedule"] = "constant"
    mixers = [{"name": "attention", "heads": 2, "window": 5}, {"name": "rg_lru"}, {"name": "linear_attention"}]
    tree["model"]["mixer"] = mixers
    config = launch.write(tmp_path / "c.json", tree)
    train(1, config, tmp_path / "whole")
    train(2, config, tmp_path / "cut", "--config.parallel.sequence=8", "--config.train.steps=6")
    train(2, config, tmp_path / "cut", "--config.parallel.sequence=4")
    np.testing.assert_allclose(losses(tmp_path / "cut"), losses(tmp_path / "whole"), rtol=1e-5)
    looks = [[r["loss"] for r in launch.rows(tmp_path / n) if r["split"] == "validation"][-1] for n in ("cut", "whole")]
    np.testing.assert_allclose(*looks, rtol=1e-5)
