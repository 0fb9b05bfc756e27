"""How fast is a recurrent layer: ours against flax, torch and keras, forwards and with gradients.

    python -m benchmarks.recurrence --pin
    python -m benchmarks.recurrence --cells lstm --opponents linen torch --shapes 32,128,256 --what training

All contenders compute the same: float32, batch-major x_BLD, width in = width out = D. Inference computes y; training
computes <y, dy> and its gradients by all parameters and by x. Weights, x and dy are arguments, never constants.
"""

import os

import numpy as np

from benchmarks import ready, session
from benchmarks.ready import Built
from benchmarks.results import Target

CHECK = session.Check(
    device="--cells lstm gru --what training --shapes 32,128,256 64,256,512 --opponents plain linen torch",
    cpu="--cells lstm --what training --shapes 4,32,64 --opponents plain linen",
)
CELLS = ("lstm", "gru", "elman")
SHAPES = {"training": [(32, 128, 256), (16, 512, 128), (64, 64, 512)], "inference": [(1, 512, 256), (32, 128, 256)]}


def arrays(B: int, L: int, D: int):
    """x_BLD and the fixed cotangent dy_BLD."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((B, L, D), np.float32) for _ in range(2))


def layer(apply, params, what: str, B: int, L: int, D: int, *rest) -> Built:
    """Compiles `apply(params, x_BLD, *rest) -> (y_BLD, other results)` for inference or training."""
    import jax
    import jax.numpy as jnp

    x_BLD, dy_BLD = arrays(B, L, D)
    y_BLD = jax.eval_shape(apply, params, x_BLD, *rest)[0]
    if (y_BLD.shape, y_BLD.dtype) != (x_BLD.shape, x_BLD.dtype):
        raise ValueError(f"the output is {y_BLD.dtype}{list(y_BLD.shape)}, wanted float32{[B, L, D]}.")
    if what == "inference":
        return ready.jitted(apply, params, x_BLD, *rest)

    def loss(params, x_BLD, dy_BLD, *rest):
        y_BLD, other = apply(params, x_BLD, *rest)
        return jnp.vdot(y_BLD, dy_BLD), other

    return ready.jitted(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), params, x_BLD, dy_BLD, *rest)


def ours(what, cell, B, L, D) -> Built:
    """The mixer without a mask, from an empty state."""
    mixer, params = _mixer(cell, D)
    return layer(mixer.apply, params, what, B, L, D)


def remat(what, cell, B, L, D) -> Built:
    """The mixer that keeps one state per chunk of tokens instead of its gates: less memory for more time."""
    mixer, params = _mixer(cell, D, remat="chunk")
    return layer(mixer.apply, params, what, B, L, D)


def masked(what, cell, B, L, D) -> Built:
    """The mixer on ragged sequences with a carried state: reads a state and a mask, and returns the new state."""
    import jax
    import jax.numpy as jnp

    from seqjax import masks

    mixer, params = _mixer(cell, D)
    mask_BL = masks.from_lengths(jnp.linspace(L // 2, L, B).astype(int), L)
    state = jax.tree.map(lambda s: s + 0.1, mixer.init_state(B))
    apply = lambda params, x_BLD, state, mask_BL: mixer.apply(params, x_BLD, state, mask_BL=mask_BL)
    return layer(apply, params, what, B, L, D, state, mask_BL)


def _mixer(cell: str, D: int, **options):
    import jax

    from seqjax.mixers import gru, lstm, rnn

    mixer = {"lstm": lstm, "gru": gru, "elman": rnn}[cell].Mixer(width=D, **options)
    return mixer, mixer.init(jax.random.key(0), np.zeros((1, 1, D), np.float32))


def plain(what, cell, B, L, D) -> Built:
    """The simplest implementation of the same cell with our weights: inputs projected, then a scan; autodiff."""
    import jax
    import jax.numpy as jnp

    mixer, params = _mixer(cell, D)

    def lstm(w, state, u_BM, g_BM):
        i, f, g, o = jnp.split(u_BM + g_BM, 4, axis=-1)
        c_BN = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c_BN), c_BN

    def gru(w, state, u_BM, g_BM):
        (ur, uz, un), (gr, gz, gn) = jnp.split(u_BM, 3, axis=-1), jnp.split(g_BM, 3, axis=-1)
        r, z = jax.nn.sigmoid(ur + gr), jax.nn.sigmoid(uz + gz)
        n = jnp.tanh(un + r * (gn + w["bias_n"][None]))
        return ((1 - z) * n + z * state[0],)

    def elman(w, state, u_BM, g_BM):
        return (jnp.tanh(u_BM + g_BM),)

    step = {"lstm": lstm, "gru": gru, "elman": elman}[cell]

    def apply(params, x_BLD):
        w = params["params"]
        u_LBM = jnp.einsum("bld,dm->lbm", x_BLD, w["kernel"]) + w["bias"][None, None]

        def scanned(state, u_BM):
            state = step(w, state, u_BM, state[0] @ w["recurrent"])
            return state, state[0]

        state = jax.tree.leaves(mixer.init_state(B))
        _, h_LBN = jax.lax.scan(scanned, tuple(state), u_LBM)
        return jnp.swapaxes(h_LBN, 0, 1), None

    return layer(apply, params, what, B, L, D)


def products(what, cell, B, L, D) -> Built:
    """Only the matrix products of the layer, 256 rows at a time, which no recurrence can do."""
    import jax
    import jax.numpy as jnp

    w = _mixer(cell, D)[1]["params"]
    x_CRD, h_CRD = (a.reshape(-1, min(256, B * L), D) for a in arrays(B, L, D))

    def forwards(kernel, recurrent, x_CRD, h_CRD):
        return jax.lax.map(lambda rows: (rows[0] @ kernel + rows[1] @ recurrent)[:, :D], (x_CRD, h_CRD))

    def both(kernel, recurrent, x_CRD, h_CRD):
        def chunk(sums, rows):
            x_RD, h_RD = rows
            z_RM = x_RD @ kernel + h_RD @ recurrent  # its own cotangent
            sums = (sums[0] + x_RD.T @ z_RM, sums[1] + h_RD.T @ z_RM)
            return sums, (z_RM @ kernel.T, (z_RM @ recurrent.T).sum())

        return jax.lax.scan(chunk, (jnp.zeros_like(kernel), jnp.zeros_like(recurrent)), (x_CRD, h_CRD))

    work = forwards if what == "inference" else both
    return ready.jitted(work, w["kernel"], w["recurrent"], x_CRD, h_CRD)


def linen(what, cell, B, L, D) -> Built:
    """`flax.linen.RNN`."""
    import jax
    from flax import linen as nn

    kind = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "elman": nn.SimpleCell}[cell]
    rnn = nn.RNN(kind(D))
    params = rnn.init(jax.random.key(0), arrays(B, L, D)[0])
    return layer(lambda params, x_BLD: (rnn.apply(params, x_BLD), None), params, what, B, L, D)


def nnx(what, cell, B, L, D) -> Built:
    """`flax.nnx.RNN`."""
    from flax import nnx

    kind = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "elman": nnx.SimpleCell}[cell]
    model = nnx.RNN(kind(D, D, rngs=nnx.Rngs(0)))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    # copy: the model counts the keys it draws, and may do so only where it was made.
    apply = lambda params, x_BLD, rest: (nnx.merge(graph, params, rest, copy=True)(x_BLD), None)
    return layer(apply, params, what, B, L, D, rest)


def torch(what, cell, B, L, D) -> Built:
    """`torch.nn`, eager, with torch's own number of threads; on the GPU if torch has one."""
    import torch

    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "elman": torch.nn.RNN}[cell]
    x_BLD, dy_BLD = ready.tensors(*arrays(B, L, D))
    rnn = kind(D, D, batch_first=True, device=x_BLD.device)
    x_BLD.requires_grad_(what == "training")
    wanted = [x_BLD, *rnn.parameters()]
    return ready.eager(lambda: rnn(x_BLD)[0], wanted, dy_BLD if what == "training" else None)


