"""Values and gradients of small programs, which take a thousand times longer to compile than to run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.jit, static_argnums=(0, 1))
def call(f, module, *arguments):
    """f(module, *arguments), traced once for all that ask for it."""
    return f(module, *arguments)


def pull(f, module, *arguments):
    """f(module, *arguments), and what turns its cotangent into gradients: one program does both. All in numpy."""
    run = lambda cotangent: jax.device_get(_both(f, module, arguments, cotangent))
    return run(zeros(jax.eval_shape(functools.partial(call, f, module), *arguments)))[0], lambda c: run(c)[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _both(f, module, arguments, cotangent):
    y, back = jax.vjp(functools.partial(call, f, module), *arguments)
    return y, back(cotangent)


def zeros(tree):
    """A cotangent that asks for nothing."""
    floating = lambda a: jnp.issubdtype(a.dtype, jnp.floating)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype if floating(a) else jax.dtypes.float0), tree)


def evaluate(f, params, x):
    """y = f(params, x), and the gradients of <y, c>, for a fixed random c, by params and by x if that is real."""
    real = jnp.issubdtype(x.dtype, jnp.floating)
    y, pull = jax.vjp(f, params, x) if real else jax.vjp(lambda params: f(params, x), params)
    return y, pull(jax.random.normal(jax.random.key(3), y.shape).astype(y.dtype))


def close(got, wanted, tolerance=2e-5):
    """Equal up to `tolerance` times the largest number in each array, or times 1 if that is larger."""

    def one(path, a, b):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        atol = tolerance * max(1.0, np.max(np.abs(b), initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(one, got, wanted)
