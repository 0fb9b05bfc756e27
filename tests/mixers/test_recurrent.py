"""The options that all recurrent mixers share: noise, zoneout, a learned initial state, less memory."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close

from seqjax import lookup
from seqjax.mixers._recurrent import Recurrent
from seqjax.mixers.conv_lstm import ConvLSTM
from seqjax.mixers.gru import GRU
from seqjax.mixers.lstm import LSTM
from seqjax.mixers.mgu import MGU
from seqjax.mixers.rnn import Elman
from seqjax.mixers.slstm import SLSTM
from seqjax.ops import cells

pytestmark = pytest.mark.usefixtures("compile_once")

RNG = np.random.default_rng(0)
D = 8
FOUND = {name: lookup.find(name, "seqjax.mixers", "Mixer") for name in lookup.names("seqjax.mixers")}
KINDS = {name: kind for name, kind in FOUND.items() if isinstance(kind, type) and issubclass(kind, Recurrent)}
RICH = {
    "lstm": dict(hidden_size=6, peepholes=True, layer_norm=True),
    "gru": dict(reset_after=False),
    "slstm": dict(heads=2),
}
DROPOUTS = ["variational_dropout", "recurrent_dropout", "weight_dropout"]
NOISES = [*DROPOUTS, "zoneout"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def draw(*shape):
    return np.float32(RNG.normal(size=shape))


def rich(kind, **options):
    """With the options of its own that change the most."""
    return KINDS[kind](width=D, **RICH.get(kind, {}), **options)


def random(module):
    """Parameters without zeros, behind which mistakes could hide."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 1, module.width)))["params"]
    return jax.tree.map(lambda p: 0.4 * draw(*p.shape), shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, x, state=None, mask=None, reset=None, key=None):
    """-> y and the last state; in training if there is a key."""
    options = {} if key is None else dict(deterministic=False, rngs={"dropout": key})
    return module.apply({"params": params}, x, state, mask_BL=mask, reset_BL=reset, **options)


@functools.partial(jax.jit, static_argnums=0)
def gradients(module, params, x, state, mask, reset, key, cotangent):
    """-> y and the last state, and gradients by parameters, x and the state before."""
    y, pull = jax.vjp(lambda *arguments: run(module, *arguments, mask, reset, key), params, x, state)
    return y, pull(cotangent)


def long(module):
    """Parameters, x, state, mask, reset and cotangent of 40 rows in four chunks, the last filled up."""
    B, L = 40, 41
    state = jax.tree.map(lambda a: 0.3 * draw(*a.shape), module.init_state(B))
    x, y, mask, reset = draw(B, L, D), draw(B, L, D), RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.8
    mask[3] = False
    return (random(module), x, state, mask, reset), (y, jax.tree.map(lambda a: draw(*a.shape), state))


# ---- Options that are off.


@functools.cache
def off(kind):
    """Outputs of a kind with options that are off, by their names; one program computes all."""
    module, x = rich(kind), draw(3, 5, D)
    begun, params = rich(kind, initial_state="learned"), random(module)

    @jax.jit
    def ways(params):
        fresh = begun.init(jax.random.key(0), x)["params"]
        kept = {name: p for name, p in fresh.items() if not name.startswith("initial")}
        return dict(
            plain=run(module, params, x)[0],
            training=module.apply({"params": params}, x, deterministic=False)[0],
            noisy=run(rich(kind, **dict.fromkeys(DROPOUTS, 0.5)), params, x)[0],
            zoned=run(rich(kind, zoneout=0.5), params, x)[0],
            learned=run(begun, fresh, x)[0],
            kept=run(module, kept, x)[0],
        )

    return jax.device_get(ways(params))


@every_kind
def test_without_noise_training_is_evaluation_and_draws_nothing(kind):
    np.testing.assert_array_equal(off(kind)["training"], off(kind)["plain"])


@every_kind
def test_in_evaluation_dropout_does_nothing_and_no_noise_draws(kind):
    np.testing.assert_array_equal(off(kind)["noisy"], off(kind)["plain"])
    assert off(kind)["zoned"].shape == off(kind)["plain"].shape == (3, 5, D)


