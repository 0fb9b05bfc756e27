"""The training step and the evaluation step, as pure functions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from seqjax.metrics import Ratio
from seqjax.training.net import Net
from seqjax.training.state import State


def make_train_step(
    model,
    task,
    learner,
    *,
    accumulate: int = 1,
    ema: float | None = None,
    spike: float | None = None,
    axis: str | None = None,
    use: Callable = lambda params: params,
    others: dict | None = None,
):
    """`(state, totals, batch) -> (state, totals)`, where totals add up metrics on the device; None: no totals yet.

    The learner collects sums over the batch, in `accumulate` micro-batches and on all devices (`axis`, under pmap), and
    updates the parameters from them. A step whose terms or sums are not finite, or that is a `spike` (see
    `guard.Guard`), changes no parameter; it is counted in `state.bad` and under "skipped". The totals also contain
    `state.bad`: the host can still read them after the buffers of the state were reused. `use` is what a mesh does to
    parameters before the model reads them. `others`: name -> model of a further net, with the parameters in
    `state.aux`.

    A carried state enters as data, so that the gradient stops at the start of the batch. It is kept after a skipped
    step, too, as the parameters that made it are kept; a row in which it is not finite is reset.
    """
    nets = others or {}
    # JAX traces each function once and reuses the trace: `collect` for the micro-batches and the shapes of their sums,
    # `update` for the structure of the totals, for the cost and for the program.
    read_once = functools.partial(jax.jit, inline=True)

    @read_once
    def collect(aux, *args):
        others = {name: Net(other, aux[name]) for name, other in nets.items()}
        return learner.collect(Net(model, others=others, use=use), *args)

    @read_once
    def update(state: State, batch):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        weights = task.weights(batch) if len(task.terms) > 1 else {}
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
            weights = jax.lax.psum(weights, axis)
        part = functools.partial(collect, state.aux, state.params)
        sums, metrics, carry = _accumulated(part, accumulate, batch, weights, state.carry, key)
        if axis is not None:
            sums, metrics = jax.lax.psum((sums, metrics), axis)
        average = learner.average(sums)
        norm = optax.tree.norm(learner.trained(state.step, average))
        ok = functools.reduce(jnp.logical_and, [jnp.isfinite(metrics[name].total) for name in task.terms])
        ok &= jnp.isfinite(norm)
        if spike is not None:
            ok &= ~state.norms.is_spike(norm, spike)

        params, opt_state = learner.update(state.opt_state, average, state.params, state.step)
        averages = state.ema
        if ema is not None:
            averages = jax.tree.map(lambda a, p: ema * a + (1 - ema) * p, state.ema, params)
            averages = learner.trained(state.step, averages, state.ema)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)
        good = ok.astype(jnp.float32)
        metrics = {
            **jax.tree.map(lambda a: jnp.where(ok, a, 0), metrics),
            "grad_norm": Ratio(jnp.where(ok, norm, 0), good),
            "skipped": Ratio(1 - good, jnp.float32(1)),
        }
        state = state.replace(
            step=state.step + 1,
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            ema=keep(averages, state.ema),
            bad=jnp.where(ok, 0, state.bad + 1),
            carry=_finite_rows(carry, model),
            norms=None if spike is None else keep(state.norms.add(norm), state.norms),
        )
        return state, metrics

    def train_step(state: State, totals, batch):
        state, metrics = update(state, batch)
        totals = metrics if totals is None else {k: totals[k] + v for k, v in metrics.items()}
        return state, {**totals, "bad": Ratio(state.bad.astype(jnp.float32), jnp.float32(1))}

    return train_step


def _accumulated(collect, count: int, batch, weights, carry, key):
    """What `collect` returns for a batch, from `count` micro-batches one after the other."""
    if count == 1:
        return collect(batch, weights, carry, key)

    def micro(sums, slices):
        part, carry, index = slices
        *found, carry = collect(part, weights, carry, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, sums, tuple(found)), carry

    # Rows i, i + count, ...: each device keeps the rows it has.
    split = lambda a: jnp.swapaxes(a.reshape(-1, count, *a.shape[1:]), 0, 1)
    join = lambda a: jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:])
    parts = jax.tree.map(split, (batch, carry))
    part, start = jax.tree.map(lambda a: a[0], parts)
    *found, _ = jax.eval_shape(collect, part, weights, start, key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), tuple(found))
    (sums, metrics), carry = jax.lax.scan(micro, zeros, (*parts, jnp.arange(count)))
    return sums, metrics, jax.tree.map(join, carry)


def traced(step):
    """The step, with a counter `times`: how often JAX traced it, which is once for each program that it compiles."""

    @functools.wraps(step)
    def reading(*args):
        reading.times += 1
        return step(*args)

    reading.times = 0
    return reading


def stacked(train_step):
    """The step for a stack of batches (steps, B, ...): one step after the other in one program."""

    def steps(state: State, totals, batches):
        one = lambda carried, batch: (train_step(*carried, batch), None)
        return jax.lax.scan(one, (state, totals), batches)[0]

    return steps


def _finite_rows(carry, model):
    """A carried state; rows that are not finite are reset to the initial state."""
    if carry is None:
        return None
    finite = [jnp.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in jax.tree.leaves(carry)]
    ok_B = functools.reduce(jnp.logical_and, finite)
    choose = lambda new, fresh: jnp.where(ok_B.reshape(-1, *(1,) * (new.ndim - 1)), new, fresh)
    return jax.tree.map(choose, carry, model.init_state(len(ok_B)))


def make_eval_step(model, task):
    """`(params, batch, carry) -> (metrics, carry)`: name -> sums of this batch, and the state after it (or None)."""

    def eval_step(params, batch, carry=None):
        terms, metrics, carry = task.objective(Net(model, params), batch, carry)
        return task.checked(terms, metrics), carry

    return eval_step


def zero_totals(train_step, state, batch):
    """Totals of zero, with the structure that `train_step` returns; it is found without running the step."""
    _, shapes = jax.eval_shape(lambda s, b: train_step(s, None, b), state, batch)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
