"""Who must hold the laws: every mixer, in each variant that adds a path, and models that stand for all others.

A new file in seqjax/mixers is found here without an entry anywhere.
"""

import functools

import numpy as np
from built import logits
from decay import Decay

from seqjax import lookup, spec
from seqjax.mixers import stacked
from seqjax.mixers._base import check_state
from seqjax.models import hmm, markov, seq2seq, stack
from seqjax.models._blocks import Backbone
from seqjax.testing.subject import second

L, D, V, S = 6, 8, 7, 4
CONTEXT = 8

# A covering array: any two choices of `AXES` occur together, and each kind of positions, scores and weights occurs.
ATTENTION = [
    dict(heads=2, max_length=CONTEXT),
    dict(heads=1, max_length=CONTEXT, positions="none", backend="blockwise"),
    dict(heads=2, kv_heads=1, max_length=CONTEXT, positions="learned", qk_norm=True, soft_cap=1.0, sinks=True,
         output_gate="feature", backend="blockwise"),
    dict(heads=2, kv_heads=2, window=2, dilation=2, score="general", qk_norm=True, output_gate="head"),
    dict(heads=2, window=2, positions="sinusoidal", sinks=True, backend="blockwise"),
    dict(heads=2, kv_heads=1, max_length=CONTEXT, rope_scaling="yarn", rope_factor=4.0, rope_original_length=4,
         score="additive"),
    dict(heads=2, kv_heads=1, window=3, positions="alibi", output_gate="head", backend="blockwise"),
    dict(heads=2, max_length=CONTEXT, positions="relative", num_buckets=4, max_distance=5, score="cosine",
         weights="entmax"),
    dict(heads=2, window=3, max_length=CONTEXT, positions="sinusoidal", score="location", weights="sigmoid",
         output_gate="feature"),
]  # fmt: skip
PLACES = {"learned": "in x", "sinusoidal": "in x", "alibi": "in scores", "relative": "in scores"}
AXES = {
    "positions": lambda o: PLACES.get(o.get("positions"), "in q and k"),
    "window": lambda o: "window" in o,
    "key heads": lambda o: "fewer" if o.get("kv_heads", o["heads"]) < o["heads"] else "all",
    "backend": lambda o: o.get("backend", "auto"),
    "scores": lambda o: "held" if o.get("score") in ("additive", "location") or "weights" in o else "in blocks",
    "output gate": lambda o: "output_gate" in o,
}

# A norm of outputs that nearly cancel multiplies rounding errors: of few random tokens, some do.
CALM = dict(norm_eps=0.1)

# What is not listed is tested with its defaults. A variant names a path that no other one takes.
OPTIONS = {
    "attention": ATTENTION,
    "attention_rnn": [
        {},
        dict(cell="lstm", score="general", alignment="local_m", radius=1),
        dict(style="luong", score="cosine", weights="entmax", alignment="local_p", radius=2),
        dict(style="luong", cell="lstm", score="location", max_source_length=3, weights="sigmoid", input_feeding=False),
    ],
    "interactive": [{}, dict(heads=2, score="general", fusion="coattention")],
    "sparse_attention": [dict(heads=2, max_length=CONTEXT, block_size=2, local_blocks=0, random_blocks=1)],
    "cross_attention": [dict(heads=2), dict(heads=2, kv_heads=1, qk_norm=True, backend="blockwise")],
    "linear_attention": [
        dict(heads=2),
        dict(heads=1, feature_map="taylor", feature_width=2),
        dict(heads=2, feature_map="learned", feature_width=3),
    ],
    "lru": [{}, dict(state_size=3)],
    "min_gru": [{}, dict(candidate="positive")],
    "conv_lstm": [dict(kernel_size=2)],
    "gru": [{}, dict(reset_after=False, zoneout=0.2, remat="chunk")],
    "lstm": [{}, dict(peepholes=True, hidden_size=6, initial_state="learned")],
    "mamba": [dict(state_size=4), dict(state_size=4, signed=True)],
    "mgu": [dict(initial_state="learned", remat="chunk")],
    "rnn": [{}, dict(activation="relu")],
    "s4d": [dict(state_size=4)],
    "s5": [dict(state_size=6, blocks=2)],
    "sru": [{}, dict(peepholes=False)],
    "slstm": [dict(heads=2)],
    "stacked": [dict(residual=True)],
    "tcn": [dict(levels=1)],
    "gated_conv": [{}, dict(depthwise=False, activation="sigmoid")],
    "hyena": [dict(filter_length=4, filter_width=5, bands=2)],
    "cnn": [dict(kernel_sizes=(2, 11))],
    "delta_net": [dict(heads=2, conv_width=2, **CALM), dict(heads=2, conv_width=0, beta_max=2.0, **CALM)],
    "gated_delta_net": [dict(heads=2, conv_width=2, **CALM)],
    "gla": [dict(heads=2, gate_rank=3, **CALM)],
    "hgrn2": [dict(heads=2, **CALM), dict(heads=2, lower_bound=0.2, **CALM)],
    "mamba2": [dict(heads=2, state_size=3, conv_width=2, **CALM)],
    "mlstm": [
        dict(heads=2, conv_width=2, **CALM),
        dict(heads=2, conv_width=0, qk_factor=0.5, soft_cap=2.0, input_gate="sigmoid", **CALM),
    ],
    "retnet": [dict(heads=2, **CALM)],
    "rwkv7": [dict(heads=2, rank=3, **CALM)],
}


