"""How fast is softmax attention, and how much memory does it take: ours against JAX, flax and torch.

    python -m benchmarks.attention --pin
    python -m benchmarks.attention --kinds causal --opponents torch --shapes 2,1024 --what training
    python -m benchmarks.attention --memory 4096 16384

All contenders compute the same on q, k, v of (B, L, 4, 64), float32 or `--dtype`. Inference computes y; training
computes <y, dy> and its gradients by q, k and v. Kinds: causal; full (all tokens see all); window (the last 256);
padded (causal, rows half to fully filled); packed (causal, four documents per row). `products` computes only the
products of our causal blocks, which bound every ratio. Target against `causal`: the time of other kinds is proportional
to the number of their blocks, within 15 %. `--memory` compiles training for one row and runs nothing.
"""

import functools

import numpy as np

from benchmarks import ready, session
from benchmarks.ready import Built
from benchmarks.results import Target

CHECK = session.Check(
    device="--dtype bfloat16 --kinds causal window --what training --shapes 4,4096 --opponents blocks naive torch",
    cpu="--kinds causal --what training --shapes 1,256 --opponents naive jax",
)
H, K, WINDOW = 4, 64, 256
KINDS = ("causal", "full", "window", "padded", "packed")
SHAPES = {
    "training": [(2, 256), (2, 1024), (2, 2048), (2, 4096)],
    "inference": [(2, 1024), (2, 4096), (1, 8192)],
}