def keras(what, cell, B, L, D) -> Built:
    """The keras layer on its JAX backend, called without state."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "elman": keras.layers.SimpleRNN}[cell]
    rnn = kind(D, return_sequences=True)
    rnn.build((B, L, D))
    values = lambda variables: [v.value for v in variables]
    apply = lambda params, x_BLD, rest: rnn.stateless_call(params, rest, x_BLD)
    params, rest = values(rnn.trainable_variables), values(rnn.non_trainable_variables)
    return layer(apply, params, what, B, L, D, rest)


OPPONENTS = {
    "plain": plain,
    "masked": masked,
    "remat": remat,
    "products": products,
    "linen": linen,
    "nnx": nnx,
    "torch": torch,
    "keras": keras,
}

OWN = ("plain", "masked", "remat", "products")  # contenders with our allocator

# Target: how many times faster, at each of the SHAPES.
TARGETS = {
    ("training", "lstm", "linen"): (1.5, 2.1, 1.3),
    ("training", "lstm", "torch"): (1.0, 1.2, 1.0),
    ("training", "gru", "linen"): (1.4, 1.6, 1.4),
    ("training", "gru", "torch"): (1.6, 1.6, 1.6),
    ("training", "elman", "linen"): (1.8, 1.8, 1.8),
    ("training", "elman", "torch"): (1.9, 1.9, 1.9),
    ("inference", "lstm", "linen"): (1.5, 1.0),
    ("inference", "lstm", "torch"): (1.1, 0.95),
    ("inference", "gru", "linen"): (1.5, 1.0),
    ("inference", "gru", "torch"): (1.8, 2.0),
    ("inference", "elman", "linen"): (1.5,),
    ("inference", "elman", "torch"): (2.8,),
}


def targets(what, cell, B, L, D) -> list[Target]:
    """The targets of one case."""
    found = [Target("masked", most=1.1)]
    if (what, cell) == ("training", "lstm"):
        found.append(Target("linen", most=0.4, of="memory"))
    for (w, c, opponent), values in TARGETS.items():
        at = dict(zip(SHAPES[what], values, strict=False)) if (w, c) == (what, cell) else {}
        if (B, L, D) in at:
            found.append(Target(opponent, least=at[B, L, D]))
    return found


def main(argv: list[str] | None = None) -> None:
    """Parses, times case by case, and writes the results after each."""
    args = session.parse(session.parser("recurrence", __doc__, OPPONENTS, "B,L,D", cells=CELLS, what=SHAPES), argv)
    cases = [
        {"what": what, "cell": cell, **dict(zip("BLD", shape, strict=True))}
        for what in args.what
        for cell in args.cells
        for shape in args.shapes or SHAPES[what]
    ]
    session.run(args, cases, session.contenders(args, ours, OPPONENTS, OWN), targets)


if __name__ == "__main__":
    main()