@every_kind
def test_a_learned_initial_state_starts_as_the_plain_one(kind):
    np.testing.assert_array_equal(off(kind)["learned"], off(kind)["kept"])


def test_peepholes_start_shut():
    module, x = LSTM(width=D, peepholes=True), draw(3, 5, D)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, D)))["params"]
    kept = {name: p for name, p in params.items() if name != "peepholes"}
    close(run(module, params, x)[0], run(LSTM(width=D), kept, x)[0], 1e-5)
    apart = run(module, params | {"peepholes": 1 + params["peepholes"]}, x)[0] - run(module, params, x)[0]
    assert np.max(np.abs(apart)) > 1e-3


@pytest.mark.parametrize("remat", ["none", "chunk"])
@pytest.mark.parametrize(
    "kind", [Elman, functools.partial(Elman, activation="relu"), LSTM, GRU], ids=["tanh", "relu", "lstm", "gru"]
)
def test_the_cell_with_options_and_the_fast_cell_are_the_same(kind, remat):
    """Zoneout of nearly nothing takes the way through `recur`."""
    plain, zoned = kind(width=D, remat=remat), kind(width=D, zoneout=1e-9)
    arguments, cotangent = long(plain)
    close(gradients(zoned, *arguments, None, cotangent), gradients(plain, *arguments, None, cotangent), 1e-5)


# ---- Noise.


