"""The laws that need no numbers: shapes, dtypes, parameters and refusals. Nothing is compiled."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.mixers._base import describe
from seqjax.testing import differences
from seqjax.testing.law import law, stateless
from seqjax.testing.rows import MASK, RESET, B, L
from seqjax.testing.ways import apply, start

# Declared dtype, dtype of the input, a state, a mask, a reset: all pairs.
CALLS = [
    ("float32", "float32", False, False, False),
    ("float32", "bfloat16", True, True, False),
    ("float32", "float16", True, False, True),
    ("bfloat16", "float32", True, True, True),
    ("bfloat16", "bfloat16", False, False, True),
    ("bfloat16", "float16", False, True, False),
    ("bfloat16", "bfloat16", True, False, False),
    ("float32", "float16", False, True, True),
]


def like(tree):
    """Shapes and dtypes."""
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def outputs(s):
    """x -> shape and dtype of the output: those of x, and for the predictions of a model those that it gives."""
    if not s.predicts:
        return lambda x: x
    x = s.x.astype(jnp.bfloat16) if s.real else s.x
    y, _ = jax.eval_shape(functools.partial(apply, s.declared("bfloat16")), s.shapes, x)
    return lambda x: jax.ShapeDtypeStruct(y.shape, x.dtype if s.real and y.dtype == jnp.bfloat16 else "float32")


@law(
    "state in, state out; None in, None out; the output is like the input, and the structure never changes",
    "the state is returned in other shapes, dtypes or containers than those of init_state",
    "a state is returned although none was given: return None if state is None",
    "the output keeps the dtype of the parameters or of the state: end with y.astype(x_BLD.dtype)",
    compiles=False,
)
def shapes(s):
    """With and without mask and reset, with any dtype of the input, in any declared dtype."""
    modules = {declared: s.declared(declared) for declared, *_ in CALLS}
    begun = {k: jax.eval_shape(functools.partial(start, m), s.shapes) if s.own.causal else None
             for k, m in modules.items()}  # fmt: skip
    wanted_of = outputs(s)
    for declared, dtype, *has in CALLS:
        if has[0] and not s.own.causal:
            continue
        x = s.x.astype(jnp.dtype(dtype)) if s.real else s.x
        state, *flags = (a if given else None for a, given in zip((begun[declared], MASK, RESET), has, strict=True))
        got = jax.eval_shape(functools.partial(apply, modules[declared]), s.shapes, x, state, *flags)
        wanted = (wanted_of(x), state)
        if jax.tree.structure(got) != jax.tree.structure(wanted) or like(got) != like(wanted):
            words = zip(("a state", "a mask", "a reset"), has, strict=True)
            given = ", ".join(word for word, it_is in words if it_is) or "nothing else"
            yield f"declared {declared}, given x in {x.dtype} and {given}:"
            for what, a, b in zip(("output", "state"), got, wanted, strict=True):
                if describe(a) != describe(b):
                    yield f"  the {what} is {describe(a)}, wanted {describe(b)}"


@law(
    "states are float32, and caches have the declared dtype",
    "the state is made or kept in half precision, where small steps are lost: accumulate in float32",
    "a cache of vectors of tokens has a name that does not say so: end it in _BWHK, _BSD or the like (W or S after B)",
    unless=stateless,
    after=("shapes",),
    compiles=False,
)
def dtypes(s):
    """A leaf is a cache if its name has the axis W or S after B."""
    for declared in ("float32", "bfloat16", "float16"):
        state = jax.eval_shape(functools.partial(start, s.declared(declared)), s.shapes)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            cache = re.search(r"_B([WS][A-Z]+|HKW)$", jax.tree_util.keystr(path))  # vectors of each token
            wanted = [declared] if cache else ["float32", "int32", "bool"]
            if leaf.dtype not in wanted:
                where = f"the state {differences.name(path)} is {leaf.dtype}{list(leaf.shape)}"
                yield f"declared {declared}: {where}, wanted {' or '.join(wanted)}"


@law(
    "all entries make the same parameters",
    "step, or a call with a state, makes parameters that the plain call does not make: make them in setup",
    unless=stateless,
    after=("shapes",),
    compiles=False,
)
def parameters(s):
    """The plain call, a call with a state, and a step."""
    init = lambda method: functools.partial(s.module.init, jax.random.key(1), method=method)
    with_state = init(lambda module, x: module(x, module.init_state(B)))
    by_step = init(lambda module, x: module.step(x, module.init_state(B)))
    for words, entry, x in (("a call with a state", with_state, s.x), ("step", by_step, s.x[:, 0])):
        made = jax.eval_shape(entry, x)
        if jax.tree.structure(made) != jax.tree.structure(s.shapes) or like(made) != like(s.shapes):
            yield f"{words} makes {describe(made)}, wanted {describe(s.shapes)}"


def grow(a, axis):
    """One more of the first along an axis."""
    return np.concatenate([a, np.take(a, [0], axis)], axis)


def fresh(s):
    """A state of zeros."""
    state = jax.eval_shape(functools.partial(start, s.module), s.shapes)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), state)


# An argument that does not fit.
MISFITS = {
    "width or rank": lambda s: dict(x=grow(s.x, 2) if s.real else s.x[..., None]),
    "mask length": lambda s: dict(mask=grow(np.ones((B, L), bool), 1)),
    "reset dtype": lambda s: dict(reset=np.ones((B, L), "int8")),
    "state batch": lambda s: dict(state=jax.tree.map(lambda a: grow(a, 0), fresh(s))),
}


@law(
    "what does not fit is refused with a ValueError",
    "nothing looks at the arguments: begin with self.check(x_BLD, state, mask_BL, reset_BL)",
    after=("shapes",),
    compiles=False,
)
def refusals(s):
    """Instead of a broadcast, which trains without a word."""
    for case, wrong in MISFITS.items():
        if case.startswith("state") and not (s.own.causal and jax.tree.leaves(fresh(s))):
            continue
        arguments = dict(x=s.x) | wrong(s)
        try:
            jax.eval_shape(functools.partial(apply, s.module), s.shapes, **arguments)
        except ValueError:
            continue
        except Exception as error:
            yield f"a wrong {case} raised {type(error).__name__}, wanted a ValueError"
        else:
            yield f"a wrong {case} was taken without a word: {describe(wrong(s))}"


@law(
    "a mixer that sees later tokens has no state",
    "init_state of a module with causal=False must raise a ValueError that names a causal one",
    unless=lambda s: "it is causal" if s.own.causal else None,
    after=("shapes",),
    compiles=False,
)
def no_state(s):
    """Neither made nor taken."""
    for words, ask in (
        ("init_state gave a state", lambda: s.own.init_state(B)),
        ("a state was taken", lambda: jax.eval_shape(functools.partial(apply, s.module), s.shapes, s.x, jnp.zeros(B))),
    ):
        try:
            ask()
        except ValueError:
            continue
        yield f"{words}, wanted a ValueError"


LAWS = (shapes, dtypes, parameters, refusals, no_state)
