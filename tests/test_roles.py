"""What a parameter is does not follow from its rank: each one is listed, and what it is decides whether it decays."""

import functools
import types

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from built import classes, logits
from test_half_precision import SUBJECTS, D, draws, forward

from seqjax import lookup, spec
from seqjax.emissions import gaussian, mixture, neural
from seqjax.mixers._recurrent import Recurrent
from seqjax.models import gmm, hmm, markov
from seqjax.tasks import Reads
from seqjax.training import state
from seqjax.training.experiment import Experiment, resolve

FULL = functools.partial(gaussian.Emission, covariance="full")
# Mixer or model -> its matrices; its vectors. Of models, without what stands in their mixers.
TABLE = {
    "attention": (
        "bilinear gates/kernel location/kernel out/kernel places qkv/kernel",
        "bias direction log_temperature norm_k/scale norm_q/scale relative sink",
    ),
    "attention_rnn": ("feed kernel key out places predict query recurrent", "bias bias_n centre sharpness v"),
    "bidirectional": (
        "backward/kernel backward/recurrent forward/kernel forward/recurrent out/kernel",
        "backward/bias forward/bias out/bias",
    ),
    "cnn": ("kernel_0 kernel_1", "bias"),
    "conv_lstm": ("kernel recurrent", "bias initial_0 initial_1"),
    "cross_attention": ("kv/kernel out/kernel q/kernel", "norm_k/scale norm_q/scale"),
    "gated": (
        "inner/inner/kernel inputs/kernel out/kernel",
        "inner/bias inner/filter inner/inner/bias inner/inner/decay inputs/bias out/bias",
    ),
    "gated_conv": ("inputs/kernel kernel", "bias filter inputs/bias"),
    "gru": ("kernel recurrent", "bias bias_n initial_0"),
    "hgrn": ("inputs/kernel out/kernel", "norm/scale"),
    "hyena": (
        "filters/layers_0/kernel filters/layers_1/kernel filters/layers_2/kernel filters/out/kernel inputs/kernel "
        "out/kernel",
        "bias filters/layers_0/bias filters/layers_1/bias filters/layers_2/bias filters/speed inputs/bias out/bias "
        "short skip",
    ),
    "interactive": ("key out", "w_m w_x w_xm"),
    "linear_attention": ("maps out/kernel qkv/kernel", ""),
    "lru": ("inputs/kernel outputs/kernel", "gamma nu skip theta"),
    "lstm": ("kernel projection recurrent", "bias bias_c initial_0 initial_1 peepholes scale scale_c scale_x"),
    "mamba": (
        "choice/kernel inputs/kernel kernel_dt out/kernel",
        "bias bias_dt filter rate skip",
    ),
    "mgu": ("kernel recurrent", "bias initial_0"),
    "min_gru": ("inputs/kernel", "inputs/bias"),
    "min_lstm": ("inputs/kernel", "inputs/bias"),
    "parallel": (
        "mixers_0/out/kernel mixers_0/qkv/kernel mixers_1/kernel out/kernel",
        "mixers_1/bias mixers_1/decay norms_0/scale norms_1/scale",
    ),
    "qrnn": ("filter", "bias"),
    "rcnn": (
        "backward/kernel backward/recurrent forward/kernel forward/recurrent out/kernel",
        "backward/bias forward/bias out/bias",
    ),
    "rg_lru": ("kernel", "bias decay"),
    "rnn": ("kernel recurrent", "bias initial_0"),
    "s4d": ("out/kernel", "c dt frequency out/bias rate skip"),
    "s5": ("inputs/kernel outputs/kernel", "dt imaginary real skip"),
    "short_conv": ("inner/kernel inner/recurrent", "bias filter inner/bias"),
    "slstm": ("kernel recurrent", "bias initial_0"),
    "sparse_attention": ("out/kernel qkv/kernel", ""),
    "sru": ("inputs/kernel", "bias v"),
    "stacked": (
        "layers_0/kernel layers_0/recurrent layers_1/kernel layers_1/recurrent",
        "layers_0/bias layers_1/bias",
    ),
    "tcn": (
        "convolutions_0/kernel convolutions_1/kernel",
        "convolutions_0/bias convolutions_0/scale convolutions_1/bias convolutions_1/scale",
    ),
    "token_shift": ("inner/kernel inner/recurrent", "inner/bias mix"),
    "delta_net": ("gates inputs/kernel out/kernel", "filter scale"),
    "gated_delta_net": ("gates inputs/kernel out/kernel", "bias_dt filter rate scale"),
    "gla": ("gates inputs/kernel low/kernel out/kernel", "bias scale"),
    "hgrn2": ("gates inputs/kernel out/kernel", "scale"),
    "mamba2": ("gates inputs/kernel out/kernel", "bias bias_dt filter rate scale skip"),
    "mlstm": ("gates out/kernel qk/kernel vo/kernel", "bias_f bias_i filter scale"),
    "retnet": ("inputs/kernel out/kernel", ""),
    "rwkv7": (
        "decay down gates out/kernel rate rkv",
        "alpha bias bias_decay bias_rate rho scale shift xi",
    ),
    "linear": ("head/kernel", "head/bias"),
    "markov": ("", "back_off child first log_p oldest prior root token unigram"),
    "gmm": (
        "",
        "emission/component/log_scale emission/component/lower emission/component/mean emission/logits prior",
    ),
    "hmm": (
        "emission/network/down_0/kernel emission/network/embedding emission/network/out/kernel "
        "emission/network/up_0/kernel transition/down_0/kernel transition/embedding transition/out/kernel "
        "transition/up_0/kernel",
        "emission/log_scale emission/mean emission/network/down_0/bias emission/network/norm_0/bias "
        "emission/network/norm_0/scale emission/network/out/bias emission/network/up_0/bias prior start transition "
        "transition/down_0/bias transition/norm_0/bias transition/norm_0/scale transition/out/bias "
        "transition/up_0/bias",
    ),
    "stack": (
        "embedding/embedding embedding/kernel head/kernel mlp/down/kernel mlp/gate/kernel mlp/up/kernel score/kernel",
        "embedding/bias head/bias mlp/down/bias mlp/gate/bias mlp/up/bias norm_mixer/bias norm_mixer/scale "
        "norm_mlp/bias norm_mlp/scale norm_out/bias norm_out/scale score/bias",
    ),
    "pair": (
        "compare/kernel embedding/embedding head/kernel mlp/down/kernel mlp/up/kernel reader/mlp/down/kernel "
        "reader/mlp/up/kernel",
        "compare/bias head/bias mlp/down/bias mlp/up/bias norm_composed/bias norm_composed/scale norm_mixer/bias "
        "norm_mixer/scale norm_mlp/bias norm_mlp/scale norm_out/bias norm_out/scale reader/mlp/down/bias "
        "reader/mlp/up/bias reader/norm_mixer/bias reader/norm_mixer/scale reader/norm_mlp/bias reader/norm_mlp/scale",
    ),
    "seq2seq": (
        "embedding/embedding head/kernel mlp/down/kernel mlp/up/kernel source_embedding/embedding",
        "head/bias mlp/down/bias mlp/up/bias norm_memory/bias norm_memory/scale norm_mixer/bias norm_mixer/scale "
        "norm_mlp/bias norm_mlp/scale norm_out/bias norm_out/scale",
    ),
}
VALUES = spec.features(D)
FLOAT32 = {  # models that are no subjects of the half-precision tests, and what each reads
    "gmm": [
        (
            gmm.Model(
                inputs=VALUES,
                head=classes(3),
                emission=functools.partial(mixture.Emission, components=2, component=FULL),
            ),
            jnp.ones((2, 4, D)),
        )
    ],
    "markov": [
        (
            markov.Model(
                inputs=spec.tokens(D, classes=2),
                head=classes(2),
                order=1,
                smoothing="witten_bell",
                documents=lambda: (np.arange(D), np.arange(D) % 2 == 0, 2 * np.arange(D) // D),
            ),
            jnp.ones((2, 4), jnp.int32),
        )
    ],
    "hmm": [
        (hmm.Model(inputs=VALUES, head=classes(3), states=2), jnp.ones((2, 4, D))),
        (
            hmm.Model(inputs=spec.tokens(D), head=logits(D), states=2, transition_width=4, emission=neural.Emission),
            jnp.ones((2, 4), jnp.int32),
        ),
    ],
}
MORE = {"lstm": [dict(layer_norm=True)]}  # options with parameters that no other test of all mixers has


def variants(name):
    """Modules that have all parameters there are, each with what it reads."""
    for subject, make in SUBJECTS.items():
        if subject.split("-")[0] == name:
            yield make(), draws(subject, 2, 4)
    for model, x in FLOAT32.get(name, []):
        yield model, [x]
    cls = name in lookup.names("seqjax.mixers") and lookup.find(name, "seqjax.mixers", "Mixer")
    if cls and issubclass(cls, Recurrent):
        for options in (dict(initial_state="learned"), *MORE.get(name, [])):
            yield cls(width=D, **options), [jnp.ones((2, 4, D))]


def roles(module, given) -> dict[str, bool]:
    """Parameter -> whether it is a matrix."""
    how = dict(method=forward) if hasattr(module, "dtype") else {}
    init = lambda key, *_, **__: module.init(key, *given, **how)
    task = types.SimpleNamespace(reads=lambda batch: Reads(batch["mask"], batch["mask"]), length=lambda L: L)
    found = state.matrices(types.SimpleNamespace(init=init, side=()), task, {"mask": jnp.ones((1, 1), bool)})
    return {jax.tree_util.keystr(p, simple=True, separator="/"): it for p, it in jax.tree.leaves_with_path(found)}


@pytest.mark.parametrize("name", [n for room in ("mixers", "models") for n in lookup.names(f"seqjax.{room}")])
def test_every_parameter_has_a_role(name):
    found = {}
    for module, given in variants(name):
        found |= roles(module, given)
    if name in lookup.names("seqjax.models"):
        own = {n: n.partition("/")[2] if "blocks_" in n else n for n in found if "/mixer/" not in n}
        found = {short: found[n] for n, short in own.items()}
    of = lambda role: " ".join(sorted(n for n, is_it in found.items() if is_it == role))
    assert (of(True), of(False)) == TABLE[name]


def test_what_a_mixer_calls_a_vector_neither_decays_nor_is_turned():
    """Row 64: peepholes are three vectors, for adamw as for muon."""

    def moved(optimiser, gradient):
        mixer = ("model.mixer.name=lstm", "model.mixer.peepholes=true")
        e = Experiment(
            resolve(launch.tiny(*mixer, f"optim.name={optimiser}", "optim.weight_decay=0.5", "optim.clip_norm=none"))
        )
        params = jax.tree.map(lambda s: jnp.full(s.shape, 0.1), e.shapes.params)
        gradients = jax.tree.map(lambda p: jnp.full(p.shape, gradient), params)
        return e.learner.tx.update(gradients, e.learner.init(params), params, step=0)[0]["blocks_0"]["mixer"]

    for optimiser in ("adamw", "muon"):
        still = [name for name, update in moved(optimiser, 0.0).items() if not jnp.any(update)]
        assert sorted(still) == ["bias", "peepholes"]
    turned = moved("muon", 1.0)
    assert jnp.allclose(turned["peepholes"], turned["bias"][0]) and not jnp.allclose(
        turned["kernel"], turned["bias"][0]
    )