@pytest.mark.parametrize(
    ("kind", "noise"),
    [
        # Each kind and each noise, in turn; the others in `make test-slow`. All noises meet each kind below.
        pytest.param(kind, noise, marks=[pytest.mark.slow] * ((i - j) % len(NOISES) > 0))
        for i, kind in enumerate(KINDS)
        for j, noise in enumerate(NOISES)
    ],
)
def test_noise_needs_its_rng_in_training_and_follows_its_key(kind, noise):
    module, x = rich(kind, **{noise: 0.5}), draw(3, 5, D)
    params = random(module)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(lambda: module.apply({"params": params}, x, deterministic=False))
    first, again, other = (run(module, params, x, key=jax.random.key(i))[0] for i in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.max(np.abs(first - other)) > 1e-3 and np.all(np.isfinite(first))


def seen(kernel, recurrent, **options):
    """A network that is linear where it is positive: h_t = x_t * kernel + h_{t-1} @ recurrent."""
    params = dict(kernel=kernel * np.eye(D), recurrent=recurrent, bias=np.zeros(D))
    module = Elman(width=D, activation="relu", **options)
    return lambda x, h, key=0: run(module, jax.tree.map(jnp.float32, params), x, h, key=jax.random.key(key))


def assert_share(flags, share):
    """Of many draws, to five standard deviations, and never all or none."""
    assert flags.any() and not flags.all()
    assert abs(np.mean(flags) - share) < 5 * np.sqrt(share * (1 - share) / flags.size)


def assert_mixed(flags):
    """Along each axis most lines hold both."""
    for axis in range(flags.ndim):
        assert np.mean(flags.any(axis) & ~flags.all(axis)) > 0.7, axis


def test_variational_dropout_has_one_mask_for_all_tokens():
    B, L = 50, 6
    y, _ = seen(0, np.eye(D), variational_dropout=0.2)(np.zeros((B, L, D), "float32"), np.ones((B, D), "float32"))
    drop = np.asarray(y[:, 0])  # h_t = drop ** t
    np.testing.assert_allclose(y, drop[:, None] ** np.arange(1, L + 1)[None, :, None], rtol=1e-5)
    assert_share(drop == 0, 0.2)
    np.testing.assert_allclose(drop[drop != 0], 1 / 0.8, rtol=1e-6)
    assert len(np.unique(drop, axis=0)) > B / 2, "rows share a mask"

    x = 1 + RNG.random((B, L, D), "float32")
    y, _ = seen(1, np.zeros((D, D)), variational_dropout=0.2)(x, np.zeros((B, D), "float32"))
    input_drop = np.asarray(y[:, 0] / x[:, 0])
    np.testing.assert_allclose(y, input_drop[:, None] * x, rtol=1e-5)
    assert_share(input_drop == 0, 0.2)
    assert np.any((input_drop == 0) != (drop == 0)), "x and h share a mask"


def test_variational_dropout_spares_the_projection():
    """What h is projected from is no recurrent product."""
    module, key = LSTM(width=D, hidden_size=6, variational_dropout=0.5), jax.random.key(0)
    params, state = random(module), (np.zeros((9, D), "float32"), draw(9, 6))
    params["kernel"] = np.zeros_like(params["kernel"])
    x = draw(9, 1, D)
    close(run(module, params, x, state, key=key), run(module, params, x, state), 1e-5)


def test_recurrent_dropout_differs_per_token():
    B, L = 20, 30
    x = 1 + RNG.random((B, L, D), "float32")
    y, _ = seen(1, np.zeros((D, D)), recurrent_dropout=0.2)(x, np.zeros((B, D), "float32"))
    share = np.asarray(y / x)
    np.testing.assert_allclose(share[share != 0], 1 / 0.8, rtol=1e-5)
    assert_share(share == 0, 0.2)
    assert_mixed(share == 0)


@pytest.mark.parametrize("kind", [LSTM, GRU, MGU, SLSTM, ConvLSTM])
def test_recurrent_dropout_does_not_touch_the_memory(kind):
    """Where the candidate is zero there is nothing to drop."""
    module = kind(width=D, recurrent_dropout=0.5)
    state = jax.tree.map(lambda a: 0.3 * draw(*a.shape), module.init_state(3))
    params = jax.tree.map(np.zeros_like, random(module))
    x = draw(3, 5, D)
    np.testing.assert_array_equal(
        run(module, params, x, state, key=jax.random.key(0))[0], run(module, params, x, state)[0]
    )
    assert np.any(run(module, params, x, state)[0])


def test_weight_dropout_is_of_single_weights_and_once_per_call():
    recurrent, one_hot, nothing = (
        0.1 + RNG.random((D, D), "float32"),
        np.eye(D, dtype="float32"),
        np.zeros((D, 3, D), "float32"),
    )
    f = seen(0, recurrent, weight_dropout=0.2)
    dropped = []
    for key in range(20):
        y, _ = f(nothing, one_hot, key)
        weights = np.asarray(y[:, 0])
        for t in (1, 2):
            np.testing.assert_allclose(y[:, t], y[:, t - 1] @ weights, rtol=1e-5)
        kept = weights != 0
        np.testing.assert_allclose(weights[kept], recurrent[kept] / 0.8, rtol=1e-6)
        dropped.append(~kept)
    assert_share(np.stack(dropped), 0.2)
    assert_mixed(np.stack(dropped))


def test_zoneout_keeps_units_exactly_and_is_the_mean_in_evaluation():
    B, L, p = 20, 30, 0.3
    module, x, h = Elman(width=D, zoneout=p), draw(B, L, D), draw(B, D)
    params = dict(kernel=np.eye(D, dtype="float32"), recurrent=np.zeros((D, D), "float32"), bias=np.zeros(D, "float32"))
    y, last = run(module, params, x, h, key=jax.random.key(0))
    before = np.concatenate([h[:, None], y[:, :-1]], axis=1)
    kept = before == np.asarray(y)
    assert_share(kept, p)
    np.testing.assert_allclose(y[~kept], np.tanh(x)[~kept], atol=1e-6)
    np.testing.assert_array_equal(last, y[:, -1])

    y, _ = run(module, params, x, h)
    before = np.concatenate([h[:, None], y[:, :-1]], axis=1)
    np.testing.assert_allclose(y, p * before + (1 - p) * np.tanh(x), atol=1e-6)


@pytest.mark.parametrize(("kind", "zoned"), [(LSTM, 2), (GRU, 1), (MGU, 1), (ConvLSTM, 2), (SLSTM, 1)])
def test_zoneout_keeps_units_of_each_state_by_itself(kind, zoned):
    """But of an sLSTM's cell, normaliser and stabiliser, which belong together, none."""
    module = kind(width=D, zoneout=0.3)
    state = jax.tree.map(lambda a: 1 + RNG.random(a.shape, "float32"), module.init_state(100))
    _, after = run(module, random(module), draw(100, 1, D), state, key=jax.random.key(0))
    kept = [np.asarray(a == b) for a, b in zip(*map(jax.tree.leaves, (state, after)), strict=True)]
    for flags in kept[:zoned]:
        assert_share(flags, 0.3)
    assert zoned == 1 or np.any(kept[0] != kept[1])
    assert all(np.mean(flags) < 0.01 for flags in kept[zoned:])


# ---- A learned initial state.

# Row by row: going on; empty; not begun in the first chunk; a hole of a whole chunk; two documents.
LAYOUT = ["xxxxxx", "......", "..x.xx", ".x..x.", "xxxRxx"]
LETTERS = np.array([list(row) for row in LAYOUT])
MASK, RESET, ENDS = LETTERS != ".", LETTERS == "R", (2, 4, 6)


def chunks(module, params, x):
    """y, and the state after each chunk of two tokens."""
    state, pieces, states = module.init_state(len(x)), [], []
    for end in ENDS:
        piece = np.s_[:, end - 2 : end]
        y, state = run(module, params, x[piece], state, MASK[piece], RESET[piece])
        pieces.append(y)
        states.append(state)
    return jnp.concatenate(pieces, axis=1), states


@functools.cache
def learned(kind):
    """What a kind with a learned initial state gives, by the name of the way; one program computes all."""
    module, plain, x, cotangent = rich(kind, initial_state="learned"), rich(kind), draw(5, 6, D), draw(5, 6, D)
    params, others = random(module), random(module)

    def slopes(f, params):
        y, pull, *more = jax.vjp(f, params, x, has_aux=True)
        return (y, pull(cotangent)), *more

    @jax.jit
    def ways(params, others):
        by_chunks, states = slopes(functools.partial(chunks, module), params)
        whole, _ = slopes(lambda params, x: run(module, params, x, None, MASK, RESET), params)
        kept = {name: p for name, p in params.items() if not name.startswith("initial")}
        return dict(
            chunks=by_chunks,
            states=states,
            whole=whole,
            second=run(module, params, x[4:, 3:])[0],
            plain=run(plain, kept, x, None, MASK, RESET)[0],
            on=run(module, others, x, states[-1])[0],
            fresh=run(module, others, x)[0],
        )

    return jax.device_get(ways(params, others))


@every_kind
def test_a_learned_initial_state_gets_its_gradient_whole_and_in_chunks(kind):
    found, module = learned(kind), rich(kind, initial_state="learned")
    close(found["chunks"], found["whole"], 1e-5)
    sizes = [np.abs(g).max() for name, g in found["whole"][1][0].items() if name.startswith("initial")]
    assert len(sizes) == len(module.shapes[: module.free]) and min(sizes) > 1e-3


@every_kind
def test_a_reset_goes_back_to_the_learned_initial_state(kind):
    found = learned(kind)
    y, _ = found["whole"]
    close(y[4:, 3:], found["second"], 1e-5)
    assert np.min(np.max(np.abs(y - found["plain"])[[0, 4]], axis=2)[:, [0, 3]]) > 1e-3


@every_kind
def test_a_row_has_begun_with_its_first_real_token(kind):
    found = learned(kind)
    begun = [s.begun_B for s in found["states"]]
    np.testing.assert_array_equal(begun, [[1, 0, 0, 1, 1], [1, 0, 1, 1, 1], [1, 0, 1, 1, 1]])
    # Who has not begun starts with the parameters of the day.
    close(found["on"][1], found["fresh"][1], 1e-5)
    assert np.min(np.max(np.abs(found["on"] - found["fresh"])[[0, 2, 3, 4], 0], axis=1)) > 1e-4


# ---- Less memory.


@every_kind
def test_running_chunks_twice_changes_nothing(kind):
    options = dict.fromkeys(NOISES, 0.3) | dict(initial_state="learned")
    plain, twice = rich(kind, **options), rich(kind, **options, remat="chunk")
    (params, x, _, mask, reset), (cotangent, _) = long(plain)
    arguments = params, x, None, mask, reset, jax.random.key(0), (cotangent, None)
    close(gradients(twice, *arguments), gradients(plain, *arguments), 1e-5)


def temporary(f, *shapes):
    """Bytes that the gradient of a sum over f needs beside its arguments and results."""
    slope = jax.jit(jax.grad(lambda *arguments: jnp.sum(jnp.sin(f(*arguments))), (0, 1)))
    return slope.lower(*shapes).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("kind", "cell"), [(LSTM, cells.lstm), (GRU, cells.gru)], ids=["lstm", "gru"])
