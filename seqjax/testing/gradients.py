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


def numbers(gradients):
    """Gradients by parameters; those by integers, which have none, as zeros."""
    return jax.tree.map(lambda g: np.zeros(g.shape, np.float32) if g.dtype == jax.dtypes.float0 else g, gradients)


def zeros(tree):
    """A cotangent that asks for nothing."""
    floating = lambda a: jnp.issubdtype(a.dtype, jnp.floating)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype if floating(a) else jax.dtypes.float0), tree)
