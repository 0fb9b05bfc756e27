"""Converted weights compute the same, with the same gradients, both ways; what has no counterpart is refused.

Every case is compared with the library itself. Converters are linear, so the gradient by what they took is their
transpose on the gradient by what they gave: the law that the gradients of both sides must hold.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from seqjax.converters import flax, keras, torch
from seqjax.mixers.gru import GRU
from seqjax.mixers.lstm import LSTM
from seqjax.mixers.rnn import Elman
from seqjax.mixers.stacked import Stacked

B, L, D = 2, 5, 3
CELLS = {"lstm": LSTM, "gru": GRU, "rnn": Elman}


@pytest.fixture(autouse=True)
def lenient():
    """flax and keras add vectors to matrices."""
    with jax.numpy_rank_promotion("allow"):
        yield


def noisy(tree, seed=0):
    """Random arrays of the same shapes: no bias is zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.normal(size=np.shape(a)).astype(np.float32), tree)


class Theirs:
    """One layer of another library: weights as its users have them, and what they compute."""

    def __init__(self, cell, layers=1, **options):
        self.cell, self.layers, self.options = cell, layers, options

    def run(self, weights, x_BLD, state, out):
        """-> (y, end), (gradients by weights, by x) of <(y, end), out>."""

        @jax.jit
        def both(weights, x_BLD, state, out):
            results, pull = jax.vjp(functools.partial(self.apply, state=state), weights, x_BLD)
            return results, pull(out)

        return both(weights, x_BLD, state, out)


class Torch(Theirs):
    converter = torch

    @functools.cached_property
    def layer(self):
        torch = pytest.importorskip("torch")
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[self.cell]
        torch.manual_seed(0)
        return kind(D, self.options.get("hidden_size", D), self.layers, batch_first=True, **self.keywords())

    def keywords(self):
        names = {"bias": "bias", "activation": "nonlinearity"}
        found = {names[k]: v for k, v in self.options.items() if k in names}
        return found | ({"proj_size": D} if "hidden_size" in self.options else {})

    def weights(self):
        return self.layer.state_dict()

    def run(self, weights, x_BLD, state, out):
        torch = pytest.importorskip("torch")
        tensor = lambda a: torch.from_numpy(np.array(a))
        self.layer.load_state_dict({name: torch.as_tensor(w) for name, w in weights.items()})
        x = tensor(x_BLD).requires_grad_()
        start = [torch.stack(s) for s in zip(*jax.tree.map(tensor, state), strict=True)]
        y, end = self.layer(x, tuple(start) if self.cell == "lstm" else start[0])
        end = end if self.cell == "lstm" else (end,)
        end = list(zip(*(s.unbind() for s in end), strict=True))
        parameters = dict(self.layer.named_parameters())
        leaves = jax.tree.leaves
        *dw, dx = torch.autograd.grad(leaves((y, end)), [*parameters.values(), x], [tensor(a) for a in leaves(out)])
        plain = functools.partial(jax.tree.map, lambda a: a.detach().numpy())
        return plain((y, end)), plain((dict(zip(parameters, dw, strict=True)), dx))


class Flax(Theirs):
    converter = flax

    @functools.cached_property
    def layer(self):
        activation = {"activation_fn": nn.relu} if self.options.get("activation") == "relu" else {}
        return nn.RNN(getattr(nn, self.options["kind"])(D, **activation))

    def weights(self):
        return noisy(self.layer.init(jax.random.key(0), jnp.zeros((B, L, D)))["params"]["cell"])

    def apply(self, weights, x_BLD, state):
        turn = lambda carry: carry[::-1] if self.cell == "lstm" else carry  # flax carries (c, h)
        carry = turn(tuple(state[0])) if self.cell == "lstm" else state[0][0]
        carry, y = self.layer.apply({"params": {"cell": weights}}, x_BLD, initial_carry=carry, return_carry=True)
        return y, [turn(carry) if self.cell == "lstm" else (carry,)]


