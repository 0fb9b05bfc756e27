"""Runs a comparison: sizes, learning rates, seeds, test. Finished parts are read from the folder, not repeated.

<workdir>/comparison.json   the comparison, which is also a valid --config
<workdir>/sizes.json        the cost of each contender, and the width that was solved for it
<workdir>/runs/...          one run folder for each contender, value, learning rate and seed
"""

import sys
from pathlib import Path

from seqjax.metrics import Way
from seqjax.search import trials
from seqjax.search.findings import Findings, Found, Run, best_rate, beyond
from seqjax.search.plan import Comparison
from seqjax.search.sizes import Silent, sizes
from seqjax.search.trials import Trial
from seqjax.training.elsewhere import elsewhere
from seqjax.training.experiment import Experiment
from seqjax.training.signals import Interrupt
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, Preempted, SeqjaxError

EXTENSIONS = 2  # most learning rates that are added to a grid
LOOK = 0.5  # seconds between two polls of the evaluations


def compare(c: Comparison, workdir: Workdir, executor, display=None) -> Findings:
    """Runs all parts of a comparison that are not in its folder yet; the folder must be locked.

    Raises:
      ConfigError: no width matches, or a folder holds another run.
      Preempted: a signal arrived; the running jobs have saved.
      SeqjaxError: some runs failed; call again to retry them.
    """
    display = display or Silent()
    sized = sizes(c, workdir, display)
    root = workdir.path
    task = Experiment(sized[0][0].config).task
    monitor = task.monitor, task.metrics[task.monitor]
    grids = {cell.folder: c.grid(cell.contender) for cell, _ in sized}
    given = {folder: len(grid) for folder, grid in grids.items()}
    more = True
    while more:
        search = [
            cell.trial(root, rate, s) for cell, _ in sized for rate in grids[cell.folder] for s in c.learning_rate_seeds
        ]
        _train(search, executor, display, "learning rates", monitor, workdir)
        more = False
        tried, chosen = {}, {}
        for cell, _ in sized:
            grid = grids[cell.folder]
            tried[cell.folder] = {
                rate: [trials.outcome(cell.trial(root, rate, s)).trained(*monitor) for s in c.learning_rate_seeds]
                for rate in grid
            }
            best = chosen[cell.folder] = best_rate(tried[cell.folder], monitor[1])
            rate = beyond(tried[cell.folder], best)
            if rate is not None and len(grid) < given[cell.folder] + EXTENSIONS:
                grid.append(rate)
                display.say(f"{cell.folder}: the grid of learning rates is extended to {rate:g}")
                more = True

    final = {
        cell.folder: {seed: cell.trial(root, chosen[cell.folder], seed) for seed in c.seeds}
        for cell, _ in sized
        if chosen[cell.folder] is not None
    }
    runs = [trial for seeds in final.values() for trial in seeds.values()]
    _train(runs, executor, display, "seeds", monitor, workdir)

    impossible = _impossible(c, sized)
    wanted = []
    for cell, _ in sized:
        at = [a for v, a in c.judged_at.items() if cell.get(a.partition("=")[0]) != v]
        at = [a for a in at if (cell.contender, cell.value, a) not in impossible]
        wanted += [(trial, at) for trial in final.get(cell.folder, {}).values()]
    _judge(wanted, executor, display)

    founds = []
    for cell, size in sized:
        rates, rate = tried[cell.folder], chosen[cell.folder]
        runs = {seed: Run(trial, trials.outcome(trial)) for seed, trial in final.get(cell.folder, {}).items()}
        edge = "" if rate is None or beyond(rates, rate) is None else "lowest" if rate == min(rates) else "highest"
        founds.append(Found(cell, size, dict(sorted(rates.items())), rate, edge, runs))
    return Findings(c, founds, task.monitor, task.metrics, impossible)


def _train(wanted: list[Trial], executor, display, title: str, monitor: tuple[str, Way], workdir: Workdir) -> None:
    """Runs the trials that have not ended yet."""
    left = [t for t in {t.folder: t for t in wanted}.values() if not trials.outcome(t).ended]
    if not left:
        return
    failed = {}
    display.stage(title, len(left))

    def on_done(trial, outcome):
        name = trial.folder.relative_to(_runs(trial))
        best = outcome.best(*monitor)
        known = f"{monitor[0]} was never finite on validation" if best is None else f"{monitor[0]} {best:.4f}"
        said = f"{outcome.status}: {outcome.error}" if outcome.status != "done" else known
        if not outcome.ended:
            failed[name] = outcome.error
        display.done(f"{name}: {said}")

    trials.run(left, executor, on_done=on_done, check=workdir.check)
    _complain(failed, len(left), "runs")


def _judge(wanted: list[tuple[Trial, list[str]]], executor, display) -> None:
    """Evaluates each finished run once on test, and on the test splits of other data."""
    left = []
    for trial, at in wanted:
        outcome = trials.outcome(trial)
        keys = ["test", *(f"test at {a}" for a in at)]
        if outcome.status == "done" and not set(keys) <= set(outcome.results):
            left.append((trial, at))
    if not left:
        return
    display.stage("test", len(left))
    failed, before = {}, {trial.folder: len(_said(trial)) for trial, _ in left}
    with Interrupt() as interrupt:
        jobs = {executor.submit(_command(trial, at), trial.log): trial for trial, at in left}
        while jobs and not interrupt.asked:
            for job, code in executor.wait(LOOK):
                trial = jobs.pop(job)
                name = trial.folder.relative_to(_runs(trial))
                if code:
                    said = _said(trial)[before[trial.folder] :].strip().splitlines()
                    failed[name] = f"ended with code {code}: {said[-1] if said else 'it printed nothing'}"
                display.done(f"{name}: {'failed' if code else 'evaluated'}")
        if interrupt.asked:
            executor.close()
            raise Preempted(f"{interrupt.asked}: evaluations stopped; run the same command again to go on.")
    _complain(failed, len(left), "evaluations")


def _command(trial: Trial, at: list[str]) -> list[str]:
    command = [sys.executable, "-m", "seqjax", "evaluate", "--workdir", str(trial.folder), "--split", "test"]
    return [*command, *(word for a in at for word in ("--at", a))]


def _said(trial: Trial) -> str:
    return trial.log.read_text(errors="replace") if trial.log.exists() else ""


def _runs(trial: Trial) -> Path:
    return next(p for p in trial.folder.parents if p.name == "runs")


def _complain(failed: dict, count: int, what: str) -> None:
    if failed:
        listed = "\n".join(f"  {name}: {error}" for name, error in failed.items())
        raise SeqjaxError(f"{len(failed)} of {count} {what} failed; the same command tries them again:\n{listed}")


def _impossible(c: Comparison, sized) -> dict[tuple, str]:
    """(contender, value, assignment) -> why the contender cannot be evaluated there."""
    out = {}
    for cell, _ in sized:
        for assignment in c.judged_at.values():
            try:
                elsewhere(Experiment(cell.config), assignment)
            except ConfigError as error:
                out[cell.contender, cell.value, assignment] = str(error)
    return out
