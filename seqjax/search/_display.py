"""Shows a comparison to the user: a live progress bar on a terminal, plain lines anywhere else."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from seqjax.search.match import Size
from seqjax.search.plan import Comparison, Entry
from seqjax.training import progress

START = 8.0  # seconds from the start of a process to its first step, roughly


class Display:
    """Shows one progress bar per stage, and a line for every run that ends."""

    def __init__(self):
        self.console = progress.console(soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = 140
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task, self._title, self._done, self._total = None, "", 0, 0

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def stage(self, title: str, total: int) -> None:
        """Begins a stage of `total` runs."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._title, self._done, self._total = title, 0, total
        self._task = self._bar.add_task(title, total=total)

    def done(self, text: str) -> None:
        """Reports that a run of the stage has ended."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        self.say(f"{self._title} {self._done}/{self._total}  {text}")

    def say(self, text: str) -> None:
        """Prints a line that stays on the screen."""
        self.console.print(text)

    def plan(self, c: Comparison, sized: list[tuple[Entry, Size]]) -> None:
        """Prints the runs that the comparison would train, their sizes and their cost."""
        names = ("contender", "width", "parameters", "FLOP per step", "state bytes", "s per step", "matched", "rates")
        table = Table(*names, box=None, padding=(0, 2, 0, 0), header_style="bold")
        flops = seconds = runs = 0
        for cell, size in sized:
            grid = c.grid(cell.contender)
            count = len(grid) * len(c.learning_rate_seeds) + len(set(c.seeds) - set(c.learning_rate_seeds))
            steps = count * cell.config["train"]["steps"]
            runs, flops = runs + count, flops + steps * size.flops
            seconds += steps * size.step_seconds + count * START + len(c.seeds) * START
            table.add_row(
                str(cell.folder),
                str(size.width),
                f"{size.parameters:,}",
                f"{size.flops:.3g}",
                "none" if size.state_bytes is None else f"{size.state_bytes:,}",
                f"{size.step_seconds:.3g}",
                "not matched" if size.matched is None else f"{size.matched:.3f}",
                ", ".join(f"{rate:g}" for rate in grid),
            )
        self.console.print(table)
        slots = c.executor.keywords.get("slots", 1)
        more = 2 * len(sized) * len(c.learning_rate_seeds)
        self.say(
            f"{runs} runs, and up to {more} more if the best learning rate is at an edge of its grid; {flops:.3g} "
            f"matmul FLOP; about {seconds / 60 / slots:.0f} min on an idle machine, without validation"
        )