class Keras(Theirs):
    converter = keras

    @functools.cached_property
    def layer(self):
        os.environ["KERAS_BACKEND"] = "jax"
        layers = pytest.importorskip("keras").layers
        kind = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}[self.cell]
        names = {"bias": "use_bias", "activation": "activation", "reset_after": "reset_after"}
        options = {names[k]: v for k, v in self.options.items()}
        layer = kind(D, return_sequences=True, return_state=True, **options)
        layer.build((B, L, D))
        return layer

    def weights(self):
        self.layer.set_weights(noisy(self.layer.get_weights()))
        return self.layer.get_weights()

    def apply(self, weights, x_BLD, state):
        others = [v.value for v in self.layer.non_trainable_variables]
        (y, *end), _ = self.layer.stateless_call(weights, others, x_BLD, initial_state=list(state[0]))
        return y, [tuple(end)]


class Ours:
    """The mixer that computes what `theirs` does. States are lists of layers, each a tuple, as of `theirs`."""

    def __init__(self, theirs):
        options = {k: v for k, v in theirs.options.items() if k in ("hidden_size", "activation", "reset_after")}
        mixer = functools.partial(CELLS[theirs.cell], **options)
        self.deep, self.slots = theirs.layers > 1, 2 if theirs.cell == "lstm" else 1
        self.mixer = Stacked(width=D, layers=theirs.layers, mixer=mixer) if self.deep else mixer(width=D)

    def params(self):
        return noisy(self.mixer.init(jax.random.key(0), jnp.zeros((B, L, D)))["params"])

    def state(self):
        return noisy(self.listed(self.mixer.init_state(B)), seed=9)

    def listed(self, state):
        layers = state if self.deep else [state]
        return [layer if self.slots > 1 else (layer,) for layer in layers]

    def apply(self, params, x_BLD, state):
        layers = tuple(layer if self.slots > 1 else layer[0] for layer in state)
        y_BLD, end = self.mixer.apply({"params": params}, x_BLD, layers if self.deep else layers[0])
        return y_BLD, self.listed(end)

    def run(self, params, x_BLD, state, out):
        results, pull = jax.vjp(functools.partial(self.apply, state=state), params, x_BLD)
        return results, pull(out)


WHOLE = {  # every parameter of ours has a place in theirs
    **{f"torch-{cell}": Torch(cell) for cell in CELLS},
    **{f"torch-{cell}-2": Torch(cell, layers=2) for cell in CELLS},
    "torch-lstm-projection": Torch("lstm", hidden_size=D + 1),
    "torch-lstm-projection-2": Torch("lstm", layers=2, hidden_size=D + 1),
    "torch-relu": Torch("rnn", activation="relu"),
    "flax-LSTMCell": Flax("lstm", kind="LSTMCell"),
    "flax-OptimizedLSTMCell": Flax("lstm", kind="OptimizedLSTMCell"),
    "flax-GRUCell": Flax("gru", kind="GRUCell"),
    "flax-SimpleCell": Flax("rnn", kind="SimpleCell"),
    "flax-relu": Flax("rnn", kind="SimpleCell", activation="relu"),
    **{f"keras-{cell}": Keras(cell) for cell in CELLS},
    "keras-gru-before": Keras("gru", reset_after=False),
    "keras-relu": Keras("rnn", activation="relu"),
}
UNBIASED = {
    **{f"torch-{cell}-unbiased": Torch(cell, bias=False) for cell in CELLS},
    "torch-lstm-2-unbiased": Torch("lstm", layers=2, bias=False),
    **{f"keras-{cell}-unbiased": Keras(cell, bias=False) for cell in ("lstm", "rnn")},
}


def over(cases):
    return pytest.mark.parametrize("theirs", list(cases.values()), ids=list(cases))


