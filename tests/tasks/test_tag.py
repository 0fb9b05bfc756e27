"""Tags of tokens, against a loop."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import spec
from seqjax.heads.crf import Crf
from seqjax.mixers.cnn import Mixer as Cnn
from seqjax.models.stack import Stack
from seqjax.ops.crf import Potentials
from seqjax.spans import Scheme
from seqjax.spec import Field, Spec
from seqjax.tasks.next_token import NextToken
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


NAMES = ("B-x", "B-y", "I-x", "I-y", "O")
SCHEME = Scheme.of(NAMES)


def of_spans(**options):
    fields = {"tokens": Field("ids", size=7), "tags": Field("ids", size=C, names=NAMES), "scored": Field("bool")}
    return Tag(spec=Spec(fields, {"L": L}), **options)


def drawn():
    """A prediction, and valid tags; some tokens have none."""
    draw, valid = np.random.default_rng(1), []
    while len(valid) < B:
        tags = draw.integers(0, C, L)
        valid += [tags] if SCHEME.fault(tags) is None else []
    data = {"tags": np.array(valid), "scored": np.ones((B, L), bool), "weight": np.array([1, 1, 1, 0], np.float32)}
    data["scored"][1] = [1, 0, 1, 1, 0, 1]
    data["mask"] = np.arange(L) < np.array([6, 6, 3, 0])[:, None]
    data["tags"][1, [1, 4]] = 3  # pieces of a word after its first: their tags are no tags
    data["tags"][1, [0, 2, 3, 5]] = [0, 2, 4, 1]
    scores = [draw.normal(size=shape).astype(np.float32) for shape in ((B, L, C), C, (C, C), C)]
    return Potentials(*scores), data


@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("constraints", ["none", "decoding", "training"])
@pytest.mark.parametrize("head", ["logits", "crf"])
def test_constraints_hold_for_every_head(head, constraints, mode):
    """Against all sequences of tags of each row."""
    task, (potentials, data) = of_spans(constraints=constraints, spans=mode, per_type=True), drawn()
    unary, *others = potentials if head == "crf" else (potentials.unary_BLC, np.zeros(C), np.zeros((C, C)), np.zeros(C))
    loss, right, tokens, counts = 0.0, 0, 0, np.zeros(3)
    for row in range(3):
        kept = np.flatnonzero(data["mask"][row] & data["scored"][row])
        paths = list(itertools.product(range(C), repeat=len(kept)))
        valid = np.array([SCHEME.fault(path) is None for path in paths])
        start, move, end = others
        weight = np.array(
            [
                start[path[0]] + end[path[-1]] + unary[row, kept, path].sum() + sum(move[a, b] for a, b in pairs)
                for path, pairs in ((path, itertools.pairwise(path)) for path in paths)
            ]
        )
        bound = np.where(valid, weight, -np.inf)
        trained, decoded = bound if constraints == "training" else weight, weight if constraints == "none" else bound
        tags = data["tags"][row, kept]
        loss -= trained[paths.index(tuple(tags))] - np.logaddexp.reduce(trained)
        best = np.array(paths[np.argmax(decoded)])
        right, tokens = right + (best == tags).sum(), tokens + len(kept)
        ours, theirs = (set(SCHEME.spans(ids, mode)) for ids in (best, tags))
        counts += [len(ours & theirs), len(ours), len(theirs)]
    prediction = potentials if head == "crf" else potentials.unary_BLC
    got = {name: value.mean() for name, value in jax.jit(task.loss)(prediction, data).items()}
    wanted = {"loss": loss / tokens, "accuracy": right / tokens, f"{mode}_f1": 2 * counts[0] / (counts[1] + counts[2])}
    wanted |= {f"{mode}_precision": counts[0] / counts[1], f"{mode}_recall": counts[0] / counts[2]}
    assert {name: got[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert task.metrics.keys() == got.keys() == wanted.keys() | {f"{mode}_f1_x", f"{mode}_f1_y"}


def test_a_model_with_a_field_has_no_steps_and_gives_its_scores():
    task = of_spans(head=Crf)
    model = Stack(inputs=task.spec, head=functools.partial(task.head, outputs=C), width=4, layers=1, mixer=Cnn)
    tokens_BL = np.zeros((2, L), np.int32)
    found, _ = jax.eval_shape(lambda key: model.init_with_output(key, tokens_BL)[0], jax.random.key(0))
    assert jax.tree.map(jnp.shape, found) == ((2, L, C), (C,), (C, C), (C,))
    with pytest.raises(ValueError, match="the head Crf reads whole sequences, so this model has no state"):
        model.init_state(2)


def test_other_tasks_take_no_field():
    with pytest.raises(ValueError, match="Crf scores the tags of a sequence together, but NextToken needs one"):
        NextToken(spec=spec.tokens(7, L), head=Crf)


def test_tags_that_mark_no_spans_have_no_constraints():
    for options in (dict(constraints="decoding"), dict(per_type=True)):
        with pytest.raises(ValueError, match=f"{min(options)}=.* needs tags that mark spans"):
            Tag(spec=Spec(SEQUENCE, {"L": L}), **options)
