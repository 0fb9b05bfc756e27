"""Executors for tests."""

import types

from seqjax.search.executors import _base


class Instant(_base.Executor):
    """`_run` does all the work, and what it gives is the code that the command ended with."""

    def _start(self, job, slot):
        code = self._run(job)
        return types.SimpleNamespace(poll=lambda: code)