def pulled_back(convert, weights, gradient):
    """The gradient by `weights` from that by `convert(weights)`: entry by entry, the transpose of a linear map."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, weights))
    result = [np.zeros(leaf.shape) for leaf in leaves]
    for n, leaf in enumerate(leaves):
        for index in np.ndindex(leaf.shape):
            unit = [np.zeros_like(other) for other in leaves]
            unit[n][index] = 1
            result[n][index] = sum(jax.tree.leaves(jax.tree.map(np.vdot, convert(structure.unflatten(unit)), gradient)))
    return structure.unflatten(result)


def close(got, wanted):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, wanted)


def equal(got, wanted):
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def both(theirs, weights, params):
    """Runs both sides on the same input, state and gradient of the output."""
    ours = Ours(theirs)
    x_BLD, state = noisy(np.zeros((B, L, D)), seed=1), ours.state()
    out = noisy((x_BLD, state), seed=2)
    return theirs.run(weights, x_BLD, state, out), ours.run(params, x_BLD, state, out)


@over(WHOLE | UNBIASED)
def test_read_computes_the_same(theirs):
    weights = dict(w) if isinstance(w := theirs.weights(), dict) else w
    read = functools.partial(theirs.converter.read, cell=theirs.cell)
    params = read(weights)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, Ours(theirs).params())
    (wanted, (dweights, dx)), (got, (dparams, dx_ours)) = both(theirs, weights, params)
    close(got, wanted)
    close(dx_ours, dx)
    close(pulled_back(read, weights, dparams), dweights)


@over(WHOLE)
def test_write_computes_the_same(theirs):
    params = Ours(theirs).params()
    write = functools.partial(theirs.converter.write, cell=theirs.cell)
    (got, (dweights, dx)), (wanted, (dparams, dx_ours)) = both(theirs, write(params), params)
    close(got, wanted)
    close(dx, dx_ours)
    close(pulled_back(write, params, dweights), dparams)


@over(WHOLE)
def test_round_trips(theirs):
    read, write = theirs.converter.read, theirs.converter.write
    params = Ours(theirs).params()
    back = read(write(params, theirs.cell), theirs.cell)
    equal(back, params)
    assert {a.dtype for a in jax.tree.leaves(back)} == {np.dtype(np.float32)}
    weights = theirs.weights()
    again = write(read(weights, theirs.cell), theirs.cell)
    if isinstance(theirs, Flax):
        equal(again, weights)
    (first, (_, dx)), _ = both(theirs, weights, params)
    (second, (_, dx_again)), _ = both(theirs, again, params)
    close(second, first)
    close(dx_again, dx)


@over(WHOLE)
def test_nothing_is_shared(theirs):
    """torch trains in place: neither side may see the other's changes."""
    weights = jax.tree.map(np.array, theirs.converter.write(Ours(theirs).params(), theirs.cell))
    params = theirs.converter.read(weights, theirs.cell)
    before = jax.tree.map(np.copy, params)
    for w in jax.tree.leaves(weights):
        w += 1
    equal(params, before)
    again = theirs.converter.write(params, theirs.cell)
    for w in jax.tree.leaves(again):
        w += 1  # and they can be written to, which torch.from_numpy asks for
        assert w.flags.c_contiguous
    equal(params, before)


def arrays(**shapes):
    return {name: noisy(np.zeros(shape), seed=n) for n, (name, shape) in enumerate(shapes.items())}


def of_torch(gates, inputs=D, **more):
    shapes = {"weight_ih_l0": (gates * D, inputs), "weight_hh_l0": (gates * D, D)}
    return arrays(**shapes, bias_ih_l0=(gates * D,), bias_hh_l0=(gates * D,), **more)


def of_flax(inputs=D):
    return {"i": arrays(kernel=(inputs, D), bias=(D,)), "h": arrays(kernel=(D, D))}


def of_keras(gates, *bias, inputs=D):
    return list(arrays(a=(inputs, gates * D), b=(D, gates * D), **({"c": bias} if bias else {})).values())


def of_ours(gates, N=D, **more):
    return arrays(kernel=(D, gates * N), recurrent=(D, gates * N), bias=(gates * N,), **more)


def without(tree, name):
    return {key: value for key, value in tree.items() if key != name}


