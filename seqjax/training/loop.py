"""The loop over steps: step, log, evaluate and save; it also handles signals and bad steps."""

import collections
import collections.abc
import logging
import math
import time

import jax
import numpy as np

from seqjax import metrics
from seqjax.training.guard import TooBad
from seqjax.training.progress import show
from seqjax.training.signals import Interrupt
from seqjax.types import Preempted

log = logging.getLogger(__name__)
AHEAD = 2  # steps that the device may have queued while the host goes on
BLOCK = 256  # log lines whose learning rates are computed together


class Calls(collections.abc.Sequence):
    """The numbers of the `k` batches that each call of the step takes: the step plus the `passed` (skipped) batches.

    If the run was saved with another k, the first call is shorter, so that later calls end at multiples of k.
    """

    def __init__(self, first: int, last: int, k: int, passed: int):
        self.first, self.last, self.k, self.passed = first, last, k, passed

    def __len__(self) -> int:
        return max(self.last // self.k - self.first // self.k, 0)

    def __getitem__(self, index: int) -> range:
        if not 0 <= index < len(self):
            raise IndexError(index)
        end = (self.first // self.k + 1 + index) * self.k
        return range(max(end - self.k, self.first) + self.passed, end + self.passed)


class Loop:
    """Takes the steps of a run (`run.Run`) that was started."""

    def __init__(self, run, interrupt: Interrupt):
        self.run, self.interrupt = run, interrupt
        self.experiment, self.options, self.display = run.experiment, run.options, run.journal.display
        # The first call is shorter, if the run was saved with another number of steps per call.
        self.programs = max(len(run.experiment.loader.buckets), 1) + bool(run.step % run.options.steps_per_call)
        self._schedule = jax.jit(jax.vmap(self.experiment.optim.rate(self.options.steps)))
        self._rates = -1, None  # the number of a block of log lines, and their learning rates
        self.last: dict[str, float] = {}  # validation metrics
        self._pending = None  # a log line whose numbers may still be computed
        self._told = False  # whether the warning about more programs than buckets was printed

    def train(self) -> dict[str, float]:
        """Trains to the last step; returns the last validation metrics. Raises as `run.train` does."""
        while True:
            try:
                with self.display:
                    self._all()
                return self.last
            except TooBad as bad:
                self._pending = None
                self.run.roll_back(bad)

    def _all(self) -> None:
        run, options = self.run, self.options
        steps = options.steps
        every = lambda n: n is not None and run.step % n == 0
        # Simulated CPU devices can deadlock if steps with collectives are queued: wait for each step.
        ahead = 0 if jax.default_backend() == "cpu" and jax.device_count() > 1 else AHEAD
        under_way: collections.deque = collections.deque()
        tokens, count = 0, 0
        self._tick, self._spent = time.perf_counter(), 0.0
        if run.progress.owed:
            if self._look(evaluate=True, save=True):
                return
        elif options.patience and run.progress.stale >= options.patience:  # an earlier start stopped here
            return self._say_stopped()
        for done, batch in self._batches():
            start, known = time.perf_counter(), run.traced.times
            run.state, run.totals = run.train_step(run.state, run.totals, batch)
            run.step += done
            if run.traced.times == known:  # assumes that the rows of other processes have as many tokens
                size = self.experiment.loader.batch_size
                share = 1 if self.experiment.loader.places else batch["mask"].shape[-2] / size
                tokens, count = tokens + int(batch["mask"].sum() / share), count + done
            else:  # speed and training time leave out steps that compile
                self._pass(start)
                jax.block_until_ready(run.totals)
                self._tick = time.perf_counter()
                self.display.say(f"compiled in {self._tick - start:.1f} s")
            under_way.append((run.step, run.totals))
            self._wait_for(under_way, ahead)
            self.display.step(run.step)
            self._flush()
            final = run.step == steps
            if every(options.log_every) or final:
                # The totals are read while the next step runs, so that the device never waits for the host.
                self._pending = (run.step, run.totals, tokens, count, run.traced.times)
                run.totals, tokens, count = run.zeros, 0, 0
            evaluate = bool(run.evaluator) and (every(options.eval_every) or final)
            save = every(options.checkpoint_every) or final
            asked = self.interrupt.at(run.step // options.steps_per_call)
            if not (evaluate or save or asked):
                continue
            self._flush()
            self._wait_for(under_way, 0)
            self._pass(time.perf_counter())
            if self._look(evaluate, save):
                return
            self._tick = time.perf_counter()
        if run.step < steps:  # a signal came while the loop waited for data
            self._flush()
            self._wait_for(under_way, 0)
            self._look(evaluate=False, save=False)

    def _batches(self):
        """For each call of the step: the number of steps, and their batches."""
        run, k = self.run, self.options.steps_per_call
        reading = dict(give_up=lambda: self.interrupt.asked, rows=run.layout.rows(self.experiment.loader.batch_size))
        first, last, passed = run.step, self.options.steps, run.progress.passed
        if k == 1:
            for batch in self.experiment.batches.iterate(first + passed, last + passed, **reading):
                yield 1, batch
            return
        calls = Calls(first, last, k, passed)
        for call, batch in zip(calls, self.experiment.batches.stacks(calls, **reading), strict=False):
            yield len(call), batch

    def _wait_for(self, under_way: collections.deque, ahead: int) -> None:
        """Waits until at most `ahead` steps are still running. Raises TooBad if the others had too many bad steps."""
        while len(under_way) > ahead:
            step, totals = under_way.popleft()
            jax.block_until_ready(totals)
            self.experiment.guard.check(step, int(self.run.layout.fetch(totals["bad"].total)))

    def _look(self, evaluate: bool, save: bool) -> bool:
        """Evaluates and saves, and ends the run if a signal came; returns whether to stop early."""
        run = self.run
        state = run.layout.gather(run.state)
        self.experiment.guard.check_parameters(run.step, (state.params, state.ema))
        stop = evaluate and self._evaluate()
        asked = self.interrupt.asked  # read once, so that a signal that comes later changes nothing below
        if asked and (run.progress.owed or not (stop or run.step == self.options.steps)):
            self._preempt(asked)
        if save or stop:
            run.save(run.checkpoints)
        if stop:
            self._say_stopped()
        return stop

    def _say_stopped(self) -> None:
        monitor, best = self.experiment.task.monitor, self.run.progress.best_step
        self.display.say(f"stopped early at step {self.run.step}: {monitor} was best at step {best}")

    def _pass(self, now: float) -> None:
        """Adds the time since the last call to the training time of the run and of the log interval."""
        self.run.progress.seconds += now - self._tick
        self._spent += now - self._tick
        self._tick = now

    def _preempt(self, asked: str) -> None:
        """Saves and ends the run such that the same command continues it."""
        self.run.save(self.run.checkpoints)
        self.run.checkpoints.wait()
        raise Preempted(
            f"{asked}: saved step {self.run.step} of {self.options.steps} in {self.run.workdir.path}; "
            "run the same command again to go on."
        )

    def _evaluate(self) -> bool:
        """Evaluates on validation and saves the best state; returns whether `patience` evaluations were no better.

        A signal interrupts the evaluation; then the next start repeats it.
        """
        run, progress = self.run, self.run.progress
        params = run.layout.gather(run.state).eval_params
        on_batch = self.display.evaluating("validation")
        result = run.evaluator(params, run.step, on_batch, give_up=lambda: self.interrupt.asked)
        progress.owed = result is None
        if result is None:
            return False
        e, patience = self.experiment, self.options.patience
        monitor = e.task.monitor
        better = metrics.is_better(e.metrics[monitor], result[monitor], progress.best)
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best, progress.best_step = result[monitor], run.step
            run.save(run.best)
        run.journal.write({"step": run.step, "split": "validation", **result, "seconds": progress.seconds})
        self.display.say(f"step {run.step}  validation  {show(result)}{'  (best)' if better else ''}")
        self.last = result
        return bool(patience) and progress.stale >= patience

    def _flush(self) -> None:
        """Logs the interval that ended with the step before, if one ended there."""
        if self._pending:
            self._log(*self._pending)
            self._pending = None

    def _rate(self, step: int) -> float:
        """The learning rate of a logged step. Many are computed at once, as each request waits for the device."""
        every = self.options.log_every
        block, line = divmod((step - 1) // every, BLOCK)
        if block != self._rates[0]:
            lines = np.arange(block * BLOCK + 1, (block + 1) * BLOCK + 1)
            logged = np.minimum(lines * every, self.options.steps).astype(np.int32)
            self._rates = block, np.asarray(self._schedule(logged - 1))
        return float(self._rates[1][line])

    def _log(self, step: int, totals, tokens: int, count: int, compiles: int) -> None:
        """Reads the totals of a log interval and writes them to the journal and the display."""
        run = self.run
        totals = run.layout.fetch(totals)
        self._pass(time.perf_counter())
        elapsed, self._spent = self._spent, 0.0
        row = {
            "step": step,
            "split": "train",
            **{k: v.mean() for k, v in totals.items() if k not in ("skipped", "bad")},
            "skipped_steps": int(totals["skipped"].total),
            "rollbacks": run.progress.rollbacks,
            **({"learning_rate": self._rate(step)} if self.experiment.learner.optimises else {}),
            "tokens_per_s": tokens / elapsed if count else math.nan,  # the first step compiles
            "steps_per_s": count / elapsed if count else math.nan,
            "seconds": run.progress.seconds,
            "jit_compiles": compiles,
        }
        run.journal.write(row)
        self.display.metrics(row, (self.options.steps - step) * elapsed / max(count, 1))
        if compiles > self.programs and not self._told:
            self._told = True
            log.warning(
                "the step was compiled %d times for %d bucket(s), up to step %d: some batches of the source have other "
                "fields or dtypes; each kind costs a compilation.",
                compiles,
                self.programs,
                step,
            )
