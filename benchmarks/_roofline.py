"""The measured peak rates of a machine, and the matrix products and bytes that a layer needs."""

from typing import NamedTuple, get_args

from benchmarks import _layers, harness, ready, results
from benchmarks.decoding import STEPS
from benchmarks.harness import Contender
from benchmarks.ready import Built, Work

SIZE = {"cpu": 2048}  # of square matrices; 8192 on other devices
COPIED = 2**28  # bytes; more than the processor's caches hold
QUERIES = 128  # queries whose keys are counted


class Rates(NamedTuple):
    """The highest measured rates of large square matrix products and of copying, per second."""

    flops: float
    bytes: float


def matmul(dtype: str) -> Built:
    """Multiplies two large square matrices."""
    import jax.numpy as jnp

    n = SIZE.get(ready.device(), 8192)
    a_NN = jnp.ones((n, n), dtype)
    built = ready.jitted(lambda a_NN, b_NN: a_NN @ b_NN, a_NN, a_NN)
    return built._replace(work=Work(n, 0, n, 2.0 * n**3, 3 * a_NN.nbytes, 0, 0))


def copy(dtype: str) -> Built:
    """Reads and writes a large array."""
    import jax.numpy as jnp

    a_N = jnp.ones(COPIED // jnp.dtype(dtype).itemsize, dtype)
    # One more, so that nothing is shared.
    return ready.jitted(lambda a_N: a_N + 1, a_N)._replace(work=Work(0, 0, len(a_N), 0.0, 2 * a_N.nbytes, 0, 0))


def rates(dtype: str, plan: harness.Plan, clock: str) -> tuple[Rates, str]:
    """The measured rates of this machine, and its name."""
    contenders = [Contender("matmul", matmul, "keep"), Contender("copy", copy, "keep")]
    timings = harness.race(contenders, {"dtype": dtype}, plan)
    seconds = {name: results.summary(timing, clock)["ms"] / 1e3 for name, timing in timings.items()}
    product, copied = timings["matmul"], timings["copy"]
    return Rates(product.work.flops / seconds["matmul"], copied.work.moved / seconds["copy"]), product.device


def share(work: Work, seconds: float, rates: Rates) -> tuple[float, str]:
    """The share of the peak rate that a call reaches, and of which rate: "products" or "bytes"."""
    parts = {"products": work.flops / rates.flops / seconds, "bytes": work.moved / rates.bytes / seconds}
    bound = max(parts, key=parts.get)
    return parts[bound], bound


def flops(layer, what: str, B: int, L: int) -> float:
    """The FLOPs of the matrix products that a call needs by the definition of the layer.

    In attention only the scores of pairs that may see each other are counted: neither masked parts of blocks nor scores
    that are computed twice.
    """
    import jax
    import jax.numpy as jnp

    from seqjax.training import cost

    D, layer = layer.width, countable(layer)
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.zeros((1, 1, D))))
    array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    if what == "decode":
        step = lambda params, x_BD, state: layer.apply(params, x_BD, state, method="step")
        return STEPS * cost.flops(step, params, array(B, D), jax.eval_shape(lambda: layer.init_state(B)))

    def count(L: int) -> float:
        if what == "training":
            return cost.flops(_layers.train(layer), params, array(B, L, D), array(B, L, D))
        return cost.flops(lambda params, x_BLD: layer.apply(params, x_BLD)[0], params, array(B, L, D))

    whole, seen = count(L), pairs_seen(layer, L)
    square = 2 * (whole - 2 * count(L // 2)) if seen < 1 else 0.0
    return whole - (1 - seen) * square


def pairs_seen(layer, L: int) -> float:
    """The share of all pairs of L tokens that may see each other in attention; 1 for other layers."""
    import jax.numpy as jnp

    from seqjax import masks
    from seqjax.mixers.attention import Attention

    if not isinstance(layer, Attention):
        return 1.0
    pattern = masks.Pattern(layer.causal, layer.window, layer.dilation, layer.prefix, layer.blocks)
    # Only a few queries are counted, at equal distances.
    n = min(L, QUERIES)
    query_N1 = ((jnp.arange(n) + 0.5) * L / n).astype(jnp.int32)[:, None]
    return float(jnp.mean(pattern.sees(query_N1, jnp.arange(L)[None])))


def countable(layer):
    """The same layer with all its products in the jaxpr: without library kernels and loops of unknown length."""
    from seqjax.types import fields_of

    hint, _ = fields_of(type(layer)).get("backend", (None, None))
    ways = [way for way in ("reference", "scan") if way in get_args(hint)]
    return layer.clone(backend=ways[0]) if ways else layer
