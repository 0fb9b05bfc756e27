"""The loop over steps: step, log, evaluate, save; and what a signal or bad numbers make of it."""

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
AHEAD = 2  # steps that may be under way while the host goes on
BLOCK = 256  # log lines whose learning rates are computed together


class Calls(collections.abc.Sequence):
    """The batches that each call of the step takes, `k` of them; they are seen `passed` later than their step.

    A run that was saved with another k comes back to multiples of this one: its first call is shorter.
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
    """The steps of a run (`run.Run`) that was started."""

    def __init__(self, run, interrupt: Interrupt):
        self.run, self.interrupt = run, interrupt
        self.experiment, self.options, self.display = run.experiment, run.options, run.journal.display
        # The first call is shorter, if the run was saved with another number of steps per call.
        self.programs = max(len(run.experiment.loader.buckets), 1) + bool(run.step % run.options.steps_per_call)
        self._schedule = jax.jit(jax.vmap(self.experiment.optim.rate(self.options.steps)))
        self._rates = -1, None  # of which block of log lines, and they
        self.last: dict[str, float] = {}  # validation metrics
        self._pending = None  # a log line whose numbers may still be under way
        self._told = False  # that there are more programs than buckets

    def train(self) -> dict[str, float]:
        """Steps until the end; returns the last validation metrics.

        Raises:
          Preempted: a signal came; the state is saved.
          NumericsError: too many bad steps.
        """
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
        # Steps with collectives that are queued on simulated CPU devices can deadlock: wait for each.
        ahead = 0 if jax.default_backend() == "cpu" and jax.device_count() > 1 else AHEAD
        under_way: collections.deque = collections.deque()
        tokens, count = 0, 0
        self._tick, self._spent = time.perf_counter(), 0.0
        if run.progress.owed:
            if self._look(evaluate=True, save=True):
                return
        elif options.patience and run.progress.stale >= options.patience:  # it was stopped here before
            return self._say_stopped()
        for done, batch in self._batches():
            start, known = time.perf_counter(), run.traced.times
            run.state, run.totals = run.train_step(run.state, run.totals, batch)
            run.step += done
            if run.traced.times == known:  # other processes have about as many tokens in their rows
                share = batch["mask"].shape[-2] / self.experiment.loader.batch_size
                tokens, count = tokens + int(batch["mask"].sum() / share), count + done
            else:  # speed and training time are those of steps that compile nothing
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
                # Read when the next step is under way, so that the device never waits for the host.
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
        if run.step < steps:  # asked to end while the source was silent
            self._flush()
            self._wait_for(under_way, 0)
            self._look(evaluate=False, save=False)

    def _batches(self):
        """What each call of the step takes: how many steps it is, and their batches."""
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
        """Until no more than `ahead` steps are under way; too many bad ones among the others raise TooBad."""
        while len(under_way) > ahead:
            step, totals = under_way.popleft()
            jax.block_until_ready(totals)
            self.experiment.guard.check(step, int(self.run.layout.fetch(totals["bad"].total)))

    def _look(self, evaluate: bool, save: bool) -> bool:
        """Evaluates and saves, and ends where a signal asks for it; returns whether to stop early."""
        run = self.run
        state = run.layout.gather(run.state)
        self.experiment.guard.check_parameters(run.step, (state.params, state.ema))
        stop = evaluate and self._evaluate()
        asked = self.interrupt.asked  # looked at once: whoever is told that all is saved can rely on it
        if asked and (run.progress.owed or not (stop or run.step == self.options.steps)):
            self._preempt(asked)
        if save or stop:
            run.save(run.checkpoints)
        if stop:
            self._say_stopped()
        return stop

    def _say_stopped(self) -> None:
        best = self.run.progress.best_step
        self.display.say(
            f"stopped early at step {self.run.step}: {self.experiment.task.monitor} was best at step {best}"
        )

    def _pass(self, now: float) -> None:
        """The time of training since the last look at the clock counts for the run and for the log interval."""
        self.run.progress.seconds += now - self._tick
        self._spent += now - self._tick
        self._tick = now

    def _preempt(self, asked: str) -> None:
        """Saves, and ends the run so that the same command goes on with it."""
        self.run.save(self.run.checkpoints)
        self.run.checkpoints.wait()
        raise Preempted(
            f"{asked}: saved step {self.run.step} of {self.options.steps} in {self.run.workdir.path}; "
            "run the same command again to go on."
        )

    def _evaluate(self) -> bool:
        """Validates, keeps the best, counts evaluations without a better one; returns whether that is enough of them.

        A signal cuts it short; the next start makes up for it.
        """
        run, progress = self.run, self.run.progress
        params = run.layout.gather(run.state).eval_params
        on_batch = self.display.evaluating("validation")
        result = run.evaluator(params, on_batch, give_up=lambda: self.interrupt.asked)
        progress.owed = result is None
        if result is None:
            return False
        monitor, patience = self.experiment.task.monitor, self.options.patience
        better = metrics.is_better(monitor, result[monitor], progress.best)
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best, progress.best_step = result[monitor], run.step
            run.save(run.best)
        run.journal.write({"step": run.step, "split": "validation", **result, "seconds": progress.seconds})
        self.display.say(f"step {run.step}  validation  {show(result)}{'  (best)' if better else ''}")
        self.last = result
        return bool(patience) and progress.stale >= patience

    def _flush(self) -> None:
        """Logs the interval that ended with the step before, if one did."""
        if self._pending:
            self._log(*self._pending)
            self._pending = None

    def _rate(self, step: int) -> float:
        """The learning rate of a step that is logged. The device is asked for many at once: it is at work on others."""
        every = self.options.log_every
        block, line = divmod((step - 1) // every, BLOCK)
        if block != self._rates[0]:
            lines = np.arange(block * BLOCK + 1, (block + 1) * BLOCK + 1)
            logged = np.minimum(lines * every, self.options.steps).astype(np.int32)
            self._rates = block, np.asarray(self._schedule(logged - 1))
        return float(self._rates[1][line])

    def _log(self, step: int, totals, tokens: int, count: int, compiles: int) -> None:
        """Reads the totals of a log interval and writes them everywhere."""
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
            "learning_rate": self._rate(step),
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
                "the step was compiled %d times for %d bucket(s), up to step %d: the source gives batches with other "
                "fields or dtypes from time to time; each kind costs a compilation.",
                compiles,
                self.programs,
                step,
            )
