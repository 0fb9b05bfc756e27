"""Reports the progress of a run: in metrics.jsonl, in TensorBoard and on the terminal."""

import contextlib
import math
import sys

from seqjax.training.progress import Display
from seqjax.training.workdir import Workdir, finite


class Journal:
    """Writes rows of metrics at once; with several processes, only one writes."""

    def __init__(self, workdir: Workdir, steps: int, step: int, quiet: bool, owed: bool):
        self.workdir = workdir
        self.display = Display(workdir.path.name, steps, step, quiet or not workdir.writes)
        self._file = self._board = None
        self.cut(step, owed)

    def cut(self, step: int, owed: bool = False) -> None:
        """Deletes the rows after `step`; if its evaluation is still `owed`, the validation row of `step`, too."""
        if not self.workdir.writes:
            return
        self.close()
        self._file = self.workdir.append(step, owed)
        self._board = _summary_writer()(str(self.workdir.path / "tensorboard"), purge_step=step + 1)

    def write(self, row: dict) -> None:
        """Writes one row, which has a `step` and a `split`."""
        if not self.workdir.writes:
            return
        self.workdir.check()
        self._file.write(finite(row))
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "step" and math.isfinite(value):
                self._board.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def close(self) -> None:
        """Closes the files. Errors are ignored, as `write` has already raised those that matter."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._board:
            try:
                self._board.close()
            except OSError:  # else tensorboardX tries again when Python ends, and prints the error
                events = self._board.file_writer.event_writer
                events._worker.stop()
                events._closed = True
        self._file = self._board = None


def _summary_writer() -> type:
    """tensorboardX's SummaryWriter, imported without PyTorch, which takes seconds and is not needed for numbers."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # Python then treats torch as not installed
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter
