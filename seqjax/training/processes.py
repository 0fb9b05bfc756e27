"""One run in several processes: how they connect, agree on the config and end together.

JAX calls this multi-controller: every process runs the same program over the devices of all processes, and each reads
its share of the data. Only process 0 writes into the run folder.
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

ABORTED = 134  # exit code of a process whose peers are gone (JAX uses it, too); a restart may help


def launcher(env=os.environ) -> str | None:
    """The launcher that started this process as one of several: "tpu", "slurm", "ompi", "k8s", or None."""
    workers = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES") or ""
    devices = [p for pattern in ("accel*", "vfio/[0-9]*") for p in Path("/dev").glob(pattern)]
    if "," in workers or (devices and importlib.util.find_spec("libtpu")):
        return "tpu"
    # Interactive shells and batch scripts also have a SLURM job; only processes of `srun` have a step with a node list.
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
    """Connects to the other processes of a run, if there are any. Call it before JAX looks for devices.

    Under SLURM, Open MPI 4, Kubernetes (an indexed job, with jax[k8s]) and on TPU, JAX asks the launcher. Otherwise all
    three arguments are needed, with the same `coordinator` (HOST:PORT of process 0) in all processes. With count=1
    there is no other process. A process that waits for the others longer than `timeout` seconds ends with code 134; a
    process that is silent for `heartbeat` seconds ends all of them.

    Raises:
      ConfigError: arguments are missing or contradict each other (see `roll_call`), or JAX cannot ask the launcher.
    """
    given = {"--coordinator_address": coordinator, "--num_processes": count, "--process_id": index}
    if count == 1 and not index:
        return
    found = launcher() if None in given.values() else None
    if found is None and all(value is None for value in given.values()):
        return
    if found == "ompi":  # newer versions do not give the address of process 0
        count, index = (int(os.environ[f"OMPI_COMM_WORLD_{name}"]) for name in ("SIZE", "RANK"))
        if coordinator is None and "OMPI_MCA_orte_hnp_uri" not in os.environ:
            raise ConfigError(
                "this Open MPI does not give the address of process 0: pass --coordinator_address HOST:PORT."
            )
    if found == "k8s" and importlib.util.find_spec("kubernetes") is None:
        raise ConfigError(
            "JAX needs the package kubernetes to find the other processes: run pip install 'jax[k8s]', pass "
            "--coordinator_address, --num_processes and --process_id, or pass --num_processes 1 for a single process."
        )
    if found is None:
        if missing := [name for name, value in given.items() if value is None]:
            raise ConfigError(
                f"{', '.join(missing)} missing, and no launcher (SLURM, Open MPI, Kubernetes, TPU) was found: "
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
    waited = f"{who} waited {timeout} s for the others at {coordinator or f'the address that {found} gave'}"
    late = threading.Timer(timeout, _end, [f"{waited}: start all of them, or raise --initialization_timeout."])
    late.daemon = True
    late.start()
    if found is None:  # else the launcher has numbered the processes
        roll_call.answer(coordinator, count, index)
    # JAX would end the process with a stack trace. Its timeout is longer, so that the timer above ends it first.
    jax.distributed.initialize(
        coordinator, count, index, initialization_timeout=timeout + 60, heartbeat_timeout_seconds=heartbeat
    )
    late.cancel()


def is_first() -> bool:
    """Whether this is process 0, which writes the files."""
    return jax.process_index() == 0


def share(value) -> list:
    """The values (any JSON) of all processes, in their order. All processes must call it."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = process_allgather(np.array([len(mine)], np.int32)).ravel()
    padded = np.zeros(max(sizes), np.uint8)
    padded[: len(mine)] = mine
    return [json.loads(bytes(row[:n])) for row, n in zip(process_allgather(padded), sizes, strict=True)]


def together(action: Callable):
    """Runs `action` in every process. If it fails in some, all processes raise the error of the first of these."""
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
    """Name -> class, for an error class and all its subclasses."""
    return {kind.__name__: kind} | {name: k for sub in kind.__subclasses__() for name, k in _kinds(sub).items()}


def first(action: Callable):
    """Runs `action` in process 0 while the others wait; they return None. If it fails, all raise its error."""
    return together(lambda: action() if is_first() else None)


def agree(facts: dict, differences: Callable) -> None:
    """Raises ConfigError in all processes if one has other `facts` about the run than process 0."""

    def check():
        if apart := differences(wanted, facts):
            shown = "; ".join(f"{key} is {mine!r}, process 0 has {its!r}" for key, (its, mine) in apart.items())
            raise ConfigError(f"the processes of one run must have the same config: {shown}.")

    wanted = share(facts)[0]
    together(check)


def part(error: BaseException) -> None:
    """Ends this process at once if only it has this error, as the others would wait for it in a step for ever."""
    in_all = getattr(error, "shared", False) or isinstance(error, (Preempted, NumericsError))
    if jax.process_count() == 1 or in_all:
        return
    if is_first():
        time.sleep(1)  # otherwise JAX aborts the others before they can print their errors
    if not isinstance(error, SeqjaxError):
        traceback.print_exception(error)
    sys.stdout.flush()
    _end(str(error) or type(error).__name__, error.exit_code if isinstance(error, SeqjaxError) else 1)


def _end(sentence: str, code: int = ABORTED) -> None:
    print(clean(f"seqjax: {masked(sentence)}"), file=sys.stderr, flush=True)
    os._exit(code)
