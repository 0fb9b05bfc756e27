"""Mixers that see the future: what is left of the laws for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close, evaluate

from seqjax import lookup, masks
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.gru import GRU
from seqjax.mixers.stacked import Stacked
from seqjax.models import classifier, lm
from seqjax.types import Spec

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D = 4, 6, 8
BOTH = ["xx..Rx", ".Rx.Rx", "xxrxRx", "......"]  # the letters of tests/test_laws.py
FOUND = [n for n in lookup.names("seqjax.mixers") if not lookup.find(n, "seqjax.mixers", "Mixer").causal]
SUBJECTS = {
    **{name: lookup.find(name, "seqjax.mixers", "Mixer")(width=D) for name in FOUND},
    "bidirectional-sum-gru": Bidirectional(width=D, merge="sum", mixer=GRU),
    "stacked(bidirectional)": Stacked(width=D, mixer=(Bidirectional, GRU)),
}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request):
    module = SUBJECTS[request.param]
    x_BLD = jax.random.normal(jax.random.key(0), (B, L, D))
    return module, module.init(jax.random.key(1), x_BLD), x_BLD


def flags():
    letters = np.array([list(row) for row in BOTH])
    return np.isin(letters, ["x", "R"]), np.isin(letters, ["R", "r"])


def packed(module, params, x_BLD):
    mask_BL, reset_BL = flags()
    return jax.jit(module.apply)(params, x_BLD, None, mask_BL=mask_BL, reset_BL=reset_BL)[0]


def apart(module, params, x_BLD):
    """Each document alone, with neither mask nor reset."""
    y_BLD = jnp.zeros_like(x_BLD)
    for row, letters in enumerate(BOTH):
        documents = []
        for place, letter in enumerate(letters):
            if letter == "R" or (letter == "x" and not documents):
                documents.append([])
            if letter in "xR":
                documents[-1].append(place)
        for places in documents:
            places = np.array(places)
            y_BLD = y_BLD.at[row, places].set(module.apply(params, x_BLD[row, places][None])[0][0])
    return y_BLD


def test_packed_documents_are_documents_apart(subject):
    module, params, x_BLD = subject
    of = lambda f: evaluate(functools.partial(f, module), params, x_BLD)
    close(of(packed), of(apart))


def test_what_is_masked_changes_nothing(subject):
    module, params, x_BLD = subject
    mask_BL, _ = flags()
    noise_BLD = masks.fill(x_BLD, mask_BL, jnp.nan)
    y, gradients = evaluate(functools.partial(packed, module), params, noise_BLD)
    close((y, gradients), evaluate(functools.partial(packed, module), params, x_BLD))
    assert not np.any(y[~mask_BL]) and not np.any(gradients[1][~mask_BL])


def test_every_token_sees_all_of_its_document(subject):
    module, params, x_BLD = subject
    y_BLD = module.apply(params, x_BLD)[0]
    for place in range(L):
        moved = module.apply(params, x_BLD.at[:, place].add(1.0))[0]
        assert np.all(np.abs(moved - y_BLD).max(axis=(0, 2)) > 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_keeps_its_dtype(subject, dtype):
    module, params, x_BLD = subject
    y_BLD = packed(module.clone(dtype=dtype), params, x_BLD.astype(dtype))
    assert y_BLD.dtype == dtype
    close(y_BLD, packed(module, params, x_BLD), tolerance=0.05)


def test_there_is_no_state(subject):
    module, params, x_BLD = subject
    with pytest.raises(ValueError, match=r"sees later tokens and has no state: use only its inner mixer"):
        module.init_state(B)
    with pytest.raises(ValueError, match="has no state"):
        module.apply(params, x_BLD, jnp.zeros((B, D)))
    assert not module.causal


def test_a_language_model_refuses_it_and_a_classifier_takes_it():
    options = dict(inputs=Spec(vocabulary=5, classes=3), outputs=3, width=D, mixer=(GRU, Bidirectional))
    with pytest.raises(ValueError, match="must not see the tokens that it predicts, but Bidirectional does"):
        lm.Model(**options)
    with pytest.raises(ValueError, match="must not see the tokens that it predicts, but Stacked does"):
        lm.Model(**options | {"mixer": functools.partial(Stacked, mixer=Bidirectional)})
    model = classifier.Model(**options)
    tokens_BL = jnp.zeros((2, 4), jnp.int32)
    logits_BC, _ = model.apply(model.init(jax.random.key(0), tokens_BL), tokens_BL)
    assert logits_BC.shape == (2, 3)
