"""SIGTERM, SIGINT and SIGUSR1 ask for an orderly end; a second one ends at once."""

import os
import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interrupt:
    """While entered, a signal sets `asked` to its name instead of ending the process."""

    def __init__(self):
        self.asked: str | None = None

    def __enter__(self):
        self._before = {s: signal.signal(s, self._handle) for s in SIGNALS}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.asked:
            os._exit(128 + number)
        self.asked = signal.Signals(number).name
