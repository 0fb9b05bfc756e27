"""Values and gradients of small programs, which take a thousand times longer to compile than to run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.testing.gradients import call

__all__ = ["call", "close", "drawn", "evaluate", "init", "run"]


def run(module, params, *arguments, **options):
    """module.apply(params, *arguments, **options) in one program, and in numpy."""
    return jax.device_get(_run(module, params, *arguments, **options))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("deterministic", "method", "mutable"))
def _run(module, params, *arguments, **options):
    return module.apply(params, *arguments, **options)


def init(module, *arguments, **options):
    """module.init(key, *arguments, **options) in one program, and in numpy."""
    key, options = jax.random.key(0), {name: option for name, option in options.items() if option is not None}
    static = {name: options.pop(name) for name in ("method",) if name in options}
    return jax.device_get(jax.jit(functools.partial(module.init, **static))(key, *arguments, **options))


def drawn(module, *arguments, seed=0, spread=0.3, **options):
    """Parameters, none of them where it starts."""
    draw = np.random.default_rng(seed)
    move = lambda a: a + spread * draw.normal(size=a.shape).astype(a.dtype)
    return jax.tree.map(move, init(module, *arguments, **options))


def evaluate(f, params, x):
    """y = f(params, x), and the gradients of <y, c>, for a fixed random c, by params and by x if that is real."""
    real = all(jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves(x))

    @jax.jit
    def both(params, x):
        y, pull = jax.vjp(f, params, x) if real else jax.vjp(lambda params: f(params, x), params)
        return y, pull(jax.random.normal(jax.random.key(3), y.shape).astype(y.dtype))

    return both(params, x)


def close(got, wanted, tolerance=2e-5):
    """Equal up to `tolerance` times the largest number in each array, or times 1 if that is larger."""

    def one(path, a, b):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        atol = tolerance * max(1.0, np.max(np.abs(b), initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(one, got, wanted)
