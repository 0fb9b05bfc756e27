"""Runs of `seqjax train`, in this process and in others, and its bare step."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def tree(width: int, length: int, batch: int, layers: int = 1, mixer: str = "gru", **train) -> dict:
    """The resolved config of a character language model, on one device."""
    from seqjax.training.experiment import resolve

    return resolve(
        dict(
            data=dict(name="benchmarks._characters:Source", length=length),
            task=dict(name="next_token"),
            model=dict(name="stack", width=width, layers=layers, expansion=0, mixer=dict(name=mixer)),
            loader=dict(batch_size=batch),
            optim=dict(learning_rate=1e-3),
            parallel=dict(data=1),
            train=dict(checkpoint_every=None, **train),
        )
    )


def looped(tree: dict) -> list[float]:
    """Trains, and returns the milliseconds per step in each log interval except the first."""
    from seqjax.training import run as training_run
    from seqjax.training.experiment import Experiment
    from seqjax.training.workdir import Workdir

    with tempfile.TemporaryDirectory() as folder:
        training_run.train(Experiment(tree), Workdir(folder), quiet=True)
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [1e3 / row["steps_per_s"] for row in rows[1:]]


def stepping(tree: dict, plain: bool = False) -> Callable[[int], float]:
    """A function of n that times n steps and returns the mean milliseconds of a step.

    The step is the one that the loop compiles, or (`plain`) only gradient and optimiser.
    """
    import jax

    from seqjax.training.experiment import Experiment
    from seqjax.training.net import Net
    from seqjax.training.step import zero_totals

    e = Experiment(tree)
    layout, batch = e.parallel.layout(e.loader.batch_size, 1), jax.device_put(e.batches.first)
    whole = e.program(layout)
    state, totals = layout.init(e.make_state), zero_totals(whole, e.shapes, e.batches.first)

    def bare(held, batch):
        def loss(params):
            loss = e.task.objective(Net(e.model, params), batch, None)[0]["loss"]
            return loss.total / loss.weight

        params, opt_state, step = held
        return *e.learner.update(opt_state, jax.grad(loss)(params), params, step), step + 1

    if plain:
        step, held = jax.jit(bare, donate_argnums=0), (state.params, state.opt_state, state.step)
    else:
        program = layout.compile(whole, layout.abstract(e.shapes), e.loader.batch_size)
        step, held = lambda held, batch: program(*held, batch), (state, layout.spread(totals))
    held = jax.block_until_ready(step(held, batch))

    def ms(n: int) -> float:
        nonlocal held
        start = time.perf_counter()
        for _ in range(n):
            held = step(held, batch)
        jax.block_until_ready(held)
        return 1e3 * (time.perf_counter() - start) / n

    return ms


def started(config: str, cache: str, *more: str) -> float:
    """Milliseconds from the start of `seqjax train`, with `more` options, until it logs its first step.

    Raises:
      RuntimeError: the command failed, or did not log a step.
    """
    environment = {**os.environ, "SEQJAX_CACHE": cache, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory() as workdir:
        words = [
            "train",
            "--config",
            str(EXPERIMENTS / config),
            "--config.train.steps=2",
            "--config.optim.warmup_steps=1",
        ]
        words += ["--config.train.eval_every=None", "--workdir", workdir, *more]
        start, found = time.perf_counter(), None
        command = [sys.executable, "-m", "seqjax", *words]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith("compiled in"):
                    found = 1e3 * (time.perf_counter() - start)
    if process.returncode or found is None:
        raise RuntimeError(f"seqjax {' '.join(words)} ended with {process.returncode}, its first step at {found}.")
    return found
