"""Mixers that see the future: what is left of the laws for them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from built import classes
from decay import Decay
from gradients import call, close, drawn, evaluate, run
from subjects import OPTIONS, mixer

from seqjax import lookup, spec
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.gru import GRU
from seqjax.mixers.stacked import Stacked
from seqjax.models.stack import Stack
from seqjax.training.experiment import Experiment, resolve
from seqjax.types import ConfigError

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D = 4, 6, 8
BOTH = ["xx..Rx", ".Rx.Rx", "xxrxRx", "......"]  # the letters of tests/test_laws.py
FOUND = [n for n in lookup.names("seqjax.mixers") if not lookup.find(n, "seqjax.mixers", "Mixer").causal]
SUBJECTS = {
    **{name: mixer(name, OPTIONS.get(name, [{}])[0])(width=D) for name in FOUND},
    "bidirectional-sum-gru": Bidirectional(width=D, merge="sum", mixer=GRU),
    "stacked(bidirectional)": Stacked(width=D, mixer=(Bidirectional, GRU)),
}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request):
    module = SUBJECTS[request.param]
    x_BLD = np.random.default_rng(0).normal(size=(B, L, D)).astype("float32")
    return module, drawn(module, x_BLD), x_BLD


def flags():
    letters = np.array([list(row) for row in BOTH])
    return np.isin(letters, ["x", "R"]), np.isin(letters, ["R", "r"])


def packed(module, params, x_BLD):
    mask_BL, reset_BL = flags()
    return module.apply(params, x_BLD, None, mask_BL=mask_BL, reset_BL=reset_BL)[0]


def apart(module, params, x_BLD):
    """Each document alone, with neither mask nor reset; those of one length in one call."""
    y_BLD, documents = jnp.zeros_like(x_BLD), {}
    for row, letters in enumerate(BOTH):
        ends = [place for place, letter in enumerate(letters) if letter == "R"]
        for start, end in itertools.pairwise([0, *ends, L]):
            places = [place for place in range(start, end) if letters[place] in "xR"]
            documents.setdefault(len(places), []).append((row, places))
    for length, found in documents.items():
        if length:
            rows, places = np.array([row for row, _ in found])[:, None], np.array([places for _, places in found])
            y_BLD = y_BLD.at[rows, places].set(module.apply(params, x_BLD[rows, places])[0])
    return y_BLD


def test_packed_documents_are_documents_apart(subject):
    module, params, x_BLD = subject
    of = lambda f: evaluate(functools.partial(f, module), params, x_BLD)
    close(of(packed), of(apart))


def test_what_is_masked_changes_nothing(subject):
    module, params, x_BLD = subject
    mask_BL, _ = flags()
    noise_BLD = np.where(mask_BL[..., None], x_BLD, np.float32(np.nan))
    y, gradients = evaluate(functools.partial(packed, module), params, noise_BLD)
    close((y, gradients), evaluate(functools.partial(packed, module), params, x_BLD))
    assert not np.any(y[~mask_BL]) and not np.any(gradients[1][~mask_BL])


def test_every_token_sees_all_of_its_document(subject):
    module, params, x_BLD = subject
    y_BLD = run(module, params, x_BLD)[0]
    for place in range(L):
        moved = run(module, params, x_BLD + (np.arange(L) == place)[:, None].astype("float32"))[0]
        assert np.all(np.abs(moved - y_BLD).max(axis=(0, 2)) > 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_keeps_its_dtype(subject, dtype):
    module, params, x_BLD = subject
    y_BLD = call(packed, module.clone(dtype=dtype), params, x_BLD.astype(jnp.dtype(dtype)))
    assert y_BLD.dtype == dtype
    close(y_BLD, call(packed, module, params, x_BLD), tolerance=0.05)


def test_there_is_no_state(subject):
    module, params, x_BLD = subject
    with pytest.raises(ValueError, match="sees later tokens and has no state: choose a causal mixer"):
        module.init_state(B)
    with pytest.raises(ValueError, match="has no state"):
        module.apply(params, x_BLD, jnp.zeros((B, D)))
    assert not module.causal


def test_a_side_input_is_read_in_both_directions():
    """With one time for all tokens of a row, a row read backwards is the row with the two mixers exchanged."""
    module = Bidirectional(width=D, mixer=Decay, merge="sum")
    draw = np.random.default_rng(0)
    x_BLD, elapsed_BLF = draw.normal(size=(2, 5, D)).astype(np.float32), np.float32(draw.random((2, 5, 1)))
    params = drawn(module, x_BLD, elapsed_BLF=elapsed_BLF)
    y_BLD, _ = run(module, params, x_BLD, elapsed_BLF=elapsed_BLF)
    swapped = {"params": {a: params["params"][b] for a, b in (("forward", "backward"), ("backward", "forward"))}}
    flip = lambda a: np.flip(a, 1).copy()
    got_BLD, _ = run(module, swapped, flip(x_BLD), elapsed_BLF=flip(elapsed_BLF))
    assert module.side == ("elapsed_BLF",)
    np.testing.assert_allclose(flip(got_BLD), y_BLD, atol=1e-6)


def test_a_causal_task_refuses_it_and_another_takes_it():
    options = dict(inputs=spec.tokens(5, classes=3), head=classes(3), width=D, mixer=(GRU, Bidirectional))
    model = Stack(**options)
    tokens_BL = jnp.zeros((2, 4), jnp.int32)
    logits_BC, _ = jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0), x), x), tokens_BL)
    assert logits_BC.shape == (2, 3)
    assert not model.causal and model.ahead == ["Bidirectional"]
    assert Stack(**options | {"mixer": functools.partial(Stacked, mixer=Bidirectional)}).ahead == ["Stacked"] * 2
    with pytest.raises(ConfigError, match="NextToken predicts tokens that the model must not see, but Bidirectional "):
        Experiment(resolve(launch.tiny("model.mixer=bidirectional")))
