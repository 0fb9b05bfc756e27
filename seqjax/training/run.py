"""A run from start to end: restore or initialise, train, save, and close all files after any error."""

import contextlib
import dataclasses
import datetime
import logging

import jax
import jax.numpy as jnp

from seqjax.training import cost, facts, first_batch, history, processes, tokenizer_file
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.evaluate import Evaluation
from seqjax.training.experiment import Experiment
from seqjax.training.failures import explained
from seqjax.training.guard import TooBad
from seqjax.training.journal import Journal
from seqjax.training.loop import Loop
from seqjax.training.records import Info, Start
from seqjax.training.signals import Interrupt
from seqjax.training.step import stacked, traced, zero_totals
from seqjax.training.workdir import Workdir
from seqjax.types import Preempted, WorkdirError

log = logging.getLogger(__name__)


def train(experiment: Experiment, workdir: Workdir, *, restart: bool = False, command: str = "", quiet: bool = False):
    """Trains to the last step, from the newest checkpoint if there is one; returns the last validation metrics.

    Raises:
      Preempted: a signal came; the state is saved.
      NumericsError: there were too many bad steps.
      CheckpointError, WorkdirError, DataError: see `seqjax.types`.
    """
    changes = processes.together(lambda: history.changes(experiment, workdir, restart))
    with Interrupt() as interrupt, explained(experiment, workdir):
        processes.first(workdir.lock)
        run = Run(experiment, workdir, quiet)
        try:
            if not restart:
                processes.first(workdir.mend)
            run.start(restart, command, changes)
            try:
                run.greet(changes)
                last = Loop(run, interrupt).train()
                run.wait()
                run.best.only(run.progress.best_step)
            except Preempted:
                workdir.status("preempted", run.step)
                raise
            except BaseException as error:
                with contextlib.suppress(WorkdirError):  # e.g. full disk: the user must see the first error
                    workdir.status("failed", run.step, f"{type(error).__name__}: {error}")
                raise
            workdir.status("done", run.step)
            return last
        except BaseException as error:
            processes.part(error)
            raise
        finally:
            run.close()


