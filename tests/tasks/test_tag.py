"""Tags of tokens, against a loop."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import spec
from seqjax.spec import Field, Spec
from seqjax.tasks.tag import Tag

B, L, C = 4, 6, 5
SEQUENCE = {"tokens": Field("ids", size=7), "tags": Field("ids", size=C), "unknown": Field("bool")}


def test_the_loss_is_the_mean_over_real_tokens():
    draw = np.random.default_rng(0)
    data = {
        "tokens": draw.integers(0, 7, (B, L)),
        "tags": draw.integers(0, C, (B, L)),
        "unknown": draw.random((B, L)) > 0.5,
    }
    data |= {"mask": np.arange(L) < np.array([6, 3, 0, 5])[:, None], "weight": np.array([1, 1, 1, 0], np.float32)}
    logits = draw.normal(size=(B, L, C)).astype(np.float32)
    nll, right, unknown = [], [], []
    for b, t in [(b, t) for b in range(3) for t in range(L) if data["mask"][b, t]]:
        p, tag = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum(), data["tags"][b, t]
        nll.append(-np.log(p[tag]))
        right.append(p.argmax() == tag)
        unknown += [right[-1]] if data["unknown"][b, t] else []
    task = Tag(spec=Spec(SEQUENCE, {"L": L}))
    got = task.loss(jnp.asarray(logits), {name: jnp.asarray(array) for name, array in data.items()})
    wanted = {"loss": np.mean(nll), "accuracy": np.mean(right), "unknown_accuracy": np.mean(unknown)}
    assert {name: value.mean() for name, value in got.items()} == pytest.approx(wanted, rel=1e-5)
    assert task.metrics.keys() == got.keys() and task.outputs() == C
    assert task.reads(data).x is data["tokens"]


def test_characters_are_read_beside_the_words():
    fields = SEQUENCE | {"characters": Field("ids", size=9, shape=(3,))}
    data = {"tokens": np.zeros((B, L), int), "characters": np.ones((B, L, 3), int), "mask": np.ones((B, L), bool)}
    assert Tag(spec=Spec(fields, {"L": L})).reads(data).x == {
        "tokens": data["tokens"],
        "characters": data["characters"],
    }
    with pytest.raises(ValueError, match="tag needs the field tags, this source has tokens, label"):
        Tag(spec=spec.tokens(7, L, classes=2))
