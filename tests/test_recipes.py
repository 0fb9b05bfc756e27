"""The recipes for clusters, run against stand-ins for what only a cluster has."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import launch
import pytest
import yaml

import seqjax
import seqjax.types
from seqjax import cli

RECIPES = Path(seqjax.__file__).parents[1] / "docs" / "recipes"

# As SLURM does it: one process for each task, and what each is told. The job's number makes the port.
SRUN = """\
export SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1
while [ "${1#--}" != "$1" ]; do shift; done
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids="$pids $!"; done
code=0
for p in $pids; do wait $p || code=$?; done
exit $code
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a program of this name and this text on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(RECIPES.parents[1]), *sys.path]))

    def make(name: str, text: str):
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)

    make("seqjax", f'exec {shlex.quote(sys.executable)} -m seqjax "$@"\n')
    return make


def run(script: str, *args, **env) -> subprocess.CompletedProcess:
    command = ["bash", str(RECIPES / script), *map(str, args)]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=180)


def parsed(command: list[str]):
    """What the command line understands of a command."""
    args, rest = cli._parser().parse_known_args(command[command.index("seqjax") + 1 :])
    assert not rest
    return args


@pytest.mark.slow
def test_slurm_starts_one_run_of_two_processes(tmp_path, stand_in):
    stand_in("srun", SRUN)
    stand_in("scontrol", f'echo "$@" > {tmp_path}/scontrol\n')
    config = launch.write(tmp_path / "c.json", launch.tiny())
    done = run(
        "slurm.sh",
        "--config",
        config,
        "--workdir",
        tmp_path / "run",
        SLURM_JOB_ID=str(os.getpid()),
        JAX_PLATFORMS="cpu",
    )
    assert done.returncode == 0, done.stderr
    hardware = json.loads((tmp_path / "run" / "run.json").read_text())["hardware"]
    assert hardware["processes"] == 2 and len(launch.rows(tmp_path / "run")) >= 4
    assert not (tmp_path / "scontrol").exists()


def test_each_process_of_a_slurm_job_sees_all_gpus_of_its_node():
    """JAX takes the GPU with the local number of the process, of all that the process sees."""
    text = (RECIPES / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, re.MULTILINE))
    assert options["gpus-per-node"] == options["ntasks-per-node"] and "gpus-per-task" not in options


@pytest.mark.parametrize(("code", "again"), [(75, True), (134, True), (2, False), (0, False)])
@pytest.mark.parametrize(("script", "job"), [("slurm.sh", "7"), ("slurm_array.sh", "5_3")])
def test_slurm_puts_a_job_back_only_where_that_helps(tmp_path, stand_in, script, job, code, again):
    stand_in("srun", f"exit {code}\n")
    stand_in("scontrol", f'echo "$@" > {tmp_path}/scontrol\n')
    task = dict(SLURM_JOB_ID="7", SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="3")
    assert run(script, "runs/gru", "--config", "c.py", **task).returncode == code
    assert (tmp_path / "scontrol").exists() == again
    if again:
        assert (tmp_path / "scontrol").read_text() == f"requeue {job}\n"


def test_a_task_of_a_slurm_array_trains_the_seed_of_its_number(stand_in):
    stand_in("srun", 'printf "%s\\n" "$@"\n')
    done = run("slurm_array.sh", "/runs/with space", "--config", "experiments/copy.py", SLURM_ARRAY_TASK_ID="3")
    words = done.stdout.splitlines()
    words.remove("--config.seed=3")
    assert parsed(words).workdir == "/runs/with space/seed-3"


def test_the_job_set_names_its_processes():
    """Every pod is told the same address, which is that of pod 0, and its own number; codes are those that exist."""
    tree = yaml.safe_load((RECIPES / "jobset.yaml").read_text())
    (job,) = tree["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-c"] and spec["completionMode"] == "Indexed"
    words = shlex.split(container["args"][0].replace("$JOB_COMPLETION_INDEX", "3"))
    args = parsed(words)
    assert args.num_processes == spec["completions"] == spec["parallelism"] and args.process_id == 3
    name = tree["metadata"]["name"]
    assert args.coordinator_address.partition(":")[0] == f"{name}-{job['name']}-0-0.{name}"
    mistakes = {e.exit_code for e in seqjax.types.SeqjaxError.__subclasses__()} - {75}
    (rule,) = [r["onExitCodes"] for r in spec["podFailurePolicy"]["rules"] if "onExitCodes" in r]
    assert set(rule["values"]) == mistakes and rule["operator"] == "In"


def test_the_tpu_recipe_reaches_every_host(stand_in):
    stand_in("gcloud", 'printf "%s\\n" "$@"\n')
    done = run("tpu_pod.sh", "my-pod", "a-zone", "--config", "experiments/copy.py", "--workdir", "/runs/with space")
    *front, flag, command = done.stdout.splitlines()
    assert shlex.join(front) == "compute tpus tpu-vm ssh my-pod --zone a-zone --worker=all" and flag == "--command"
    remote = shlex.split(command.rpartition("&& ")[2])
    assert parsed(remote[remote.index("--") + 1 :]).workdir == "/runs/with space"
    assert parsed(remote).restarts == 100