class Blocks(Backbone, kw_only=True):
    """The blocks of a model and nothing else: features in, features out."""

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        if state is not None:
            check_state("Blocks", state, self.init_state, x_BLD.shape[0])
        after = []
        for block, before in zip(self.blocks, state or [None] * self.layers, strict=True):
            x_BLD, new = block(x_BLD, before, mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
            after.append(new)
        return x_BLD, state and tuple(after)

    def step(self, x_BD, state, *, mask_B=None, reset_B=None):
        widen = lambda flag_B: None if flag_B is None else flag_B[:, None]
        y_BLD, state = self(x_BD[:, None], state, mask_BL=widen(mask_B), reset_BL=widen(reset_B))
        return y_BLD[:, 0], state


def documents():
    """The tokens of three documents, where they begin, and no classes."""
    draw = np.random.default_rng(0)
    return draw.geometric(0.3, 400) % V, np.arange(400) % 150 == 0, None


def mixer(name, options):
    return functools.partial(lookup.find(name, "seqjax.mixers", "Mixer"), **options)


TOKENS = dict(inputs=spec.tokens(V), head=logits(V), width=D, expansion=0.0)
PAIRS = TOKENS | dict(inputs=spec.tokens(V, source=(V, S)), encoder_layers=1)
FEATURES = dict(inputs=spec.features(D), head=logits(D), width=D, expansion=1.0)
COUNTED = dict(inputs=TOKENS["inputs"], head=TOKENS["head"], order=2, documents=documents)
GRU, HEADS = mixer("gru", {}), mixer("attention", ATTENTION[0])


def model(name):
    """A model of one layer of a mixer, which stands for all layers of it."""
    only = dict(mixer=mixer(name, OPTIONS.get(name, [{}])[0]), layers=1)
    if lookup.find(name, "seqjax.mixers", "Mixer").memory:
        return seq2seq.Model(**PAIRS, **only, cross_attention=None)
    return stack.Model(**TOKENS, **only)


SUBJECTS, FIRST = {}, []  # the latter: one for each mixer, and the models
# FIRST, and three of attention; others meet test_laws.py in `make test-slow`, seconds each. So does lm(attention): what
# it has are the head of lm(gru), the mixer by itself, and caches within a model, which lm(attention,gru) has too.
DAILY = []
MIXERS = [n for n in lookup.names("seqjax.mixers") if lookup.find(n, "seqjax.mixers", "Mixer").causal]
for name in MIXERS:  # the others: tests/mixers/test_bidirectional.py
    for variant, options in enumerate(OPTIONS.get(name, [{}])):
        words = "-".join([name, *(str(v) for k, v in options.items() if k != "max_length")])
        SUBJECTS[words] = mixer(name, options)(width=D)
        FIRST += [words] if variant == 0 else []
        DAILY += [words] if variant == 0 or (name == "attention" and variant in (2, 3)) else []
MODELS = {
    "stack(gru)": model("gru"),
    "stack(attention)": model("attention"),
    "stack(stacked)": model("stacked"),
    "stack(decay)": stack.Model(**TOKENS, layers=2, mixer=(Decay, functools.partial(stacked.Stacked, mixer=Decay))),
    "seq2seq(cross_attention)": model("cross_attention"),
    "blocks(gru,attention)": Blocks(**FEATURES, mixer=(GRU, HEADS), layers=2),
    "stack(attention,gru)": stack.Model(**TOKENS, mixer=(HEADS, GRU), layers=2, tie_embeddings=True, norm="rms"),
    "seq2seq(attention,gru)": seq2seq.Model(**PAIRS, mixer=(HEADS, GRU)),
    "markov": markov.Model(**COUNTED, smoothing="witten_bell"),
    "markov-additive": markov.Model(**COUNTED, smoothing="additive"),
    "hmm": hmm.Model(inputs=TOKENS["inputs"], head=TOKENS["head"], states=4),
}
SUBJECTS |= MODELS
FEW = [name for name in MODELS if name != "lm(attention)"]
FIRST += FEW
DAILY += FEW
READERS = [name for name, module in SUBJECTS.items() if second(module)]
CACHED = [name for name, module in SUBJECTS.items() if module.capacity is not None]
