"""What keeps the processes of one sweep apart: each trial belongs to one of them."""

import contextlib
import fcntl
from pathlib import Path

from seqjax.training import files


class Claims:
    """The trials that this process works on, among all processes that share a folder.

    A claim is a lock on a file, so it ends with its process, even if that is killed or its machine is lost; the next
    process that asks gets it.

    Raises:
      WorkdirError: the files of the locks cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder, self._held = folder / ".claims", {}

    @contextlib.contextmanager
    def turn(self):
        """Only one process at a time is in here: what it reads of the study stays true until it leaves."""
        with self._open("turn") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def take(self, number: int) -> bool:
        """Claims a trial; False: another process that lives has it. Call it in a `turn`."""
        file = self._open(f"{number:04}")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._held[number] = file
        return True

    def drop(self, number: int) -> None:
        """Ends the claim on a trial that has ended. Call it in the `turn` in which the study is told so."""
        (self.folder / f"{number:04}").unlink(missing_ok=True)
        self._held.pop(number).close()

    def _open(self, name: str):
        path = self.folder / name
        try:
            self.folder.mkdir(exist_ok=True)
            return open(path, "ab", opener=files.own)
        except OSError as error:
            raise files.unwritten(path, error) from error
