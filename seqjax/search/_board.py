"""Shows a sweep to the user: a live table on a terminal; anywhere else, a line for each trial that ends."""

from rich.live import Live
from rich.table import Table
from rich.text import Text

from seqjax.search._records import Record, best
from seqjax.search.sweep import Sweep
from seqjax.training import progress

ROWS = 20  # of the table: the running trials, and the newest of the ended ones


def value(x) -> str:
    """Formats a parameter or a metric in a few characters."""
    return f"{x:.4g}" if isinstance(x, float) else str(x)


class Board:
    """Shows the trials of a sweep. `look` updates the display."""

    def __init__(self, sweep: Sweep):
        self.sweep, self._said = sweep, len(sweep.study.ended)
        self._best, self._names = best(sweep.study.ended, sweep.way), {}
        self.console = progress.console()
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        )

    def __enter__(self):
        s = self.sweep
        before = f", {self._said} of them already ended" if self._said else ""
        runs = f" of {s.runs} runs each" if s.runs > 1 else ""
        self.say(
            f"{s.workdir.path.name}: {s.trials} trial{'s' * (s.trials != 1)}{runs}{before}, over {', '.join(s.space)}"
        )
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error):
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays on the screen."""
        self.console.print(text, soft_wrap=True)

    def look(self) -> None:
        """Prints the trials that have ended since the last call, and shows the running ones."""
        ended = self.sweep.study.ended
        news = ended[self._said :]
        self._said += len(news)
        self._best = best([self._best, *news] if self._best else news, self.sweep.way)
        for record in news:
            self.say(self._line(record))
        if self._live:
            running = list(self.sweep.study.running.values())
            shown = [*ended[-max(1, ROWS - len(running)) :], *running]
            self._live.update(self._table(shown), refresh=True)

    def _line(self, record: Record) -> str:
        params = ", ".join(f"{key}={value(v)}" for key, v in record.params.items())
        return f"trial {record.number}  {record.status}  {self._outcome(record)}  {params}"

    def _outcome(self, record: Record) -> str:
        if record.status == "failed":
            return " ".join((record.error or "").split())
        if record.value is None:
            return ""
        spread = f" ± {value(record.spread)}" if record.spread is not None else ""
        return f"{self.sweep.monitor} {value(record.value)}{spread}"

    def _table(self, records: list[Record]) -> Table:
        self._names |= dict.fromkeys(name for record in records for name in record.params)
        names = list(self._names)
        table = Table("trial", *names, "status", "step", self.sweep.monitor, box=None, padding=(0, 2, 0, 0))
        table.columns[-1].no_wrap = True
        for record in records:
            step, found = self.sweep.under_way(record.number) if record.status == "running" else ("", record.value)
            error = (record.error or "").split("\n")[0][:60]
            cells = [value(record.params[name]) if name in record.params else "" for name in names]
            last = error or ("" if found is None else value(found))
            row = map(Text, [str(record.number), *cells, record.status, str(step), last])
            table.add_row(*row, style="bold" if record is self._best else None)
        return table