def arrays(B: int, L: int):
    """q, k, v and the fixed cotangent dy."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((B, L, H, K), np.float32) for _ in range(4))


def layout(kind: str, B: int, L: int) -> dict:
    """The lengths of rows, or the document of each token, if the kind has them."""
    if kind == "padded":
        return {"mask_BL": np.arange(L)[None] < np.linspace(L // 2, L, B).astype(int)[:, None]}
    if kind == "packed":
        starts_BD = np.sort(np.random.default_rng(1).integers(1, L, (B, 3)), axis=1)
        return {"segment_BL": (np.arange(L)[None, :, None] >= starts_BD[:, None]).sum(axis=-1, dtype=np.int32)}
    return {}


def allowed(kind: str, B: int, L: int):
    """The same as one mask: (1 or B, 1, L, L), or None if all tokens see all."""
    if kind == "full":
        return None
    found, place = layout(kind, B, L), np.arange(L)
    back = place[:, None] - place[None]
    seen = (back >= 0) & (back < (WINDOW if kind == "window" else L))
    mask = seen[None]
    if kind == "padded":
        mask = mask & found["mask_BL"][:, None, :]
    if kind == "packed":
        mask = mask & (found["segment_BL"][:, :, None] == found["segment_BL"][:, None, :])
    return mask[:, None]


def layer(apply, what: str, dtype: str, B: int, L: int, *rest) -> Built:
    """Compiles `apply(q, k, v, *rest)` for inference or training."""
    import jax
    import jax.numpy as jnp

    *qkv, dy = (jnp.asarray(a, dtype) for a in arrays(B, L))
    if what == "inference":
        return ready.jitted(apply, *qkv, *rest)
    loss = lambda qkv, dy, *rest: jnp.vdot(apply(*qkv, *rest), dy)
    return ready.jitted(jax.value_and_grad(loss), tuple(qkv), dy, *rest)


def ours(what, kind, B, L, dtype="float32", backend="auto") -> Built:
    """`seqjax.ops.attention.attend`."""
    from seqjax import masks
    from seqjax.ops import attention

    options = dict(causal=kind != "full", window=WINDOW if kind == "window" else None, backend=backend)

    def apply(q, k, v, found):
        tokens = masks.Places(**found)
        return attention.attend(q, k, v, queries=tokens, keys=tokens, **options)

    return layer(apply, what, dtype, B, L, layout(kind, B, L))


def naive(what, kind, B, L, dtype="float32") -> Built:
    """Our reference, which computes all scores at once."""
    return ours(what, kind, B, L, dtype, backend="reference")


def blocks(what, kind, B, L, dtype="float32") -> Built:
    """Ours in blocks: in 16 bits, ours may be the kernel of a library."""
    return ours(what, kind, B, L, dtype, backend="blockwise")


def causal(what, kind, B, L, dtype="float32") -> Built:
    """Ours at the same size with only the causal mask: it shows the cost of a block."""
    return ours(what, "causal", B, L, dtype)


def products(what, kind, B, L) -> Built:
    """Only the products of our causal blocks, two forward and five backward; head by head if ours does so."""
    import jax
    import jax.numpy as jnp

    from seqjax.ops import _backends
    from seqjax.ops.attention import Look

    *qkv, dy = arrays(B, L)
    C, most = _backends.plan(*qkv[:2], Look(causal=True), _backends.cores())
    (rows, heads), n, f32 = (1, 1) if most else (B, H), L // C, jnp.float32
    cut = lambda a: jnp.moveaxis(a.reshape(rows, n, C, heads, K), (1, 3), (0, 2))
    join = lambda a: jnp.moveaxis(a, (0, 2), (1, 3)).reshape(rows, L, heads, K)
    turn = lambda a: jnp.swapaxes(a, -1, -2)
    product = lambda *terms: jnp.einsum(*terms, preferred_element_type=f32)

    def forward(q, k, vT):
        def row(_, i):
            block = lambda j, y: y + product("BGKC,BGCM->BGKM", vT[j], product("BGCK,BGMK->BGCM", k[j], q[i]))
            return None, jax.lax.fori_loop(0, i + 1, block, jnp.zeros((rows, heads, K, C), f32))

        return turn(jax.lax.scan(row, None, jnp.arange(n))[1])

    def turn_of(q, k, v, *dy):
        q, k, v, *dy = (cut(a) for a in (q, k, v, *dy))
        y = forward(q, k, turn(v))
        if not dy:
            return join(y)
        (dy,), kT = dy, turn(k)

        def column(dqT, j):
            def block(i, carry):
                dqT, dk, dv = carry
                s = product("BGCK,BGMK->BGCM", k[j], q[i])
                ds = product("BGCK,BGMK->BGCM", v[j], dy[i])
                dv, dk = dv + product("BGCM,BGMK->BGCK", s, dy[i]), dk + product("BGCM,BGMK->BGCK", ds, q[i])
                return dqT.at[i].add(product("BGKC,BGCM->BGKM", kT[j], ds)), dk, dv

            zeros = jnp.zeros((rows, heads, C, K), f32)
            dqT, *found = jax.lax.fori_loop(j, n, block, (dqT, zeros, zeros))
            return dqT, found

        dqT, (dk, dv) = jax.lax.scan(column, jnp.zeros((n, rows, heads, K, C), f32), jnp.arange(n))
        return jnp.vdot(y, dy), tuple(join(a) for a in (turn(dqT), dk, dv))

    def apply(*given):
        heads_first = lambda a: jnp.swapaxes(a.reshape(B // rows, rows, L, H // heads, heads * K), 2, 3)
        turns = [heads_first(a).reshape(-1, rows, L, heads, K) for a in given]
        return jax.lax.map(lambda arrays: turn_of(*arrays), turns)

    return ready.jitted(apply, *qkv, *([dy] if what == "training" else []))


def serves(name: str, case: dict) -> bool:
    """Whether a contender takes part: `causal` not in causal cases, `products` only there, `blocks` only in 16 bits."""
    alone, low = case["kind"] == "causal", "dtype" in case
    return {"products": alone and case["L"] >= 1024 and not low, "causal": not alone, "blocks": low}.get(name, True)


def pairs(kind: str, B: int, L: int, cores: int) -> int:
    """The number of pairs of tokens in the blocks of scores that are computed."""
    import jax

    from seqjax import masks
    from seqjax.ops import _backends, _blocks
    from seqjax.ops.attention import Look

    look = Look(causal=kind != "full", window=WINDOW if kind == "window" else None)
    heads = jax.ShapeDtypeStruct((B, L, H, K), np.float32)
    block, most = _backends.plan(heads, heads, look, cores)
    size, found, count = _blocks.size(L, block), layout(kind, B, L), 0
    for rows in (np.arange(B),) if most is None else np.arange(B)[:, None]:  # rows of a turn share their blocks
        tokens = masks.Places(**{name: a[rows] for name, a in found.items()})
        met = _blocks.meet(look.pattern, _blocks.marks(tokens, tokens, L, L, size, size)).count_n.sum()
        count += int(met) * size**2 * len(rows)
    return count


def jax(what, kind, B, L, dtype="float32") -> Built:
    """`jax.nn.dot_product_attention`."""
    from jax import nn

    if kind in ("causal", "full"):
        return layer(lambda *qkv: nn.dot_product_attention(*qkv, is_causal=kind == "causal"), what, dtype, B, L)
    if kind == "window":
        local = (WINDOW - 1, 0)
        return layer(
            lambda *qkv: nn.dot_product_attention(*qkv, is_causal=True, local_window_size=local), what, dtype, B, L
        )
    return layer(
        lambda q, k, v, mask: nn.dot_product_attention(q, k, v, mask=mask), what, dtype, B, L, allowed(kind, B, L)
    )


def flax(what, kind, B, L, dtype="float32") -> Built:
    """`flax.linen.dot_product_attention`."""
    from flax import linen as nn

    apply = lambda q, k, v, mask: nn.dot_product_attention(q, k, v, mask=mask)
    return layer(apply, what, dtype, B, L, allowed(kind, B, L))


def torch(what, kind, B, L, dtype="float32") -> Built:
    """`torch.nn.functional.scaled_dot_product_attention`, eager; on the GPU if it has one."""
    import torch

    q, k, v, dy = (a.to(getattr(torch, dtype)) for a in ready.tensors(*arrays(B, L)))
    qkv = [a.requires_grad_(what == "training") for a in (q, k, v)]
    mask = None if kind in ("causal", "full") else ready.tensors(allowed(kind, B, L))[0]

    def attend():
        heads_first = (a.transpose(1, 2) for a in qkv)
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return sdpa(*heads_first, attn_mask=mask, is_causal=kind == "causal").transpose(1, 2)

    return ready.eager(attend, qkv, dy if what == "training" else None)


OPPONENTS = {
    "products": products,
    "causal": causal,
    "blocks": blocks,
    "naive": naive,
    "jax": jax,
    "flax": flax,
    "torch": torch,
}
OWN = ("products", "causal", "blocks", "naive")

# Target: how many times faster than torch, by length.
TORCH = {"training": {256: 0.9, 1024: 1.1, 2048: 1.1, 4096: 1.1}, "inference": {1024: 1.2, 4096: 1.2, 8192: 1.0}}


def targets(cores: int, what, kind, B, L, dtype="float32") -> list[Target]:
    """The targets of one case."""
    found = []
    if kind == "causal" and L in TORCH[what]:
        found.append(Target("torch", least=TORCH[what][L]))
    if (what, kind) == ("training", "causal") and L >= 1024:
        found.append(Target("jax", least=5.0))
    if (what, kind, L) == ("training", "window", 4096):
        found.append(Target("torch", least=5.0))
    if (what, kind, L) == ("training", "causal", 4096):
        found.append(Target("naive", most=1 / 25, of="memory"))
    if kind in ("full", "padded", "packed"):  # the time per block is within 15 % of that in causal attention
        found.append(Target("causal", least=pairs("causal", B, L, cores) / pairs(kind, B, L, cores) / 1.15))
    return found


def memory(lengths: list[int]) -> None:
    """Prints the temporary memory of causal training with one row, ours and naive."""
    import jax
    import jax.numpy as jnp

    from seqjax.ops import attention

    for L in lengths:
        q = jax.ShapeDtypeStruct((1, L, H, K), jnp.float32)
        for name in ("blockwise", "reference"):
            loss = lambda qkv, dy, name=name: jnp.vdot(attention.attend(*qkv, causal=True, backend=name), dy)
            compiled = jax.jit(jax.grad(loss)).lower((q, q, q), q).compile()
            mb = compiled.memory_analysis().temp_size_in_bytes / 2**20
            print(f"training causal (1, {L}) {name}: {mb:,.1f} MB")


def main(argv: list[str] | None = None) -> None:
    """Parses, times case by case, and writes the results after each."""
    parser = session.parser("attention", __doc__, OPPONENTS, "B,L", kinds=KINDS, what=SHAPES)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of q, k and v")
    parser.add_argument("--memory", nargs="+", type=int, help="print temporary memory at these lengths, time nothing")
    args = session.parse(parser, argv)
    from seqjax.ops import _backends

    if args.memory:
        memory(args.memory)
        return
    low = {} if args.dtype == "float32" else {"dtype": args.dtype}
    cases = [
        {"what": what, "kind": kind, **low, "B": B, "L": L}
        for what in args.what
        for kind in args.kinds
        for B, L in args.shapes or (SHAPES[what] if kind == "causal" else [(2, 4096)])
    ]
    cores = 1 if args.pin else _backends.cores()
    session.run(args, cases, session.contenders(args, ours, OPPONENTS, OWN), functools.partial(targets, cores), serves)


if __name__ == "__main__":
    main()
