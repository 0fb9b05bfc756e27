"""How do linear recurrences grow with the length? Engines of seqjax.ops and mixers, from 1,024 tokens to 65,536.

    python -m benchmarks.linear_recurrence --pin
    python -m benchmarks.linear_recurrence --kinds matrix_head mamba2 --what training --shapes 4096 65536 --pin

One row, float32, width 256, matrix states in 4 heads. Inference computes y; training computes <y, dy> and its gradients
by all arrays. `scan` is the definition of an engine, one token after the other, and `associative` its
`jax.lax.associative_scan` over whole arrays (where the state is multiplied elementwise), both differentiated by JAX;
`torch` is the definition as a loop in torch; `products` computes only the matrix products of the chunks. A mixer is
compared with attention of its width. Opponents that take too long or too much memory are left out at long lengths
(`MOST`). At the end come the exponent of time in the length, from 4,096 tokens on, memory, and the bytes of the state.
"""

import functools
import math

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _curves, _recurrences, ready, results, session
from benchmarks._recurrences import ENGINES, Engine, normal
from benchmarks.ready import Built

LENGTHS = (1024, 4096, 16_384, 65_536)
WHAT = ("training", "inference")
MOST = {"scan": 4096, "associative": 4096, "torch": 1024, "attention": 16_384}  # the longest length of an opponent


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

    mixer = _layers.mixer(name, _recurrences.D, "float32", L)
    x = normal(np.random.default_rng(0), 1, L, mixer.width)
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
    function, arrays = engine.products(*drawn(engine, L))
    return compiled(function, what, *arrays)


def attention(what, kind, L) -> Built:
    """`seqjax.ops.attention.attend` with 4 heads; for a mixer the mixer `attention`."""
    from seqjax.ops import attention

    if kind not in ENGINES:
        return layer("attention", what, L)
    H = _recurrences.H
    heads = [normal(np.random.default_rng(i), 1, L, H, _recurrences.D // H) for i in range(3)]
    return compiled(functools.partial(attention.attend, causal=True), what, *heads)


def torch(what, kind, L) -> Built:
    """The definition as a loop in torch, eager; on the GPU if it has one."""
    import jax
    import torch

    engine = ENGINES[kind]()
    tokens, weights, h = jax.tree.map(lambda a: ready.tensors(a)[0], drawn(engine, L))
    wanted = [a.requires_grad_(what == "training") for a in jax.tree.leaves((tokens, weights, h))]

    def loop():
        state, found = h, []
        for t in range(L):
            state, y = engine.step(torch, state, [a[:, t] for a in tokens], weights)
            found.append(y)
        return torch.stack(found, dim=1)

    dy = ready.tensors(normal(np.random.default_rng(1), 1, L, _recurrences.D))[0] if what == "training" else None
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
    return cost.nbytes(jax.eval_shape(lambda: _layers.mixer(kind, _recurrences.D, "float32", 1).init_state(1)))


def growth(rows: list[dict]) -> tuple[str, list[list[str]]]:
    """The exponent of time in the length, between 4,096 (or the shortest length) and the longest: a table."""
    found: dict[tuple, dict[int, dict]] = {}
    for row in rows:
        case = row["case"]
        found.setdefault((case["kind"], case["what"]), {})[case["L"]] = row["contenders"][results.OURS]
    lines = [["kind", "what", "from", "to", "exponent of time", "temp MB at the end", "state bytes"]]
    for (kind, what), ours in found.items():
        last, first = max(ours), 4096 if 4096 in ours else min(ours)
        exponent = f"{_curves.slope(first, ours[first]['ms'], last, ours[last]['ms']):.2f}" if last > first else ""
        sizes = f"{ours[last]['temp_mb']:,.1f}", f"{state_bytes(kind):,}"
        lines.append([kind, what, f"{first:,}", f"{last:,}", exponent, *sizes])
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
