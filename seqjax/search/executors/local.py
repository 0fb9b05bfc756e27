"""Runs jobs as processes on this machine."""

import dataclasses
import os

from seqjax.search.executors import _base
from seqjax.types import ConfigError


@dataclasses.dataclass(kw_only=True)
class Local(_base.Executor):
    """Local: new processes on this machine, `slots` at a time.

    With `gpus`, slot i sees the GPUs i * gpus ... (i + 1) * gpus - 1 through CUDA_VISIBLE_DEVICES. If this variable is
    set already, the indices count only the GPUs that it names.

    Raises:
      ConfigError: CUDA_VISIBLE_DEVICES names fewer than slots * gpus GPUs.
    """

    def __post_init__(self):
        super().__post_init__()
        given, wanted = os.environ.get("CUDA_VISIBLE_DEVICES"), self.slots * self.gpus
        self._visible = [str(i) for i in range(wanted)] if given is None else [g for g in given.split(",") if g.strip()]
        if len(self._visible) < wanted:
            raise ConfigError(
                f"{self.slots} slots of {self.gpus} GPUs need {wanted}, but CUDA_VISIBLE_DEVICES={given!r} names "
                f"{len(self._visible)}: name more GPUs, or use fewer slots."
            )

    def _start(self, job, slot):
        env = dict(os.environ)
        if self.gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self._visible[slot * self.gpus : (slot + 1) * self.gpus])
        return _base.spawn(job.command, job.log, env=env)  # Ctrl-C reaches the job only once, through the executor


Executor = Local
