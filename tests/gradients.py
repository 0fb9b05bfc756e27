"""Values and gradients of small programs, which take a thousand times longer to compile than to run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def compiled(f, module, *arguments):
    """f(module, *arguments), compiled as one program for values and gradients, however it is joined with others."""
    return _both(f, module, arguments, _zeros(f, module, *_abstract(arguments)))[0]


compiled.defvjp(
    lambda f, module, *arguments: (compiled(f, module, *arguments), arguments),
    lambda f, module, arguments, cotangent: _both(f, module, arguments, cotangent)[1],
)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _both(f, module, arguments, cotangent):
    y, pull = jax.vjp(functools.partial(f, module), *arguments)
    return y, pull(cotangent)


def _abstract(arguments):
    leaves, tree = jax.tree.flatten(arguments)
    return tree, tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in leaves)


@functools.cache
def _zeros(f, module, tree, leaves):
    """The cotangent that asks for values only."""
    zero = lambda a: np.zeros(a.shape, a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else jax.dtypes.float0)
    return jax.tree.map(zero, jax.eval_shape(functools.partial(f, module), *tree.unflatten(leaves)))


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
