"""Mixers that see the future: what is left of the laws for them."""

import functools

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from built import classes
from decay import Decay
from gradients import drawn, run
from subjects import OPTIONS, mixer

from seqjax import lookup, spec
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.gru import GRU
from seqjax.mixers.stacked import Stacked
from seqjax.models.stack import Stack
from seqjax.testing import laws
from seqjax.training.experiment import Experiment, resolve
from seqjax.types import ConfigError

pytestmark = pytest.mark.usefixtures("compile_once")

D = 8
FOUND = [n for n in lookup.names("seqjax.mixers") if not lookup.find(n, "seqjax.mixers", "Mixer").causal]
SUBJECTS = {
    **{name: mixer(name, OPTIONS.get(name, [{}])[0])(width=D) for name in FOUND},
    "bidirectional-sum-gru": Bidirectional(width=D, merge="sum", mixer=GRU),
    "stacked(bidirectional)": Stacked(width=D, mixer=(Bidirectional, GRU)),
}
HELD = {name: laws.of(module, tolerance=2e-5) for name, module in SUBJECTS.items()}


@pytest.mark.parametrize("law", [pytest.param(law, id=f"{name}-{law}") for name in HELD for law in HELD[name]])
def test_it_holds_the_laws_of_what_sees_later_tokens(law):
    law()


@pytest.mark.parametrize("name", SUBJECTS)
def test_there_is_no_state(name):
    module, x_BLD = SUBJECTS[name], jnp.zeros((4, 6, D))
    params = jax.eval_shape(module.init, jax.random.key(0), x_BLD)
    with pytest.raises(ValueError, match="sees later tokens and has no state: choose a causal mixer"):
        module.init_state(4)
    with pytest.raises(ValueError, match="has no state"):
        jax.eval_shape(module.apply, params, x_BLD, jnp.zeros((4, D)))
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