REFUSED = {  # converter, cell, weights, what the error says: got, wanted, how to fix it
    "cell": (torch.read, "elman", of_torch(1), "cell='elman': choose from 'lstm', 'gru', 'rnn'"),
    "torch-input": (
        *(torch.read, "lstm", of_torch(4, inputs=5)),
        r"weight_ih_l0 is \[12, 5\], .* wants \[12, 3\]: its input_size must equal",
    ),
    "torch-cell": (torch.read, "gru", of_torch(4), r"is \[12, 3\], .*gru.* wants \[9, 3\]: name the right cell"),
    "torch-directions": (
        *(torch.read, "rnn", of_torch(1, weight_ih_l0_reverse=(D, D))),
        "got weight_ih_l0_reverse, wanted one direction: read each direction separately, and remove `_reverse`",
    ),
    "torch-missing": (
        *(torch.read, "rnn", without(of_torch(1), "bias_hh_l0")),
        "got weight_ih_l0, weight_hh_l0, bias_ih_l0; torch's rnn has .*, bias_hh_l0: give the state_dict",
    ),
    "torch-gap": (torch.read, "rnn", of_torch(1, weight_ih_l2=(D, D)), "got .*_l2; .* weight_hh_l1, .*: give the"),
    "torch-prefix": (
        *(torch.read, "rnn", {f"encoder.{k}": w for k, w in of_torch(1).items()}),
        r"got encoder\.weight_ih_l0, .*; torch's rnn has weight_ih_l0, .*: give the state_dict of only that layer",
    ),
    "torch-projected-gru": (torch.read, "gru", of_torch(3, weight_hr_l0=(D, D)), "got .*weight_hr_l0; torch's gru"),
    "torch-integers": (
        *(torch.read, "rnn", of_torch(1) | {"weight_hh_l0": np.ones((D, D), np.int8)}),
        r"weight_hh_l0 is int8\[3, 3\], wanted an array of floating-point numbers: convert it",
    ),
    "torch-scalar": (torch.read, "rnn", of_torch(1) | {"weight_hh_l0": 1.0}, r"is float64\[\], wanted an array"),
    "torch-type": (torch.read, "rnn", [1.0], "got a list; torch's rnn has .*: give the state_dict"),
    "flax-input": (flax.read, "rnn", of_flax(inputs=5), r"i/kernel is \[5, 3\], .* wants \[3, 3\]: its input must be"),
    "flax-outer": (flax.read, "rnn", {"cell": of_flax()}, "got cell/h/kernel, .*; flax's rnn has i/kernel, .*'cell'"),
    "flax-cell": (
        flax.read,
        "gru",
        of_flax(),
        "got h/kernel, .*; flax's gru has ir/kernel, .*: .* name the right cell",
    ),
    "flax-nothing": (flax.read, "rnn", {}, "got nothing; flax's rnn has i/kernel"),
    "flax-complex": (
        *(flax.read, "rnn", of_flax() | {"h": {"kernel": np.ones((D, D), np.complex64)}}),
        r"h/kernel is complex64\[3, 3\], wanted an array of floating-point numbers",
    ),
    "keras-input": (
        keras.read,
        "lstm",
        of_keras(4, 12, inputs=5),
        r"kernel is \[5, 12\], .* wants \[3, 12\]: its input",
    ),
    "keras-bias": (keras.read, "gru", of_keras(3, 3, 9), r"bias is \[3, 9\], .* wants \[2, 9\]"),
    "keras-bias-before": (keras.read, "gru", of_keras(3, 8), r"bias is \[8\], .* wants \[9\]"),
    "keras-unbiased": (
        *(keras.read, "gru", of_keras(3)),
        r"got a gru without biases, but .*: add np.zeros\(\(2, 9\)\) .*reset_after=True, else np.zeros\(9\)",
    ),
    "keras-number": (
        keras.read,
        "lstm",
        of_keras(4, 12) * 2,
        "got 6 arrays, wanted kernel, .*: give layer.get_weights",
    ),
    "keras-type": (keras.read, "lstm", {}, "got a dict, wanted kernel, recurrent_kernel, bias: give layer.get_weights"),
    "keras-cell": (
        keras.read,
        "rnn",
        of_keras(4, 12),
        r"recurrent_kernel is \[3, 12\], .* wants \[3, 3\]: name the right cell",
    ),
    "peepholes": (torch.write, "lstm", of_ours(4, peepholes=(3, D)), "got .*peepholes; .* without options that torch"),
    "hidden": (flax.write, "lstm", of_ours(4, N=4, projection=(4, D)), "got .*projection; .*options that flax lacks"),
    "hidden-keras": (keras.write, "lstm", of_ours(4, N=4, projection=(4, D)), "got .*projection; .* that keras lacks"),
    "hidden-small": (
        *(torch.write, "lstm", of_ours(4, N=2, projection=(2, D))),
        "got hidden_size=2 and width 3, torch wants proj_size \\(our width\\) < hidden_size",
    ),
    "reset": (torch.write, "gru", of_ours(3), "got .*; the gru that torch can hold has .*bias_n: .* that torch lacks"),
    "reset-flax": (
        flax.write,
        "gru",
        of_ours(3),
        "got .*; the gru that flax can hold has .*bias_n: .* that flax lacks",
    ),
    "outer": (
        keras.write,
        "rnn",
        {"params": of_ours(1)},
        "got params; .* has kernel, recurrent, bias: give the 'params'",
    ),
    "nothing": (keras.write, "rnn", None, "got a NoneType; .* has kernel, recurrent, bias"),
    "cell-ours": (flax.write, "rnn", of_ours(4), r"kernel is \[3, 12\], .* wants \[12, 12\]: name the cell"),
    "layers": (
        *(torch.write, "rnn", {"layers_0": of_ours(1), "layers_2": of_ours(1)}),
        "got layers_0, layers_2, wanted layers_0, layers_1: give the params of one `stacked`",
    ),
    "layers-alike": (
        *(torch.write, "lstm", {"layers_0": of_ours(4), "layers_1": of_ours(4, N=4, projection=(4, D))}),
        "got layers of shapes .*, torch wants equal shapes in all layers of a lstm: write each layer separately",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    convert, cell, weights, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        convert(weights, cell)


def test_refuses_tensors_that_numpy_cannot_read():
    tensors = pytest.importorskip("torch")
    weights = {name: tensors.from_numpy(w) for name, w in of_torch(1).items()}
    for bad in (weights["weight_hh_l0"].bfloat16(), weights["weight_hh_l0"].clone().requires_grad_()):
        with pytest.raises(ValueError, match=r"numpy cannot read weight_hh_l0 \(.*\): give float32 arrays"):
            torch.read(weights | {"weight_hh_l0": bad}, "rnn")


def test_refuses_numbers_beyond_those_of_float32():
    weights = of_flax()
    weights["h"] = {"kernel": np.full((D, D), -1e39)}
    with pytest.raises(ValueError, match=r"h/kernel has numbers outside the range of float32, up to 1e\+39"):
        flax.read(weights, "rnn")
    weights["h"] = {"kernel": np.full((D, D), np.inf)}
    assert np.all(np.isinf(flax.read(weights, "rnn")["recurrent"]))  # what is not finite stays what it is


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_other_floats_are_read_as_float32(dtype):
    weights = jax.tree.map(lambda w: w.astype(dtype), of_flax())
    params = flax.read(weights, "rnn")
    assert {a.dtype for a in params.values()} == {np.dtype(np.float32)}
    equal(params["recurrent"], weights["h"]["kernel"].astype(np.float32))


def test_a_keras_gru_without_biases_is_read_with_zeros_added():
    theirs = Keras("gru", bias=False)
    weights = theirs.weights()
    params = keras.read([*weights, np.zeros((2, 3 * D))], "gru")
    (wanted, _), (got, _) = both(theirs, weights, params)
    close(got, wanted)
