"""How much time everything around a training step takes: the loop, steps in one call, saving, and starting.

    python -m benchmarks.loop
    python -m benchmarks.loop --quick --what loop saves

Allocator, compile cache and loop (with metrics, guard, loader and log) are those of `seqjax train`. Wall time.
loop: a step of the loop, from its log, against the step that it compiles, called repeatedly with one batch, and
`plain`, only gradient and optimiser. calls: a step of three layers of width 32, with several steps per call. saves: how
long a save delays the next step, and when everything is written to disk. starts: from the start of a process to the end
of its first step, with an empty compile cache and with the cache that the first start filled.
"""

import contextlib
import itertools
import os
import tempfile
import time
from pathlib import Path

from benchmarks import _training, harness, ready, results, session
from benchmarks.results import Target

CHECK = session.Check(device="--what loop calls saves", cpu="--what calls")
# Sizes of language models, by the approximate milliseconds of a step on two cores.
MODELS = {
    "1 ms": dict(width=32, length=32, batch=4),
    "5 ms": dict(width=128, length=64, batch=16),
    "20 ms": dict(width=160, length=128, batch=16),
}
TINY = dict(width=32, layers=3, mixer="rnn", length=4, batch=4)
CALLS = (1, 10, 50)
SAVED = (100, 400)  # MB


@contextlib.contextmanager
def watched(found: dict):
    """Measures how much of a core other processes use, and whether this makes the figures noisy."""
    own = lambda: sum(os.times()[:4])  # including children that have ended
    busy, wall, mine = harness._busy(), time.perf_counter(), own()
    yield
    busy, wall, mine = harness._busy() - busy, time.perf_counter() - wall, own() - mine
    found["others"] = max(0.0, busy - mine) / wall
    found["noisy"] = found["others"] > harness.QUIET


def row(what: str, case: str, figures: dict[str, list[float]], checks: dict[str, tuple], watch: dict) -> dict:
    """Quartiles of all figures, and the ratios in `checks`: name -> (numerator, denominator or a number, target)."""
    found = {name: results.quartiles(values) for name, values in figures.items()}
    ratios = {}
    for name, (above, below, target) in checks.items():
        low, middle, high = found[above]
        less, half, more = found[below] if isinstance(below, str) else (below,) * 3
        ratio = middle / half
        ratios[name] = {
            "ratio": ratio,
            "low": low / more,
            "high": high / less,
            "noisy": watch["noisy"],
            "target": target and str(target),
            "met": None if watch["noisy"] or target is None else target.met(ratio),
        }
    return {"case": {"what": what, "of": case}, "figures": found, "ratios": ratios, "others": watch["others"]}