def test_the_fast_cells_run_twice_take_a_quarter_of_the_memory_of_autodiff(kind, cell):
    B, L, D = 4, 2048, 16
    x = jax.ShapeDtypeStruct((B, L, D), "float32")

    def autodiff(params, x):
        rows = {"bias_n": jnp.broadcast_to(params["bias_n"][None], (B, D))} if kind is GRU else {}
        step = lambda state, u: (cell({"x": u}, state, lambda name, a: a @ params[name], rows),) * 2
        u = jnp.einsum("BLD,DM->LBM", x, params["kernel"]) + params["bias"][None, None]
        return jax.lax.scan(step, kind(width=D).zero_state(B), u)[1][0]

    params = jax.eval_shape(kind(width=D).init, jax.random.key(0), x)["params"]
    mixer = lambda remat: lambda params, x: kind(width=D, remat=remat).apply({"params": params}, x)[0]
    kept, twice, plain = (temporary(f, params, x) for f in (mixer("none"), mixer("chunk"), autodiff))
    assert twice < plain / 4 and twice < kept / 2


@every_kind
def test_every_cell_run_twice_takes_less_memory(kind):
    """How much less is in tests/ops/test_cells.py: here all inputs of the gates stay."""
    x = jax.ShapeDtypeStruct((4, 512, D), "float32")
    module = functools.partial(rich, kind, zoneout=0.1)
    params = jax.eval_shape(module().init, jax.random.key(0), x)["params"]
    mixer = lambda remat: lambda params, x: module(remat=remat).apply({"params": params}, x)[0]
    assert temporary(mixer("chunk"), params, x) < temporary(mixer("none"), params, x)


