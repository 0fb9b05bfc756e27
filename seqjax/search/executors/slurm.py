"""Runs jobs on a SLURM cluster, through submitit."""

import contextlib
import dataclasses
import io
import logging
import os
import signal
import subprocess
import time
from typing import Literal

from seqjax import lookup
from seqjax.search.executors import _remote
from seqjax.training import signals
from seqjax.types import ConfigError, Count

LOOK = 5.0  # seconds between two looks at the queue
SETTLE = 15.0  # seconds from the end of a job until its result is visible in a shared file system, at most

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class Slurm(_remote.Remote):
    """SLURM: one cluster job per command, at most `slots` at a time. Use it on a machine where `sbatch` works.

    `minutes` is the time limit of a job. 90 s before the limit, or when the job is preempted, a run saves, and the next
    job resumes it. A job that left the queue (`squeue`) without a result is lost, and another one goes on; accounting
    is not needed. `memory`: such as "16GB". `options`: more options of sbatch, such as "constraint=a100". The files of
    submitit go to `slurm/` next to the logs. `cluster="local"` runs the same jobs on this machine, for a trial.

    Raises:
      ConfigError: submitit is not installed (extra `slurm`), sbatch is not on this machine, or it rejects the job.
    """

    minutes: Count = 60
    cpus: Count = 4
    memory: str | None = None
    partition: str | None = None
    account: str | None = None
    options: tuple[str, ...] = ()
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self):
        super().__post_init__()
        if wrong := [option for option in self.options if "=" not in option]:
            raise ValueError(f"options has {wrong[0]!r}, wanted KEY=VALUE, which becomes --KEY=VALUE of sbatch.")
        self._submitit = lookup.require("submitit", "slurm", "executor 'slurm'")
        self._looked = 0.0
        self._left: dict[str, float] = {}  # running jobs that are not in the queue: id -> since when

    def _call(self, function, args, folder):
        more = dict(option.split("=", 1) for option in self.options)
        if self.account is not None:
            more["account"] = self.account
        parameters = {
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,
            "slurm_mem": self.memory,
            "slurm_partition": self.partition,
            "slurm_additional_parameters": more or None,
        }
        utils = self._submitit.core.utils
        try:
            executor = self._submitit.AutoExecutor(folder / "slurm" / "%j", cluster=self.cluster)
            executor.update_parameters(name="seqjax", **{k: v for k, v in parameters.items() if v is not None})
            with _interruptible(), contextlib.redirect_stderr(io.StringIO()):  # the error says the same
                return executor.submit(_signalled, function, args)
        except utils.FailedJobError as error:
            said = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if line.strip()]
            raise ConfigError(f"executor 'slurm': sbatch rejects the job: {'; '.join(said)}") from error
        except RuntimeError as error:
            raise ConfigError(f"executor 'slurm': {error}; executor.cluster=local runs on this machine.") from error

    def _result(self, call):
        if not (call.done() if self.cluster == "local" else call.paths.result_pickle.exists()):
            return _remote.LOST if self.cluster == "slurm" and self._lost(call) else None
        try:
            return call.result()
        except self._submitit.core.utils.FailedJobError as error:  # the command was not run: no log, no folder
            log.warning("a job could not be run: %s", error)
            return 1
        except self._submitit.core.utils.UncompletedJobError:
            return _remote.LOST

    def _lost(self, call) -> bool:
        """Whether a job is no longer in the queue, and so will not write a result any more."""
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            queue = subprocess.run(["squeue", "--noheader", "--me", "--format=%A"], capture_output=True, text=True)
            if queue.returncode == 0:  # otherwise the controller is busy, and the next look tells
                ids = {held.call.job_id for _, held in self._running.values()}
                self._left = {key: self._left.get(key, now) for key in ids - set(queue.stdout.split())}
        return now - self._left.get(call.job_id, now) > SETTLE

    def _cancel(self, call):
        call.cancel(check=False)


@contextlib.contextmanager
def _interruptible():
    """Restores SIGINT for child processes: background processes of a shell ignore it, but it cancels local jobs."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _signalled(function, args) -> int:
    """Calls `function` with an `asked` that names a signal after it came; SLURM sends one before it ends the job."""
    asked = []
    for number in signals.SIGNALS:
        signal.signal(number, lambda number, _: asked.append(number))
    os.environ.pop("SUBMITIT_EXECUTOR", None)  # the run is not a process of submitit
    return function(*args, asked=lambda: asked[0] if asked else None)


Executor = Slurm
