"""The training step and the evaluation step, as pure functions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from seqjax.metrics import Ratio
from seqjax.training.state import State


def make_train_step(
    model,
    task,
    tx,
    *,
    accumulate: int = 1,
    ema: float | None = None,
    spike: float | None = None,
    axis: str | None = None,
    use: Callable = lambda params: params,
    trained: Callable = lambda step, new, old=None: new,
):
    """`(state, totals, batch) -> (state, totals)`, where totals add up metrics on the device; None: no totals yet.

    The gradient is that of the batch's summed loss, divided by its summed weight: micro-batches (`accumulate`) and
    devices (`axis`, under pmap) change only the order of additions. So the gradient of one token has the same size in
    any batch, and float16 can hold it; the gradients of all tokens are summed in float32. A step whose loss or gradient
    is not finite, or that is a `spike` (see `guard.Guard`), changes no parameter; it is counted in `state.bad` and
    under "skipped". The totals also contain `state.bad`: the host can still read them after the buffers of the state
    were reused. `use` is what a mesh does to parameters before the model reads them. `trained` (see `optim.Optim`) says
    which gradients count in the norm and which averages move.

    A carried state enters as data, so that the gradient stops at the start of the batch. It is kept after a skipped
    step, too, as the parameters that made it are kept; a row in which it is not finite is reset.
    """

    tx = optax.with_extra_args_support(tx)

    def summed_loss(params, batch, carry, key):
        reads = task.reads(batch)
        prediction, carry = model.apply(
            {"params": use(params)}, reads.x, carry, **reads.keywords, deterministic=False, rngs={"dropout": key}
        )
        metrics = task.loss(prediction, batch)
        task.check(metrics)
        return metrics["loss"].total, (metrics, carry)

    # JAX traces each function once and reuses the trace: `slope` for the micro-batches and the shapes of their sums,
    # `update` for the structure of the totals, for the cost and for the program.
    read_once = functools.partial(jax.jit, inline=True)
    slope = read_once(jax.value_and_grad(summed_loss, has_aux=True))

    def gradients(params, batch, carry, key):
        if accumulate == 1:
            (_, (metrics, carry)), grads = slope(params, batch, carry, key)
            return grads, metrics, carry

        def micro(sums, slices):
            part, carry, index = slices
            (_, (metrics, carry)), grads = slope(params, part, carry, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, sums, (grads, metrics)), carry

        # Rows i, i + accumulate, ...: each device keeps the rows it has.
        split = lambda a: jnp.swapaxes(a.reshape(-1, accumulate, *a.shape[1:]), 0, 1)
        join = lambda a: jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:])
        parts = jax.tree.map(split, (batch, carry))
        first = jax.tree.map(lambda a: a[0], parts)
        (_, (metrics, _)), grads = jax.eval_shape(slope, params, *first, key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (grads, metrics))
        (grads, metrics), carry = jax.lax.scan(micro, zeros, (*parts, jnp.arange(accumulate)))
        return grads, metrics, jax.tree.map(join, carry)

    @read_once
    def update(state: State, batch):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        grads, metrics, carry = gradients(state.params, batch, state.carry, key)
        if axis is not None:
            grads, metrics = jax.lax.psum((grads, metrics), axis)
        # A batch without targets has weight 0 and gradient 0.
        weight = jnp.where(metrics["loss"].weight > 0, metrics["loss"].weight, 1.0)
        grads = jax.tree.map(lambda g: g / weight.astype(g.dtype), grads)
        norm = optax.tree.norm(trained(state.step, grads))
        ok = jnp.isfinite(metrics["loss"].total) & jnp.isfinite(norm)
        if spike is not None:
            ok &= ~state.norms.is_spike(norm, spike)

        updates, opt_state = tx.update(grads, state.opt_state, state.params, step=state.step)
        params = optax.apply_updates(state.params, updates)
        average = state.ema
        if ema is not None:
            average = jax.tree.map(lambda a, p: ema * a + (1 - ema) * p, state.ema, params)
            average = trained(state.step, average, state.ema)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)
        one, zero = jnp.float32(1), jnp.float32(0)
        metrics = {
            **jax.tree.map(lambda a: jnp.where(ok, a, 0), metrics),
            "grad_norm": Ratio(jnp.where(ok, norm, 0), jnp.where(ok, one, zero)),
            "skipped": Ratio(jnp.where(ok, zero, one), one),
        }
        state = State(
            step=state.step + 1,
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            key=state.key,
            ema=keep(average, state.ema),
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
        reads = task.reads(batch)
        prediction, carry = model.apply({"params": params}, reads.x, carry, **reads.keywords, deterministic=True)
        metrics = task.loss(prediction, batch)
        task.check(metrics)
        return metrics, carry

    return eval_step


def zero_totals(train_step, state, batch):
    """Totals of zero, with the structure that `train_step` returns; it is found without running the step."""
    _, shapes = jax.eval_shape(lambda s, b: train_step(s, None, b), state, batch)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
