"""The output during a run: a live progress bar on a terminal, plain lines elsewhere."""

import math
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from seqjax.screen import clean
from seqjax.training.records import Info


def console(**options) -> Console:
    """A console that prints text without markup, and prints nothing more after its reader closes the pipe.

    An example is `seqjax train | head`, where rich would exit with 1.
    """
    made = _Console(highlight=False, markup=False, emoji=False, **options)

    def hush():
        made.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # receives the rest of the buffer

    made.on_broken_pipe = hush
    return made


class _Console(Console):
    """Removes control characters from text, as names of columns and files could move the cursor."""

    def render_str(self, text, **options):
        return super().render_str(clean(text), **options)


class Screen:
    """Lines of text above a progress bar, which only a terminal shows. All goes to stdout through one console."""

    def __init__(self, *columns, **options):
        self.console = console(soft_wrap=True, **options)
        self.live = self.console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            *columns,
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
            transient=True,
        )

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays above the bar."""
        self.console.print(text)


class Display(Screen):
    """A progress bar with loss, tokens/s and ETA."""

    def __init__(self, title: str, steps: int, start: int, quiet: bool = False):
        super().__init__(TextColumn("{task.fields[note]}"), quiet=quiet)
        self._task = self._bar.add_task(clean(title), total=steps, completed=start, note="compiling")
        self.steps, self._good = steps, None  # the last row with a loss

    def greet(self, name: str, model: str, about: Info, step: int, changes: dict) -> None:
        """Prints the model, its cost, the hardware, and what changed since the last start."""
        hardware = about.hardware
        self.console.print(parameters(about.parameter_table))
        self.say(
            f"{name}: {model}, {about.parameters:,} parameters, {about.flops_per_step / 1e9:.2f} GFLOP and "
            f"{about.tokens_per_step:,} tokens a step, on {hardware['devices']} x {hardware['device_kind']} "
            f"({hardware['cores']} cores)"
        )
        if about.carried_bytes:
            self.say(f"state is carried from batch to batch, {about.carried_bytes:,} bytes")
        if step:
            self.say(f"resuming at step {step}")
        for key, (old, new) in changes.items():
            self.say(f"changed since the last start: {key} was {old!r}, is {new!r}")

    def step(self, step: int) -> None:
        """Moves the bar to `step`, which was dispatched."""
        self._bar.update(self._task, completed=step)

    def metrics(self, row: dict, eta: float) -> None:
        """Shows training metrics: in the bar on a terminal, as a line elsewhere. Skipped steps have no loss."""
        known, skipped = math.isfinite(row["loss"]), row["skipped_steps"]
        self._good = row if known else self._good
        loss = "no loss yet" if self._good is None else f"loss {self._good['loss']:.4f}"
        loss += f" at step {self._good['step']}" if self._good and not known else ""
        loss += f"  {skipped} step{'s' * (skipped != 1)} skipped" if skipped else ""
        note = loss if math.isnan(row["tokens_per_s"]) else f"{loss}  {row['tokens_per_s']:,.0f} tokens/s"
        self._bar.update(self._task, note=note)
        if not self.live:
            self.say(f"step {row['step']}/{self.steps}  {note}  eta {eta:.0f} s")

    def evaluating(self, split: str):
        """Adds a separate bar for an evaluation; returns on_batch(done, total)."""
        task = self._bar.add_task(split, total=None, note="")

        def on_batch(done: int, total: int) -> None:
            self._bar.update(task, completed=done, total=total)
            if done == total:
                self._bar.remove_task(task)

        return on_batch


def parameters(rows, notes=()) -> Table:
    """The parameter table, from `cost.parameter_table`. `notes`: how each parameter is trained, or nothing."""
    heads = ["parameter", "shape", "size"] + ["training"] * bool(notes)
    table = Table(*heads, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for (path, shape, size), *note in zip(rows, notes, strict=True) if notes else ((row,) for row in rows):
        table.add_row(path, str(list(shape)), f"{size:,}", *map(str, note))
    table.add_row("total", "", f"{sum(size for _, _, size in rows):,}", style="bold")
    return table


def show(metrics: dict[str, float]) -> str:
    """`loss 1.2345  accuracy 0.6789`."""
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in sorted(metrics, key=lambda name: (name != "loss", name)))
