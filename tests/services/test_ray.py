"""The executor of Ray on a real cluster of two nodes, which are processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import launch
import pytest
import sweeps

from seqjax.search.executors.ray import Executor

pytestmark = pytest.mark.services


def sweep(folder: Path, address: str, rates: int, slots: int = 2, steps: int = 120):
    options = ("--executor", "ray", "--executor_option", f"address={address}", "--executor_option", "cpus=2")
    return launch.start(*sweeps.sweep(folder, rates, *options, "--slots", slots, steps=steps))


def nodes() -> dict[int, str]:
    """The raylets of this machine: process id -> address of the node."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[0].endswith("raylet/raylet"):
            found |= {int(folder.name): w.partition("=")[2] for w in words if w.startswith("--node_ip_address=")}
    return found


def test_trials_run_on_both_nodes(ray, tmp_path):
    """Each trial asks for all CPUs of a node, so that two run on two nodes; none sees a GPU."""
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('RAY_RAYLET_PID'))"
    with Executor(address=ray, slots=2, cpus=2) as executor:
        more = f"{code}; import time; time.sleep(3)"
        for i in range(2):
            executor.submit([sys.executable, "-S", "-c", more], tmp_path / f"{i}.log")
        codes, end = [], time.monotonic() + 60
        while time.monotonic() < end and (ended := executor.wait(60)):
            codes += [code for _, code in ended]
    assert codes == [0, 0]
    seen = [(tmp_path / f"{i}.log").read_text().split() for i in range(2)]
    assert {int(pid) for _, pid in seen} == set(nodes()), (seen, nodes())
    assert {gpus for gpus, _ in seen} <= {"None", ""}


def test_a_sweep_on_the_cluster(ray, tmp_path):
    outcome = launch.end(sweep(tmp_path, ray, 3))
    assert outcome.code == 0, outcome
    sweeps.check(tmp_path, 3)


def test_a_sweep_outlives_a_node(ray, tmp_path):
    """A third node is killed while it trains: its trial goes on on another node, from where it was saved."""
    token = {**os.environ, "RAY_AUTH_MODE": "token"}
    before = set(nodes())
    command = [Path(sys.executable).with_name("ray"), "start", f"--address={ray}", "--node-ip-address=127.0.0.4"]
    more = ["--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    node = subprocess.Popen([*command, *more], env=token, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        launch.until(lambda: len(set(nodes()) - before) == 1, node)
        (raylet,) = set(nodes()) - before
        process = sweep(tmp_path, ray, 4, slots=3, steps=400)
        trials = tmp_path / "s" / "trials"
        launch.until(lambda: len({path.parent for path in trials.glob("*/ckpt/*0")}) == 3, process)  # one per node
        os.kill(raylet, signal.SIGKILL)
        outcome = launch.end(process, 240)
    finally:
        node.terminate()
        node.wait(60)
    assert outcome.code == 0, outcome
    sweeps.check(tmp_path, 4, 400)
    assert sorted(len(sweeps.starts(trials / f"{i:04}")) for i in range(4)) == [1, 1, 1, 2]


def test_a_cluster_that_cannot_be_had_is_one_sentence(ray, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    outcome = launch.end(sweep(tmp_path, ray, 1))
    assert outcome.code == 2
    assert "set RAY_AUTH_MODE=token" in outcome.err.strip().splitlines()[-1] and "Traceback" not in outcome.err
