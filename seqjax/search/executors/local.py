"""Processes on this machine."""

import contextlib
import dataclasses
import os
import signal
import subprocess

from seqjax.search.executors import _base
from seqjax.training import files
from seqjax.types import ConfigError


@dataclasses.dataclass(kw_only=True)
class Local(_base.Executor):
    """Local: fresh processes on this machine, `slots` at a time.

    With `gpus`, slot i sees the GPUs i * gpus ... (i + 1) * gpus - 1, as CUDA_VISIBLE_DEVICES: of those that this
    variable names, if it is set, else of all.

    Raises:
      ConfigError: it names fewer than slots * gpus.
      WorkdirError: the log cannot be written.
    """

    def __post_init__(self):
        super().__post_init__()
        given, wanted = os.environ.get("CUDA_VISIBLE_DEVICES"), self.slots * self.gpus
        self._visible = [str(i) for i in range(wanted)] if given is None else [g for g in given.split(",") if g.strip()]
        if len(self._visible) < wanted:
            raise ConfigError(
                f"{self.slots} slots of {self.gpus} GPUs want {wanted}, CUDA_VISIBLE_DEVICES={given!r} names "
                f"{len(self._visible)}: name more, or take fewer slots."
            )

    def _start(self, job, slot):
        env = dict(os.environ)
        if self.gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self._visible[slot * self.gpus : (slot + 1) * self.gpus])
        try:
            log = open(job.log, "ab", opener=files.own)  # noqa: SIM115 closed below
        except OSError as error:
            raise files.unwritten(job.log, error) from error
        with log:
            # A session of its own: Ctrl-C reaches it once, through us.
            command = _base.mortal(job.command, os.getpid())
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )

    def _poll(self, handle):
        return handle.poll()

    def _terminate(self, handle):
        handle.send_signal(signal.SIGTERM)

    def _kill(self, handle):
        if handle.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(handle.pid, signal.SIGKILL)
            handle.wait()


Executor = Local