def measure_loop(quick: bool, models: dict = MODELS, log_every: int = 50) -> list[dict]:
    """Times the loop, the step and the plain step, in turns."""
    rows = []
    for case, sizes in models.items():
        steps = log_every * (4 if quick else 10)
        train = _training.tree(**sizes, steps=steps, log_every=log_every)
        contenders = {"plain ms": _training.stepping(train, plain=True), "step ms": _training.stepping(train)}
        figures: dict[str, list] = {name: [] for name in [*contenders, "loop ms"]}
        watch: dict = {}
        with watched(watch):
            for round in range(2 if quick else 4):
                for name in harness.turns(figures, round):
                    if name == "loop ms":
                        figures[name] += _training.looped(train)
                    else:
                        figures[name] += [contenders[name](log_every) for _ in range(steps // log_every - 1)]
        target = None if case == "1 ms" else Target("step", most=1.05)
        checks = {"loop / step": ("loop ms", "step ms", target), "loop / plain": ("loop ms", "plain ms", None)}
        rows.append(row("loop", f"a step of {case}", figures, checks, watch))
    return rows


def measure_calls(quick: bool, calls: tuple = CALLS, log_every: int = 50) -> list[dict]:
    """Times a tiny model with several steps per call."""
    times: dict[int, list] = {k: [] for k in calls}
    watch: dict = {}
    steps = log_every * (20 if quick else 40)
    trees = {k: _training.tree(**TINY, steps=steps, log_every=log_every, steps_per_call=k) for k in calls}
    with watched(watch):
        for round in range(2 if quick else 4):
            for k in harness.turns(calls, round):
                times[k] += _training.looped(trees[k])
    rows = []
    for k in calls:
        figures = {"one a call, ms": times[calls[0]], "step ms": times[k]}
        checks = {"gain": ("one a call, ms", "step ms", Target("one", least=2.0) if k == max(calls) else None)}
        rows.append(row("calls", f"{k} steps a call", figures, checks, watch))
    return rows


def measure_saves(quick: bool, sizes: tuple = SAVED) -> list[dict]:
    """Times repeated saves of a state of sixteen arrays.

    A save `returns` before anything is copied. `blocks` is the delay of the next step, which overwrites the state in
    place.
    """
    import jax
    import jax.numpy as jnp

    from seqjax.training.checkpoint import Checkpoints

    rows, advance = [], jax.jit(lambda state: jax.tree.map(jnp.negative, state), donate_argnums=0)
    for mb in sizes:
        state = {f"array_{i}": jnp.full((mb * 10**6 // 64, 1), i, jnp.float32) for i in range(16)}
        figures: dict[str, list] = {"returns, ms": [], "blocks, ms": [], "per 100 MB, ms": [], "on disk, ms": []}
        watch: dict = {}
        with tempfile.TemporaryDirectory() as folder, watched(watch):
            checkpoints = Checkpoints(Path(folder), keep=1)
            for step in range(1 + (3 if quick else 7)):
                times = [time.perf_counter()]
                state = jax.block_until_ready(advance(state))
                times.append(time.perf_counter())
                checkpoints.save(state, {"step": step})
                times.append(time.perf_counter())
                state = jax.block_until_ready(advance(state))
                times.append(time.perf_counter())
                checkpoints.wait()
                times.append(time.perf_counter())
                alone, returns, then, rest = (1e3 * (b - a) for a, b in itertools.pairwise(times))
                if step:  # the first save imports and compiles
                    blocks = returns + then - alone
                    found = (returns, blocks, 100 * blocks / mb, returns + then + rest)
                    for figure, ms in zip(figures.values(), found, strict=True):
                        figure.append(ms)
        checks = {"per 100 MB / 50 ms": ("per 100 MB, ms", 50.0, Target("50 ms", most=1.0))}
        rows.append(row("saves", f"{mb} MB", figures, checks, watch))
    return rows


def measure_starts(quick: bool, variants: tuple = ("gru", "attention")) -> list[dict]:
    """Times new processes: the first with an empty compile cache, the second with the cache of the first."""
    rows = []
    for variant in variants:
        figures: dict[str, list] = {"first, ms": [], "second, ms": []}
        watch: dict = {}
        with watched(watch):
            for _ in range(3 if quick else 5):
                with tempfile.TemporaryDirectory() as cache:
                    for times in figures.values():
                        times.append(_training.started(f"quickstart.py:{variant}", cache))
        checks = {"second / first": ("second, ms", "first, ms", Target("first", most=0.6))}
        rows.append(row("starts", variant, figures, checks, watch))
    return rows


MEASURES = {"loop": measure_loop, "calls": measure_calls, "saves": measure_saves, "starts": measure_starts}


def tables(rows: list[dict]) -> list[tuple[str, list[list[str]]]]:
    """One table of each kind: median and quartiles of all figures, ratios with their targets."""
    out = []
    for what in dict.fromkeys(row["case"]["what"] for row in rows):
        mine = [row for row in rows if row["case"]["what"] == what]
        lines = [["", *mine[0]["figures"], *mine[0]["ratios"], "others"]]
        for row in mine:
            figures = [f"{middle:.3g} ({low:.3g}–{high:.3g})" for low, middle, high in row["figures"].values()]
            ratios = [results.cell(ratio) for ratio in row["ratios"].values()]
            lines.append([row["case"]["of"], *figures, *ratios, f"{row['others']:.2f}"])
        out.append((what.capitalize(), lines))
    return out


def main(argv: list[str] | None = None) -> None:
    """Parses the options, makes one measurement after the other, and writes the results after each."""
    parser = session.options("loop", __doc__, what=MEASURES)
    args = session.parse(parser, argv)
    args.pin, args.shared = False, True
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SEQJAX_CACHE"] = cache
        from seqjax import runtime

        runtime.setup()
        result = session.about(args, [])
        session.place(result, ready.device())
        for what in args.what:
            result["rows"] += MEASURES[what](args.quick)
            results.save(result, args.out / session.stem(result), tables(result["rows"]), draw=None)
            print(results.markdown({"name": what}, tables(result["rows"])[-1:]))


if __name__ == "__main__":
    main()
