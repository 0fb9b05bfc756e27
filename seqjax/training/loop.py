"""The training loop: restore or start, step, look, save, and end in an orderly way whatever happens."""

import collections
import dataclasses
import math
import time

import jax
import jax.numpy as jnp

from seqjax import config, lookup, metrics
from seqjax.metrics import Ratio
from seqjax.training import cost, facts, history
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.evaluate import Evaluator
from seqjax.training.experiment import Experiment
from seqjax.training.progress import Display, show
from seqjax.training.signals import Interrupt
from seqjax.training.step import make_train_step, zero_totals
from seqjax.training.workdir import MetricsFile, Workdir
from seqjax.types import ConfigError, NumericsError, Preempted

AHEAD = 2  # steps that may be under way while the host goes on


def train(experiment: Experiment, workdir: Workdir, *, restart: bool = False, command: str = "", quiet: bool = False):
    """Trains to the last step, from the newest checkpoint of the folder if there is one.

    Returns:
      The last validation metrics, or {} if there is no validation split.

    Raises:
      Preempted: a signal came; the state is saved.
      CheckpointError, WorkdirError, DataError, NumericsError: see `seqjax.types`.
    """
    changes = history.changes(experiment, workdir, restart)
    with Interrupt() as interrupt:
        run = Run(experiment, workdir.lock(), quiet)
        try:
            run.start(restart, command, changes)
            try:
                last = run.loop(interrupt)
                run.wait()
            except Preempted:
                workdir.status("preempted", run.step)
                raise
            except BaseException as error:
                workdir.status("failed", run.step, f"{type(error).__name__}: {error}")
                raise
            workdir.status("done", run.step)
            return last
        finally:
            run.close()


