"""One run of several processes: how they find each other, agree, and end together.

JAX calls it multi-controller: every process runs the same program over the devices of all, and each reads its share of
the data. Process 0 alone writes into the run folder.
"""

import importlib.util
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from seqjax.screen import clean, masked
from seqjax.training import roll_call
from seqjax.types import ConfigError, NumericsError, Preempted, SeqjaxError

ABORTED = 134  # how JAX ends a process whose peers are gone; worth another start


def launcher(env=os.environ) -> str | None:
    """What started this process as one of several: "tpu", "slurm", "ompi", "k8s", or None."""
    workers = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES") or ""
    devices = [p for pattern in ("accel*", "vfio/[0-9]*") for p in Path("/dev").glob(pattern)]
    if "," in workers or (devices and importlib.util.find_spec("libtpu")):
        return "tpu"
    # An interactive shell and a batch script have a SLURM job, too; only what `srun` starts is a step with a node list.
    if "SLURM_STEP_NODELIST" in env and int(env.get("SLURM_NTASKS", 1)) > 1:
        return "slurm"
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "ompi"
    return "k8s" if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env else None


def join(
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    timeout: int = 300,
    heartbeat: int = 100,
) -> None:
    """Joins the other processes of a run, if there are any; to be called before JAX looks for devices.

    Under SLURM, Open MPI 4, Kubernetes (an indexed job, with jax[k8s]) and on TPU, the launcher says everything; else
    all three must be given, the same `coordinator` (HOST:PORT of process 0) to all. count=1 joins nobody. Who waits
    for the others longer than `timeout` seconds ends with 134; a process that is silent for `heartbeat` seconds ends
    them all.

    Raises:
      ConfigError: incomplete, contradicting (see `roll_call`), or no launcher that JAX can ask.
    """
    given = {"--coordinator_address": coordinator, "--num_processes": count, "--process_id": index}
    if count == 1 and not index:
        return
    found = launcher() if None in given.values() else None
    if found is None and all(value is None for value in given.values()):
        return
    if found == "ompi":  # its newer versions no longer say where process 0 is
        count, index = (int(os.environ[f"OMPI_COMM_WORLD_{name}"]) for name in ("SIZE", "RANK"))
        if coordinator is None and "OMPI_MCA_orte_hnp_uri" not in os.environ:
            raise ConfigError("this Open MPI does not say where process 0 is: pass --coordinator_address HOST:PORT.")
    if found == "k8s" and importlib.util.find_spec("kubernetes") is None:
        raise ConfigError(
            "Kubernetes can only be asked for the other processes with pip install 'jax[k8s]': do that, pass "
            "--coordinator_address, --num_processes and --process_id, or --num_processes 1 to be alone."
        )
    if found is None:
        if missing := [name for name, value in given.items() if value is None]:
            raise ConfigError(
                f"{', '.join(missing)} missing, and neither SLURM, Open MPI, Kubernetes nor TPU started this process: "
                "pass --coordinator_address HOST:PORT --num_processes N --process_id I."
            )
        if not 0 <= index < count:
            raise ConfigError(f"got --process_id {index} of --num_processes {count}: wanted 0 to {max(count - 1, 0)}.")
        if not re.fullmatch(r".+:[0-9]{1,5}", coordinator) or not 0 < int(coordinator.rpartition(":")[2]) < 2**16:
            raise ConfigError(f"got --coordinator_address {coordinator}, wanted HOST:PORT of process 0.")
    if timeout < 1 or heartbeat < 1:
        raise ConfigError(
            f"got --initialization_timeout {timeout} --heartbeat_timeout {heartbeat}: wanted at least a second each."
        )
    who = f"process {index if index is not None else '?'} of {count or '?'}"
    where = coordinator or f"the address that {found} gave"
    late = threading.Timer(
        timeout,
        _end,
        [f"{who} waited {timeout} s for the others at {where}: start all of them, or raise --initialization_timeout."],
    )
    late.daemon = True
    late.start()
    if found is None:  # a launcher has numbered them
        roll_call.answer(coordinator, count, index)
    # JAX itself would end the process with a stack trace: later, so that ours comes first.
    jax.distributed.initialize(
        coordinator, count, index, initialization_timeout=timeout + 60, heartbeat_timeout_seconds=heartbeat
    )
    late.cancel()


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def share(value) -> list:
    """What each process has (anything that JSON holds), in their order. All must call it."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = process_allgather(np.array([len(mine)], np.int32)).ravel()
    padded = np.zeros(max(sizes), np.uint8)
    padded[: len(mine)] = mine
    return [json.loads(bytes(row[:n])) for row, n in zip(process_allgather(padded), sizes, strict=True)]


def together(action: Callable):
    """Runs `action` in every process; if it fails in one or more, all fail with the error of the first of them."""
    result = error = None
    try:
        result = action()
    except Exception as found:
        error = found
    told = share([type(error).__name__, str(error)] if error else None)
    first = next((index for index, one in enumerate(told) if one), None)
    if first not in (None, jax.process_index()):
        kind, said = told[first]
        error = _kinds(SeqjaxError).get(kind, RuntimeError)(f"process {first}: {said}")
    if error:
        error.shared = True
        raise error
    return result


def _kinds(kind: type) -> dict[str, type]:
    """An error by its name, with all of its kind."""
    return {kind.__name__: kind} | {name: k for sub in kind.__subclasses__() for name, k in _kinds(sub).items()}


def first(action: Callable):
    """Runs `action` in process 0, while the others wait; if it fails, it fails in all. Gives None in the others."""
    return together(lambda: action() if is_first() else None)


def agree(facts: dict, differences: Callable) -> None:
    """Holds what all processes are about to run against what process 0 is.

    Raises:
      ConfigError: in all of them; names what differs.
    """

    def check():
        if apart := differences(wanted, facts):
            shown = "; ".join(f"{key} is {mine!r}, process 0 has {its!r}" for key, (its, mine) in apart.items())
            raise ConfigError(f"the processes of one run must have one config: {shown}.")

    wanted = share(facts)[0]
    together(check)


def part(error: BaseException) -> None:
    """Ends this process at once if an error is its own: the others wait for it in a step, and must not for ever."""
    in_all = getattr(error, "shared", False) or isinstance(error, (Preempted, NumericsError))
    if jax.process_count() == 1 or in_all:
        return
    if is_first():
        time.sleep(1)  # without it, JAX aborts the others, before they can say what they found
    if not isinstance(error, SeqjaxError):
        traceback.print_exception(error)
    sys.stdout.flush()
    _end(str(error) or type(error).__name__, error.exit_code if isinstance(error, SeqjaxError) else 1)


def _end(sentence: str, code: int = ABORTED) -> None:
    print(clean(f"seqjax: {masked(sentence)}"), file=sys.stderr, flush=True)
    os._exit(code)
