"""Shows a comparison or a fingerprint to the user: a live bar on a terminal, plain lines anywhere else."""

from rich.table import Table

from seqjax.search.match import Size
from seqjax.search.plan import Comparison, Entry
from seqjax.training.progress import Screen

START = 8.0  # seconds from the start of a process to its first step, roughly


class Display(Screen):
    """Shows one progress bar per stage, and a line for every run that ends; `quiet`: nothing."""

    def __init__(self, quiet: bool = False):
        super().__init__(quiet=quiet)
        if not self.live:
            self.console.width = 140

    def stage(self, title: str, total: int) -> None:
        """Begins a stage of `total` runs."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(title, total=total)

    def done(self, text: str) -> None:
        """Reports that a run of the stage has ended."""
        (task,) = self._bar.tasks
        self._bar.advance(task.id)
        self.say(f"{task.description} {task.completed}/{task.total}  {text}")

    def plan(self, c: Comparison, sized: list[tuple[Entry, Size]]) -> None:
        """Prints the runs that the comparison would train, their sizes and their cost."""
        names = ("contender", "width", "parameters", "FLOP per step", "state bytes", "s per step", "matched", "rates")
        table = Table(*names, box=None, padding=(0, 2, 0, 0), header_style="bold")
        flops = seconds = runs = 0
        for cell, size in sized:
            grid = cell.rates(c.grid(cell.name))
            count = len(grid) * len(c.learning_rate_seeds) + len(set(c.seeds) - set(c.learning_rate_seeds))
            steps = count * cell.config["train"]["steps"]
            runs, flops = runs + count, flops + steps * size.flops
            seconds += steps * size.step_seconds + count * START + len(c.seeds) * START
            table.add_row(
                str(cell.folder),
                cell.width,
                f"{size.parameters:,}",
                f"{size.flops:.3g}",
                "none" if size.state_bytes is None else f"{size.state_bytes:,}",
                f"{size.step_seconds:.3g}",
                "not matched" if size.matched is None else f"{size.matched:.3f}",
                ", ".join(f"{rate:g}" for rate in grid if rate) or "none",
            )
        self.console.print(table)
        slots = c.executor.keywords.get("slots", 1)
        more = 2 * sum(cell.optimises for cell, _ in sized) * len(c.learning_rate_seeds)
        self.say(
            f"{runs} runs, and up to {more} more if the best learning rate is at an edge of its grid; {flops:.3g} "
            f"matmul FLOP; about {seconds / 60 / slots:.0f} min on an idle machine, without validation"
        )


QUIET = Display(quiet=True)
