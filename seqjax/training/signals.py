"""SIGTERM, SIGINT, SIGUSR1, SIGUSR2 and SIGHUP ask a run to save and end; a second signal ends the process at once."""

import os
import signal
import threading
import time

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
ECHO = 2.0  # seconds in which a repeated signal (except Ctrl-C) is the same request, sent to all and passed on again


def asking() -> list[signal.Signals]:
    """The signals to handle: all of SIGNALS, except SIGHUP under `nohup`."""
    return [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]


class Interrupt:
    """A context in which a signal sets `asked` to its name instead of ending the process.

    With several processes, all must end after the same step, but the signal may reach only one of them. JAX, which
    then handles SIGTERM, makes them agree.
    """

    def __init__(self):
        import jax  # imported late: `supervise` also uses `asking`, without JAX

        self.asked: str | None = None
        self.several = jax.process_count() > 1

    def __enter__(self):
        mine = asking()[1:] if self.several else asking()
        self._before = {s: signal.signal(s, self._handle) for s in mine}
        ear, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._other = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(ear,), daemon=True, name="seqjax-signals").start()
        return self

    def __exit__(self, *error):
        signal.set_wakeup_fd(self._other)
        os.close(self._mouth)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def at(self, call: int) -> str | None:
        """The signal that asks to end after this call of the step. Every process must call it each time."""
        if self.several and self.asked is None:
            from jax.experimental.multihost_utils import reached_preemption_sync_point

            self.asked = "SIGTERM" if reached_preemption_sync_point(call) else None
        return self.asked

    def _handle(self, number, frame):
        if self.several:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self.asked = signal.Signals(number).name

    def _listen(self, ear: int) -> None:
        """Ends the process at a second signal. It runs in a thread, as the main thread may compile for minutes."""
        told, since = None, 0.0
        while byte := os.read(ear, 1):
            number = byte[0]
            if number not in SIGNALS:
                continue
            echo = number == told != signal.SIGINT and time.monotonic() - since < ECHO
            if told and not echo:
                os._exit(128 + number)
            told, since = told or number, since or time.monotonic()
        os.close(ear)
