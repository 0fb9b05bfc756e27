"""Runs jobs as tasks of a Ray cluster."""

import dataclasses
import logging

from seqjax import lookup
from seqjax.search.executors import _remote
from seqjax.types import ConfigError, Count

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class Ray(_remote.Remote):
    """Ray: each job is a task of a Ray cluster with `cpus` and `gpus` (0: sees no GPU), at most `slots` at a time.

    `address`: the address of a running cluster, such as "auto"; None starts one on this machine and ends it at close.

    Raises:
      ConfigError: Ray is not installed (extra `ray`), or there is no such cluster.
    """

    address: str | None = None
    cpus: Count = 1

    def __post_init__(self):
        super().__post_init__()
        self._ray = lookup.require("ray", "ray", "executor 'ray'")
        self._ours = not self._ray.is_initialized()
        if not self._ours:
            return
        here = {"num_cpus": self.slots * self.cpus, "include_dashboard": False} if self.address is None else {}
        try:
            self._ray.init(address=self.address, log_to_driver=False, logging_level="error", **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            asks = "AuthenticationError" in str(error.__cause__)
            hint = "; it asks for its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH" if asks else ""
            raise ConfigError(f"executor 'ray': no cluster at address {self.address!r}: {error}{hint}") from error

    def close(self):
        try:
            super().close()
        finally:
            if self._ours:
                self._ray.shutdown()

    def _call(self, function, args, folder):
        remote = self._ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(function)
        return remote.remote(*args)

    def _result(self, call):
        ready, _ = self._ray.wait([call], timeout=0)
        if not ready:
            return None
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:  # the command was not run: no log, no folder
            log.warning("a job could not be run: %s", error)
            return 1
        except (self._ray.exceptions.RayError, KeyboardInterrupt):  # it was cancelled, or the machine is lost
            return _remote.LOST

    def _cancel(self, call):
        self._ray.cancel(call, force=True)


Executor = Ray