class Run:
    """One start of a run."""

    def __init__(self, experiment: Experiment, workdir: Workdir, quiet: bool):
        self.experiment, self.workdir = experiment, workdir
        self.options = experiment.train
        self.progress = history.Progress()
        self.step = 0
        self.checkpoints = Checkpoints(workdir.checkpoints, experiment.train.keep)
        self.best = Checkpoints(workdir.best, keep=1)
        self.quiet = quiet
        self.display = self.file = self.board = self._pending = None

    def start(self, restart: bool, command: str, changes: dict) -> None:
        """Everything before the first step: data, state, files."""
        e = self.experiment
        self.layout = e.parallel.layout(e.loader.batch, self.options.accumulate)
        batch = e.batches.first
        abstract = self.layout.abstract(e.shapes)
        if restart:
            for old in (self.checkpoints, self.best):
                old.discard()
        restored = self.checkpoints.restore(abstract)
        if restored is None:
            self.state = self.layout.init(e.make_state)
        else:
            state, meta = restored
            self.state = self.layout.spread(state) if self.layout.axis else state
            self.step, self.progress = meta["step"], history.Progress(**meta["progress"])

        axis, ema = self.layout.axis, e.optim.ema
        make = lambda axis: make_train_step(
            e.model, e.task, e.tx, accumulate=self.options.accumulate, ema=ema, axis=axis, use=self.layout.use
        )
        self.train_step = self.layout.compile(make(axis), abstract)
        zeros = zero_totals(make(None), abstract, batch)
        if e.task.monitor not in zeros:
            near = lookup.nearest(e.task.monitor, zeros)
            raise ConfigError(f"task.monitor={e.task.monitor!r} is not a metric.{near} It has {', '.join(zeros)}.")
        self.zeros = self.totals = self.layout.spread(zeros)
        if restored is not None:
            self.totals = self.layout.spread({k: Ratio(*map(jnp.float32, v)) for k, v in meta["totals"].items()})
        self.evaluator = None
        if "validation" in e.source.spec.splits:
            self.evaluator = Evaluator(e.model, e.task, e.source, e.loader, "validation")
        about = facts.about(e, batch, cost.flops(make(None), abstract, zeros, batch))
        starts = self.workdir.read("run.json", {"starts": []})["starts"]
        self.workdir.write("config.json", e.config)
        self.workdir.write("run.json", {**about, "starts": [*starts, facts.start(self.step, command, changes)]})

        from tensorboardX import SummaryWriter

        self.file = MetricsFile(self.workdir.path / "metrics.jsonl", self.step)
        self.board = SummaryWriter(str(self.workdir.path / "tensorboard"), purge_step=self.step + 1)
        self.display = Display(self.workdir.path.name, self.options.steps, self.step, self.quiet)
        self.workdir.status("running", self.step)
        self.display.greet(self.workdir.path.name, e.config["model"]["name"], about, self.step, changes)

    def loop(self, interrupt: Interrupt) -> dict[str, float]:
        """Steps until the end; returns the last validation metrics."""
        steps, batches = self.options.steps, self.experiment.batches
        every = lambda n: n is not None and self.step % n == 0
        # Steps with collectives that are queued on simulated CPU devices can deadlock: wait for each.
        ahead = 0 if jax.default_backend() == "cpu" and jax.device_count() > 1 else AHEAD
        under_way: collections.deque = collections.deque()
        tokens, count, last, stop = 0, 0, {}, False
        self._tick, compiled = time.perf_counter(), False
        with self.display:
            for batch in batches.iterate(self.step, steps, give_up=lambda: interrupt.asked):
                self.state, self.totals = self.train_step(self.state, self.totals, batch)
                self.step += 1
                if compiled:
                    tokens, count = tokens + int(batch["mask"].sum()), count + 1
                else:  # speed and training time begin behind the first step
                    jax.block_until_ready(self.totals)
                    compiled, before, self._tick = True, self._tick, time.perf_counter()
                    self.display.say(f"compiled in {self._tick - before:.1f} s")
                under_way.append(self.totals)
                while len(under_way) > ahead:
                    jax.block_until_ready(under_way.popleft())
                self.display.step(self.step)
                self._flush()
                final = self.step == steps
                if every(self.options.log_every) or final:
                    # Read when the next step is under way, so that the device never waits for the host.
                    self._pending = (self.step, self.totals, jnp.copy(self.state.bad), tokens, count)
                    self.totals, tokens, count = self.zeros, 0, 0
                evaluate = self.evaluator and (every(self.options.eval_every) or final)
                save = every(self.options.checkpoint_every) or final
                if not (evaluate or save or interrupt.asked):
                    continue
                self._flush()
                jax.block_until_ready(self.totals)
                self.progress.seconds += time.perf_counter() - self._tick
                if evaluate:
                    last = self._evaluate()
                    stop = bool(self.options.patience) and self.progress.stale >= self.options.patience
                asked = interrupt.asked  # looked at once: whoever is told that all is saved can rely on it
                if asked and not (final or stop):
                    self._preempt(asked)
                if save or stop:
                    self.checkpoints.save(self.layout.gather(self.state), self._meta())
                self._tick = time.perf_counter()
                if stop:
                    self.display.say(
                        f"stopped early at step {self.step}: {self.experiment.task.monitor} was best at step "
                        f"{self.progress.best_step}"
                    )
                    break
            if self.step < steps and not stop:  # asked to end while the source was silent
                self._flush()
                self._preempt(interrupt.asked)
        return last

    def _preempt(self, asked: str) -> None:
        """Saves, and ends the run so that the same command goes on with it."""
        self.checkpoints.save(self.layout.gather(self.state), self._meta())
        self.checkpoints.wait()
        raise Preempted(
            f"{asked}: saved step {self.step} of {self.options.steps} in {self.workdir.path}; "
            "run the same command again to go on."
        )

    def _flush(self) -> None:
        """Logs the interval that ended with the step before, if one did."""
        if self._pending:
            self._log(*self._pending)
            self._pending = None

    def _log(self, step: int, totals, bad, tokens: int, count: int) -> None:
        """Reads the totals of a log interval and writes them everywhere."""
        totals, bad = self.layout.gather(jax.device_get((totals, bad)))
        now = time.perf_counter()
        elapsed, self._tick = now - self._tick, now
        self.progress.seconds += elapsed
        if bad >= self.options.max_bad_steps:
            raise NumericsError(
                f"loss or gradient was not finite for {int(bad)} steps in a row up to step {step}; "
                f"the last good parameters are in {self.checkpoints.root}: lower optim.peak or check the data."
            )
        row = {
            "step": step,
            "split": "train",
            **{k: v.mean() for k, v in totals.items() if k != "skipped"},
            "skipped_steps": int(totals["skipped"].total),
            "learning_rate": float(self.experiment.optim.rate(self.options.steps)(step - 1)),
            "tokens_per_s": tokens / elapsed if count else math.nan,  # the first step compiles
            "steps_per_s": count / elapsed if count else math.nan,
            "seconds": self.progress.seconds,
        }
        self._record(row)
        self.display.metrics(row, (self.options.steps - step) * elapsed / max(count, 1))

    def _evaluate(self) -> dict[str, float]:
        """Validates, keeps the best, and counts evaluations without a better one."""
        params = self.layout.gather(self.state).eval_params
        result = self.evaluator(params, self.display.evaluating("validation"))
        monitor = self.experiment.task.monitor
        better = metrics.is_better(monitor, result[monitor], self.progress.best)
        self.progress.stale = 0 if better else self.progress.stale + 1
        if better:
            self.progress.best, self.progress.best_step = result[monitor], self.step
            self.best.save(self.layout.gather(self.state), self._meta())
        self._record({"step": self.step, "split": "validation", **result, "seconds": self.progress.seconds})
        self.display.say(f"step {self.step}  validation  {show(result)}{'  (best)' if better else ''}")
        return result

    def _record(self, row: dict) -> None:
        self.file.write(row)
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "step" and math.isfinite(value):
                self.board.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def _meta(self) -> dict:
        return {
            "step": self.step,
            "progress": dataclasses.asdict(self.progress),
            # Of the log interval under way: a resumed run logs the same rows.
            "totals": {k: [float(x) for x in v] for k, v in self.layout.gather(jax.device_get(self.totals)).items()},
            "config": config.digest(self.experiment.config),
            "versions": facts.versions(),
        }

    def wait(self) -> None:
        """Until all saves stand on disk."""
        for checkpoints in (self.checkpoints, self.best):
            checkpoints.wait()

    def close(self) -> None:
        """Finishes saves under way and closes the files; the run folder is free again."""
        try:
            self.wait()
        finally:
            for file in (self.file, self.board):
                if file:
                    file.close()
            self.workdir.unlock()