# ---- What is refused.


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        *((Elman, {noise: 1.0}, f"{noise}: got 1.0, wanted a float of at least 0 and below 1") for noise in NOISES),
        *((Elman, {noise: -0.1}, f"{noise}: got -0.1, wanted a float") for noise in NOISES),
        (GRU, dict(initial_state="random"), "initial_state: got 'random', wanted one of 'zeros', 'learned'"),
        (GRU, dict(remat=True), "remat: got True, wanted one of 'none', 'chunk'"),
        (GRU, dict(reset_after="never"), "reset_after: got 'never', wanted bool"),
        (Elman, dict(activation="sigmoid"), "activation: got 'sigmoid', wanted one of 'tanh', 'relu'"),
        (LSTM, dict(hidden_size=0), "hidden_size: got 0, wanted an int of at least 1, or None"),
        (LSTM, dict(peepholes=1), "peepholes: got 1, wanted bool"),
        (SLSTM, dict(heads=3), r"heads=3 does not divide model\.width=8"),
        (ConvLSTM, dict(height=3), r"height=3 x mixer\.columns=2 do not divide model\.width=8: choose a width"),
        (ConvLSTM, dict(kernel_size=0), "kernel_size: got 0, wanted an int of at least 1"),
    ],
)
def test_wrong_options_are_refused(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(width=D, **options)


def test_a_state_without_its_beginnings_is_refused():
    plain, learned = GRU(width=D), GRU(width=D, initial_state="learned")
    x = jnp.zeros((2, 3, D))
    for module, other in ((plain, learned), (learned, plain)):
        with pytest.raises(ValueError, match=r"make it with init_state\(2\)"):
            jax.eval_shape(functools.partial(module.apply, {"params": random(module)}), x, other.init_state(2))
