"""How long does decoding one token take, with a cache of N tokens: attention and recurrence, torch and flax.

    python -m benchmarks.decoding --pin
    python -m benchmarks.decoding --kinds full window --what step --shapes 1,4096 --opponents short torch

One layer of width 256 with 4 heads, without positions, reads one token after the other and outputs one for each; a call
is `STEPS` tokens. `scan` is one program, a `lax.scan` over `step` as in `seqjax.decoding`; `step` is a jitted step per
token, called from Python. The state is donated to the program, which may write into it.
Kinds: full attention; grouped (2 heads of keys and values for 4 of queries); window (the last 256). At (B, S) the cache
has capacity for S tokens and holds S - STEPS. A recurrent layer is timed once, because the size of its state is fixed.
"""

import itertools
import time

import numpy as np

from benchmarks import ready, session
from benchmarks.ready import Built, Decoded
from benchmarks.results import Target

CHECK = session.Check(
    device="--kinds full lstm --shapes 8,4096 --opponents short flax torch",
    cpu="--kinds full --what scan --shapes 1,1040 --opponents flax",
)
D, H, WINDOW, STEPS = 256, 4, 256, 16
KINDS = {"full": {}, "grouped": {"kv_heads": 2}, "window": {"window": WINDOW}}
SHORT = 1024
SHAPES = [(B, S) for B in (1, 8) for S in (SHORT, 2048, 4096, 8192, 16384, 32768)]


def recurrent() -> list[str]:
    """The mixers whose state has a fixed size."""
    from seqjax import lookup

    built = {name: lookup.find(name, "seqjax.mixers", "Mixer")(width=D) for name in lookup.names("seqjax.mixers")}
    return [name for name, mixer in built.items() if mixer.causal and not mixer.memory and mixer.capacity is None]


def arrays(kind: str, B: int, S: int):
    """Tokens x_TBD, and the cached keys and values k_BWGK, v_BWGK of earlier tokens."""
    rng = np.random.default_rng(0)
    cache = B, WINDOW if kind == "window" else S, KINDS[kind].get("kv_heads", H), D // H
    return (rng.standard_normal(shape, np.float32) for shape in ((STEPS, B, D), cache, cache))