class Run:
    """One start of a run."""

    def __init__(self, experiment: Experiment, workdir: Workdir, quiet: bool):
        self.experiment, self.workdir = experiment, workdir
        self.options = experiment.train
        self.progress = history.Progress()
        self.step = 0
        self.checkpoints = Checkpoints(workdir.checkpoints, experiment.train.keep_checkpoints, workdir.check)
        self.best = Checkpoints(workdir.best, keep=1, check=workdir.check)
        self.quiet = quiet
        self.journal = None

    def start(self, restart: bool, command: str, changes: dict) -> None:
        """Everything before the first step: data, state, files."""
        e = self.experiment
        self.layout = e.parallel.layout(e.loader.batch_size, self.options.accumulation_steps)
        batch = e.batches.first
        cost.check_room(e.shapes)
        self.abstract = abstract = self.layout.abstract(e.shapes)
        self.data = history.fingerprint(e)
        axis = self.layout.axis
        step = e.program(self.layout, axis)
        alone = step if axis is None else e.program()
        several = self.options.steps_per_call > 1
        self.traced = traced(stacked(step) if several else step)
        self.train_step = self.layout.compile(self.traced, abstract, e.loader.batch_size, axis=int(several))
        zeros = zero_totals(alone, abstract, batch)
        self.zeros = self.layout.spread(zeros)
        begins = restart or not self.checkpoints.used()
        self.origin = e.init.origin(abstract.params, self.workdir.path) if begins else None
        if self.origin:
            history.check_tokenizer(self.origin.meta, e)
        if restart:
            for old in (self.checkpoints, self.best):
                old.discard()
            self.workdir.remove("results.json", "samples.json", "states.json", "thresholds.json")
        self.restore()
        tokenizer_file.write(self.workdir, e.tokenizer, begins)
        if self.step and not self.progress.owed:
            history.check_left(changes, self.step, self.options.steps, self.workdir.path)
        if self.step and changes:
            changes.update(history.rate_change(changes, e, self.step))
        # Best checkpoints of later steps are deleted, as this run has not reached those steps.
        self.best.tidy()
        self.best.only(self.progress.best_step)
        self.best.held = (self.progress.best_step,)
        self.evaluator = None
        if "validation" in e.source.spec.splits:
            self.evaluator = Evaluation(e.evaluators, "validation", self.layout, self.workdir.write)
        before = self.workdir.record("run.json", Info) or Info()
        if self.step and not before.starts:
            log.warning("%s has no run.json: the record of earlier starts is lost", self.workdir.path)
        known = before.baselines if self.step else {}  # the data are the same, and some baselines are slow
        known, costs = (known, before.costs) if known or not self.workdir.writes else (facts.baselines(e.source), {})
        flops = e.batches.mean(lambda batch: cost.flops(alone, abstract, zeros, batch))
        now = datetime.datetime.now().isoformat(timespec="seconds")
        start = Start(now, self.step, command, changes, self.origin and self.origin.about())
        self.about = facts.about(e, flops, known, costs, [*before.starts, dataclasses.asdict(start)])
        self.workdir.write("config.json", e.config)
        self.workdir.write("run.json", dataclasses.asdict(self.about))
        self.workdir.status("running", self.step)  # before the journal cuts rows that the old status refers to
        self.journal = Journal(self.workdir, self.options.steps, self.step, self.quiet, self.progress.owed)

    def greet(self, changes: dict) -> None:
        """Prints what is about to be trained."""
        e, display = self.experiment, self.journal.display
        display.greet(self.workdir.path.name, e.config["model"]["name"], self.about, self.step, changes)
        lines = [f"data: {note}" for note in e.source.notes]
        lines += [f"optim: {line}" for line in e.optim.told(self.abstract.params)]
        if self.origin:
            lines += [str(self.origin), *(f"  {line}" for line in history.other_model(self.origin.meta, e))]
        for line in lines:
            display.say(line)

    def restore(self) -> None:
        """Loads the newest good checkpoint with its progress and totals, or makes the state before the first step."""
        restored = self.checkpoints.restore(self.abstract)
        if restored is None:
            self.state, self.totals = self.layout.init(self.experiment.make_state), self.zeros
            where = self.layout.shardings(self.abstract)
            if self.origin:
                first = self.origin.begin(self.layout.gather(self.state), self.experiment.learner, where)
                self.state = self.layout.spread(first)
            elif self.experiment.model.begins:
                first = first_batch.begin(self.experiment, self.layout, self.layout.gather(self.state), where)
                self.state = self.layout.spread(first)
            self.step, self.progress = 0, history.Progress()
            return
        state, meta = restored
        history.check_goes_on(meta, self.experiment, self.workdir)
        history.check_data(meta["data"], self.data, f", {history.RESTART}")
        self.state = self.layout.spread(state)
        self.step, self.progress = meta["step"], history.Progress(**meta["progress"])
        known = {name: zeros for name, zeros in self.zeros.items() if name in meta["totals"]}
        sums = {name: type(zeros)(*map(jnp.float32, meta["totals"][name])) for name, zeros in known.items()}
        self.totals = {**self.zeros, **self.layout.spread(sums)}

    def save(self, checkpoints: Checkpoints) -> None:
        """Starts to save the state. The current best is kept while the run may roll back to this state."""
        if checkpoints is self.checkpoints:
            checkpoints.wait()
            self.best.held = (self.best.held[-1], self.progress.best_step)
        checkpoints.save(self.layout.gather(self.state), self._meta())

    def roll_back(self, bad: TooBad) -> None:
        """Returns to the checkpoint before the bad steps; continues with the batches after them. The best one stays.

        Raises NumericsError if the policy is not rollback, or after too many rollbacks.
        """
        guard, progress = self.experiment.guard, self.progress
        self.wait()
        if guard.policy != "rollback" or progress.rollbacks >= guard.max_rollbacks:
            e, root, kept = self.experiment, self.checkpoints.root, bool(self.checkpoints.steps())
            about = e.optim.clip_norm, e.config["model"].get("dtype"), e.learner.optimises
            raise guard.verdict(bad, progress.rollbacks, root, kept, *about) from bad
        self.checkpoints.forget(bad.first)
        self.state = None  # so that memory never holds two states
        self.restore()
        # The carried state is reset, as documents may have started in the skipped batches.
        fresh = self.layout.init(self.experiment.make_state).carry
        self.state = self.state.replace(bad=self.state.bad * 0, carry=fresh)
        progress.passed += bad.last - self.step
        progress.rollbacks += 1
        self.progress = progress
        self.journal.cut(self.step)
        log.warning("%s: back to step %d, rollback %d of %d", bad, self.step, progress.rollbacks, guard.max_rollbacks)

    def _meta(self) -> dict:
        return {
            "step": self.step,
            "batches_seen": self.step + self.progress.passed,
            "data": self.data,
            tokenizer_file.KEY: self.experiment.tokenizer and self.experiment.tokenizer.decode(),
            "progress": dataclasses.asdict(self.progress),
            # Totals of the current log interval, so that a resumed run logs the same rows.
            "totals": jax.tree.map(lambda a: a.tolist(), self.layout.fetch(self.totals)),
            "config": self.experiment.config,
            "versions": facts.versions(),
        }

    def wait(self) -> None:
        """Waits until all saves are on disk."""
        for checkpoints in (self.checkpoints, self.best):
            checkpoints.wait()

    def close(self) -> None:
        """Finishes pending saves, closes the files and unlocks the run folder."""
        try:
            self.wait()
        finally:
            if self.journal:
                self.journal.close()
            self.workdir.unlock()
