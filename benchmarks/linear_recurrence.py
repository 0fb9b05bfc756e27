"""How do linear recurrences grow with the length? Engines of seqjax.ops and mixers, from 1,024 tokens to 65,536.

    python -m benchmarks.linear_recurrence --pin
    python -m benchmarks.linear_recurrence --kinds selective mamba --what training --shapes 4096 65536 --pin

One row, float32, width 256. Inference computes y; training computes <y, dy> and its gradients by all arrays. `scan` is
the definition of an engine, one token after the other, and `associative` its `jax.lax.associative_scan` over whole
arrays, both differentiated by JAX; `torch` is the definition as a loop in torch; `products` computes only the matrix
products of the chunks. A mixer is compared with attention of its width. Opponents that take too long or too much
memory are left out at long lengths (`MOST`). At the end come the exponent of time in the length, from 4,096 tokens on,
and the bytes of the state.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _curves, ready, results, session
from benchmarks.ready import Built

D, N, H = 256, 16, 4
LENGTHS = (1024, 4096, 16_384, 65_536)
WHAT = ("training", "inference")
MOST = {"scan": 4096, "associative": 4096, "torch": 1024, "attention": 16_384}  # the longest length of an opponent


class Engine(NamedTuple):
    """An engine, and its definition for torch and JAX: `xp` is one of their modules; tokens are arrays (..., D).

    The definition is `step`; if the state is multiplied elementwise, `make` and `look` say the same of all tokens.
    """

    draw: Callable  # (generator, L) -> tokens, each (1, L, ...); weights; the state before them
    ours: Callable  # (tokens, weights, state) -> y
    step: Callable  # (xp, state, token, weights) -> state, y
    make: Callable | None = None  # (xp, tokens, weights) -> a and b of state = a * state + b
    look: Callable | None = None  # (xp, states, tokens, weights) -> y
    products: Callable | None = None  # (tokens, weights) -> y of the matrix products alone


def elementwise(draw, ours, make, look, products=None) -> Engine:
    """An engine with state = a * state + b."""

    def step(xp, state, token, weights):
        a, b = make(xp, token, weights)
        state = a * state + b
        return state, look(xp, state, token, weights)

    return Engine(draw, ours, step, make, look, products)


def diagonal() -> Engine:
    """`seqjax.ops.linear.diagonal`."""
    from seqjax.ops import linear

    def draw(rng, L):
        return (sigmoid(rng, 1, L, D), normal(rng, 1, L, D)), (), normal(rng, 1, D)

    ours = lambda tokens, weights, h: linear.diagonal(*tokens, h)[0]
    return elementwise(draw, ours, lambda xp, tokens, _: tokens, lambda xp, h, *_: h)


def selective() -> Engine:
    """`seqjax.ops.state_space.selective`, the recurrence of Mamba."""
    import jax
    import jax.numpy as jnp

    from seqjax.ops import state_space

    def draw(rng, L):
        tokens = normal(rng, 1, L, D), 0.1 * sigmoid(rng, 1, L, D), normal(rng, 1, L, N), normal(rng, 1, L, N)
        rate = -np.tile(np.arange(1, N + 1, dtype=np.float32)[:, None], (1, D))
        return tokens, (rate,), normal(rng, 1, N, D)

    def ours(tokens, weights, h):
        return state_space.selective(*tokens[:2], *weights, *tokens[2:], h)[0]

    def make(xp, tokens, weights):
        x, dt, b, _ = tokens
        return xp.exp(dt[..., None, :] * weights[0]), b[..., None] * (dt * x)[..., None, :]

    def look(xp, h, tokens, weights):
        return (h * tokens[3][..., None]).sum(-2)

    def products(tokens, weights):
        cut = lambda a: a.reshape(-1, state_space.CHUNK, a.shape[-1])

        def chunk(tokens):
            x_TD, _, b_TN, c_TN = tokens
            return jnp.einsum("TND,TN->TD", jnp.einsum("TN,TD->TND", b_TN, x_TD), c_TN)

        return jax.lax.map(jax.checkpoint(chunk, prevent_cse=False), jax.tree.map(cut, tokens))

    return elementwise(draw, ours, make, look, products)


def fixed() -> Engine:
    """`seqjax.ops.state_space.fixed`, the recurrence of S4D, with N complex numbers per channel."""
    from seqjax.ops import state_space

    def draw(rng, L):
        both = lambda *shape: normal(rng, *shape) + 1j * normal(rng, *shape)
        a = sigmoid(rng, N, D) * np.exp(1j * normal(rng, N, D))
        return (normal(rng, 1, L, D),), (a.astype(np.complex64), both(N, D)), both(1, N, D)

    def make(xp, tokens, weights):
        (x,), (a, _) = tokens, weights
        b = x[..., None, :] + 0 * a
        return a + 0 * b, b

    ours = lambda tokens, weights, h: state_space.fixed(*tokens, *weights, h)[0]
    return elementwise(draw, ours, make, lambda xp, h, _, weights: (h * weights[1]).real.sum(-2))


ENGINES = {"diagonal": diagonal, "selective": selective, "fixed": fixed}


def normal(rng, *shape):
    """Random numbers, float32."""
    return rng.standard_normal(shape, np.float32)


def sigmoid(rng, *shape):
    """Random numbers between 0 and 1, float32."""
    return 1 / (1 + np.exp(-normal(rng, *shape)))


def mixers() -> list[str]:
    """The mixers that are linear recurrences."""
    from benchmarks import _layers
    from seqjax import lookup
    from seqjax.mixers._linear import LinearMixer

    linear = lambda name: issubclass(lookup.find(name, "seqjax.mixers", "Mixer"), LinearMixer)
    return [name for name in _layers.names()[0] if name not in _layers.VARIANTS and linear(name)]


def compiled(apply, what: str, *arrays) -> Built:
    """Compiles `apply(*arrays) -> y` for inference or training."""
    import jax
    import jax.numpy as jnp

    if what == "inference":
        return ready.jitted(apply, *arrays)
    dy = normal(np.random.default_rng(1), *jax.eval_shape(apply, *arrays).shape)
    loss = lambda arrays, dy: jnp.vdot(apply(*arrays), dy)
    return ready.jitted(jax.value_and_grad(loss), arrays, dy)


def drawn(engine: Engine, L: int):
    """Tokens, weights and the state of an engine."""
    return engine.draw(np.random.default_rng(0), L)


def ours(what, kind, L) -> Built:
    """The engine, or the mixer with a carried state."""
    if kind in ENGINES:
        engine = ENGINES[kind]()
        return compiled(engine.ours, what, *drawn(engine, L))
    return layer(kind, what, L)


def layer(name, what, L) -> Built:
    """A mixer of width D."""
    import jax

    from benchmarks import _layers

    mixer = _layers.mixer(name, D, "float32", L)
    x = normal(np.random.default_rng(0), 1, L, D)
    params = jax.jit(mixer.init)(jax.random.key(0), x[:, :1])
    return compiled(lambda params, x: mixer.apply(params, x)[0], what, params, x)


def scan(what, kind, L) -> Built:
    """The definition, one token after the other."""
    import jax
    import jax.numpy as jnp

    engine = ENGINES[kind]()

    def apply(tokens, weights, h):
        step = lambda h, token: engine.step(jnp, h, token, weights)
        time_first = lambda a: jnp.swapaxes(a, 0, 1)
        return time_first(jax.lax.scan(step, h, jax.tree.map(time_first, tokens))[1])

    return compiled(apply, what, *drawn(engine, L))


def associative(what, kind, L) -> Built:
    """`jax.lax.associative_scan` over the states of all tokens."""
    import jax
    import jax.numpy as jnp

    engine = ENGINES[kind]()
    join = lambda left, right: (left[0] * right[0], left[1] * right[0] + right[1])

    def apply(tokens, weights, h):
        a, b = engine.make(jnp, tokens, weights)
        a, b = jax.lax.associative_scan(join, (a, b.at[:, 0].add(a[:, 0] * h)), axis=1)
        return engine.look(jnp, b, tokens, weights)

    return compiled(apply, what, *drawn(engine, L))


def products(what, kind, L) -> Built:
    """Only the matrix products of the chunks."""
    engine = ENGINES[kind]()
    tokens, weights, _ = drawn(engine, L)
    return compiled(lambda tokens: engine.products(tokens, weights), what, tokens)


def attention(what, kind, L) -> Built:
    """`seqjax.ops.attention.attend` with 4 heads; for a mixer the mixer `attention`."""
    from seqjax.ops import attention

    if kind not in ENGINES:
        return layer("attention", what, L)
    heads = [normal(np.random.default_rng(i), 1, L, H, D // H) for i in range(3)]
    return compiled(functools.partial(attention.attend, causal=True), what, *heads)


def torch(what, kind, L) -> Built:
    """The definition as a loop in torch, eager; on the GPU if it has one."""
    import torch

    engine = ENGINES[kind]()
    tokens, weights, h = (ready.tensors(*arrays) for arrays in (*drawn(engine, L)[:2], drawn(engine, L)[2:]))
    wanted = [a.requires_grad_(what == "training") for a in (*tokens, *weights, *h)]

    def loop():
        state, found = h[0], []
        for t in range(L):
            state, y = engine.step(torch, state, [a[:, t] for a in tokens], weights)
            found.append(y)
        return torch.stack(found, dim=1)

    dy = ready.tensors(normal(np.random.default_rng(1), 1, L, D))[0] if what == "training" else None
    return ready.eager(loop, wanted, dy)


OPPONENTS = {"scan": scan, "associative": associative, "products": products, "torch": torch, "attention": attention}
OWN = ("scan", "associative", "products", "attention")


def serves(name: str, case: dict) -> bool:
    """Whether a contender takes part in a case."""
    kind = case["kind"]
    if name not in OPPONENTS:
        return True
    if case["L"] > MOST.get(name, math.inf):
        return False
    if kind not in ENGINES:
        return name == "attention"
    engine = ENGINES[kind]()
    return {"associative": engine.make, "products": engine.products}.get(name, True) is not None


def state_bytes(kind: str) -> int:
    """The bytes of the state of one row."""
    import jax

    from benchmarks import _layers
    from seqjax.training import cost

    if kind in ENGINES:
        return cost.nbytes(drawn(ENGINES[kind](), 1)[2])
    return cost.nbytes(jax.eval_shape(lambda: _layers.mixer(kind, D, "float32", 1).init_state(1)))


def growth(rows: list[dict]) -> tuple[str, list[list[str]]]:
    """The exponent of time in the length, between 4,096 (or the shortest length) and the longest: a table."""
    times: dict[tuple, dict[int, float]] = {}
    for row in rows:
        case = row["case"]
        times.setdefault((case["kind"], case["what"]), {})[case["L"]] = row["contenders"][results.OURS]["ms"]
    lines = [["kind", "what", "from", "to", "exponent of time", "state bytes"]]
    for (kind, what), found in times.items():
        last, first = max(found), 4096 if 4096 in found else min(found)
        exponent = f"{_curves.slope(first, found[first], last, found[last]):.2f}" if last > first else ""
        lines.append([kind, what, f"{first:,}", f"{last:,}", exponent, f"{state_bytes(kind):,}"])
    return "Growth with length", lines


def main(argv: list[str] | None = None) -> None:
    """Parses, times case by case, and writes the results after each."""
    parser = session.parser("linear_recurrence", __doc__, OPPONENTS, "L", kinds=[*ENGINES, *mixers()], what=WHAT)
    args = session.parse(parser, argv)
    lengths = [L for (L,) in args.shapes or zip(LENGTHS)]
    cases = [{"what": what, "kind": kind, "L": L} for kind in args.kinds for what in args.what for L in lengths]
    contenders = session.contenders(args, ours, OPPONENTS, OWN)
    result = session.run(args, cases, contenders, lambda what, kind, L: [], serves)
    caption, lines = growth(result["rows"])
    table = Table(*lines[0], title=caption)
    for line in lines[1:]:
        table.add_row(*line)
    Console().print(table)
    shown = [(caption, lines), *results.tables(result["rows"])]
    results.save(result, args.out / session.stem(result), shown)


if __name__ == "__main__":
    main()
