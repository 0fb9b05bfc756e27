"""What a model is asked for: loss, metrics and the size of the head; a file exposes `Task` under its own name."""

from seqjax.tasks._base import Task

__all__ = ["Task"]