def weights(kind: str):
    """Kernels (D, N) of queries, of keys, of values, and of the output."""
    rng, G = np.random.default_rng(1), KINDS[kind].get("kv_heads", H)
    return [rng.standard_normal((D, n), np.float32) / D**0.5 for n in (D, G * D // H, G * D // H, D)]


def decoded(step, what: str, params, x_TBD, state, rewind) -> Built:
    """Compiles `step(params, x_BD, state) -> (y_BD, state)` for one token or for all tokens; the state is donated.

    `rewind(state)` sets the places and counts in the state back to before the tokens. The call gives y_TBD.

    Raises:
      ValueError: results are not finite, or a second call compiles again.
    """
    import jax
    import jax.numpy as jnp

    def scan(params, x_TBD, state):
        def token(state, x_BD):
            y_BD, state = step(params, x_BD, state)
            return state, y_BD

        state, y_TBD = jax.lax.scan(token, state, x_TBD)
        return y_TBD, state

    whole = what == "scan"
    program = jax.jit(scan if whole else step, donate_argnums=2)
    params, pieces = jax.device_put((params, x_TBD[None] if whole else list(x_TBD)))
    held = [jax.tree.map(jnp.array, state)]  # a copy, because programs take over the state

    def call():
        state, out = rewind(held.pop()), []
        for piece in pieces:
            y, state = program(params, piece, state)
            out.append(y)
        held.append(state)
        return jax.block_until_ready(out[0] if whole else out)

    start = time.perf_counter()
    compiled = program.lower(params, pieces[0], rewind(held[0])).compile()
    seconds = time.perf_counter() - start
    for _ in range(2):
        if not all(np.isfinite(y).all() for y in call()):
            raise ValueError("a result has numbers that are not finite.")
    if program._cache_size() != 1:
        raise ValueError(f"{STEPS} tokens, twice, took {program._cache_size()} compilations, wanted one.")
    temp = compiled.memory_analysis().temp_size_in_bytes / 2**20
    size = sum(a.nbytes for a in jax.tree.leaves(held[0]))
    return Built(call, ready.device(), seconds, temp, Decoded(STEPS, x_TBD.shape[1], size))


def ours(what, kind, dtype, B, S) -> Built:
    """The mixer's own `step`."""
    import jax
    import jax.numpy as jnp

    from seqjax import lookup

    if kind not in KINDS:
        mixer = lookup.find(kind, "seqjax.mixers", "Mixer")(width=D, dtype=dtype)
        params = jax.jit(mixer.init)(jax.random.key(0), jnp.zeros((1, 1, D)))
        state, rewind = mixer.init_state(B), lambda state: state
        x_TBD = np.random.default_rng(0).standard_normal((STEPS, B, D), np.float32)
    else:
        mixer, params, state, x_TBD = attention(kind, dtype, B, S)
        places, count = (np.asarray(a) for a in (state.position_BW, state.count_B))
        again = lambda state: state._replace(position_BW=jnp.array(places), count_B=jnp.array(count))
        rewind = (lambda state: state) if kind == "window" else again  # the cache of a window never gets full
    step = lambda params, x_BD, state: mixer.apply(params, x_BD, state, method="step")
    return decoded(step, what, params, jnp.asarray(x_TBD, dtype), state, rewind)


def attention(kind: str, dtype: str, B: int, S: int):
    """The mixer, its parameters, its state after S - STEPS tokens, and the next tokens."""
    import jax.numpy as jnp

    from seqjax import masks
    from seqjax.mixers.attention import Mixer

    mixer = Mixer(width=D, dtype=dtype, heads=H, max_length=S, positions="none", **KINDS[kind])
    *qkv, out = weights(kind)
    params = {"params": {"qkv": {"kernel": np.concatenate(qkv, axis=1)}, "out": {"kernel": out}}}
    x_TBD, k_BWGK, v_BWGK = arrays(kind, B, S)
    W, end = k_BWGK.shape[1], S - STEPS
    place_L = np.arange(max(0, end - W), end)
    k_BLGK, v_BLGK = (jnp.asarray(a[:, place_L % W], dtype) for a in (k_BWGK, v_BWGK))
    place_BL = jnp.tile(jnp.asarray(place_L, jnp.int32), (B, 1))
    tokens = masks.Places(place_BL, jnp.zeros_like(place_BL))
    state = mixer.init_state(B).written(k_BLGK, v_BLGK, tokens, rolls=kind == "window")
    return mixer, params, state, x_TBD


def short(what, kind, dtype, B, S) -> Built:
    """Ours with the shortest cache: the time per byte of a cache must not depend on its length."""
    return ours(what, kind, dtype, B, SHORT)


def torch(what, kind, dtype, B, S) -> Built:
    """Eager torch: a preallocated cache, written in place, and `scaled_dot_product_attention` on its tokens."""
    import torch

    at = dict(dtype=getattr(torch, dtype))
    x_TBD, k_BWGK, v_BWGK = (a.to(**at) for a in ready.tensors(*arrays(kind, B, S)))
    q_ED, k_ED, v_ED, o_ED = (a.T.contiguous().to(**at) for a in ready.tensors(*weights(kind)))
    keys, values = (a.transpose(1, 2).contiguous() for a in (k_BWGK, v_BWGK))
    qkv_ED, sizes = torch.cat([q_ED, k_ED, v_ED]), [len(a) for a in (q_ED, k_ED, v_ED)]
    linear, sdpa = torch.nn.functional.linear, torch.nn.functional.scaled_dot_product_attention

    places = itertools.count(S - STEPS) if kind == "window" else itertools.cycle(range(S - STEPS, S))

    def forward():
        out = []
        for x_BD, place in zip(x_TBD, places):  # noqa: B905
            q, k, v = (a.view(B, -1, 1, D // H) for a in linear(x_BD, qkv_ED).split(sizes, dim=-1))
            slot, end = place % keys.shape[2], min(place + 1, keys.shape[2])
            keys[:, :, slot : slot + 1], values[:, :, slot : slot + 1] = k, v
            y = sdpa(q, keys[:, :, :end], values[:, :, :end], enable_gqa=kind == "grouped")
            out.append(linear(y.reshape(B, D), o_ED))
        return out

    size = sum(a.numel() * a.element_size() for a in (keys, values))
    return ready.eager(forward)._replace(decoded=Decoded(STEPS, B, size))


def flax(what, kind, dtype, B, S) -> Built:
    """`flax.linen.MultiHeadDotProductAttention(decode=True)`."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    x_TBD, k_BSHK, v_BSHK = (jnp.asarray(a, dtype) for a in arrays(kind, B, S))
    layer = nn.MultiHeadDotProductAttention(H, dtype=dtype, qkv_features=D, use_bias=False, decode=True)
    *qkv, out = weights(kind)
    params = {n: {"kernel": w.reshape(D, H, -1)} for n, w in zip(("query", "key", "value"), qkv, strict=True)}
    params["out"] = {"kernel": out.reshape(H, -1, D)}

    def step(params, x_BD, cache):
        y_BLD, changed = layer.apply({"params": params, "cache": cache}, x_BD[:, None], mutable="cache")
        return y_BLD[:, 0], changed["cache"]

    cache = {"cached_key": k_BSHK, "cached_value": v_BSHK, "cache_index": jnp.int32(S - STEPS)}
    rewind = lambda cache: {**cache, "cache_index": jnp.asarray(S - STEPS, jnp.int32)}
    wanted = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((B, S, D), dtype))["cache"]
    if jax.tree.map(jnp.shape, cache) != jax.tree.map(jnp.shape, wanted):
        raise ValueError(f"the cache of flax is {jax.tree.map(jnp.shape, wanted)}: fill another one.")
    return decoded(step, what, params, x_TBD, cache, rewind)


OPPONENTS = {"short": short, "torch": torch, "flax": flax}
OWN = ("short",)


def serves(name: str, case: dict) -> bool:
    """Whether a contender takes part in a case: flax has neither windows nor grouped queries."""
    if case["kind"] not in KINDS:
        return name == "ours"
    return {"short": case["kind"] != "window" and case["S"] > SHORT, "flax": case["kind"] == "full"}.get(name, True)


def targets(what, kind, dtype, B, S) -> list[Target]:
    """Targets: a token takes no longer than with others; a byte of a long cache about as long as one of a short one.

    It cannot take exactly as long: a short cache fits into the processor's caches, which are up to twice as fast.
    """
    return [Target("short", least=0.5, of="byte"), Target("torch", least=1.0), Target("flax", least=1.0)]


def main(argv: list[str] | None = None) -> None:
    """Parses, times case by case, and writes the results after each."""
    kinds = (*KINDS, *recurrent())
    parser = session.parser("decoding", __doc__, OPPONENTS, "B,S", kinds=kinds, what=("scan", "step"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of products and caches")
    args = session.parse(parser, argv)
    shapes = args.shapes or SHAPES
    once = [(B, 1) for B in dict.fromkeys(B for B, _ in shapes)]
    cases = [
        {"what": what, "kind": kind, "dtype": args.dtype, "B": B, "S": S}
        for what in args.what
        for kind in args.kinds
        for B, S in (shapes if kind in KINDS else once)
    ]
    session.run(args, cases, session.contenders(args, ours, OPPONENTS, OWN), targets, serves)


if __name__ == "__main__":
    main()
