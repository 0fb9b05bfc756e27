"""Tasks: loss, metrics and the size of the head. `task.name` is a file here, which exposes its class as `Task`."""

from seqjax.tasks._base import Reads, Task

__all__ = ["Reads", "Task"]
