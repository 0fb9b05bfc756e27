"""What is told of a run while it goes on: metrics.jsonl, TensorBoard, and the terminal."""

import contextlib
import math
import sys

from seqjax.training.progress import Display
from seqjax.training.workdir import MetricsFile, Workdir


class Journal:
    """Rows of metrics, written as they come; of several processes, one writes."""

    def __init__(self, workdir: Workdir, steps: int, step: int, quiet: bool, owed: bool):
        self.workdir = workdir
        self.display = Display(workdir.path.name, steps, step, quiet or not workdir.writes)
        self._file = self._board = None
        self.cut(step, owed)

    def cut(self, step: int, owed: bool = False) -> None:
        """Forgets the steps behind `step`; if its evaluation is still `owed`, what stands there of it, too."""
        if not self.workdir.writes:
            return
        self.close()
        self._file = MetricsFile(self.workdir.path / "metrics.jsonl", step, owed)
        self._board = _summary_writer()(str(self.workdir.path / "tensorboard"), purge_step=step + 1)

    def write(self, row: dict) -> None:
        """One row, of `step` and `split`."""
        if not self.workdir.writes:
            return
        self.workdir.check()
        self._file.write(row)
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "step" and math.isfinite(value):
                self._board.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def close(self) -> None:
        """Closes the files. A full disk was said before, where it mattered."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._board:
            try:
                self._board.close()
            except OSError:  # it would try again when Python ends, and print what it meets
                events = self._board.file_writer.event_writer
                events._worker.stop()
                events._closed = True
        self._file = self._board = None


def _summary_writer() -> type:
    """tensorboardX's SummaryWriter. It imports PyTorch where it finds it, for seconds; numbers need none of it."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # says to Python: not there
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter
