"""Conditional random fields against all C^L sequences of tags, one by one, and against python-crfsuite."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import crf, losses
from seqjax.ops.crf import Potentials
from seqjax.spans import Scheme

RNG = np.random.default_rng(0)
L, N = 6, 5
NAMES = ("O", "B-x", "I-x", "I-y")
C, SCHEME = len(NAMES), Scheme.of(NAMES)
REAL = np.array(
    [[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1], [1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool
)
FRESH = np.zeros_like(REAL)
FRESH[4, 3] = True
FRESH[1, 0] = True  # a masked token starts nothing
B = len(REAL)
UNARY = RNG.normal(size=(B, L, C)).astype(np.float32)
START, END, MOVE = (RNG.normal(size=shape).astype(np.float32) for shape in (C, C, (C, C)))
TAGS = RNG.integers(0, C, (B, L))


def documents(row):
    found = []
    for t in np.flatnonzero(REAL[row]):
        if not found or FRESH[row, t]:
            found.append([])
        found[-1].append(t)
    return found


def weights(row, unary, start, move, end):
    """Every sequence of tags of a row -> its weight: the documents are independent."""
    rows, tokens = [{(): 0.0}], np.flatnonzero(REAL[row])
    for document in documents(row):
        found = {}
        for tags in itertools.product(range(C), repeat=len(document)):
            weight = start[tags[0]] + end[tags[-1]]
            weight += sum(unary[row, t, tag] for t, tag in zip(document, tags, strict=True))
            found[tags] = weight + sum(move[a, b] for a, b in itertools.pairwise(tags))
        rows.append(found)
    picks = itertools.product(*(each.items() for each in rows))
    return tokens, {sum((tags for tags, _ in pick), ()): sum(w for _, w in pick) for pick in picks}


def brute(row, *potentials):
    """log p of the tags, the n best, and the marginals; the expected counts."""
    tokens, found = weights(row, *potentials)
    paths, w = np.array([*found]).reshape(len(found), len(tokens)), np.array([*found.values()], np.float64)
    log_p = w - np.logaddexp.reduce(w)
    order = np.argsort(-log_p)[:N]
    tags, marginal = np.zeros((N, L), int), np.zeros((L, C))
    for n, place in enumerate(order):
        tags[n, tokens] = paths[place]
    with np.errstate(divide="ignore"):
        for i, t in enumerate(tokens):
            marginal[t] = np.log([np.exp(log_p[paths[:, i] == k]).sum() for k in range(C)])
    best = np.full(N, -np.inf)
    best[: len(order)] = log_p[order]
    given = dict(zip(found, log_p, strict=True))[tuple(TAGS[row, tokens])]
    return given, tags, best, marginal


@jax.jit
def everything(potentials):
    flags = dict(mask_BL=REAL, reset_BL=FRESH)
    summed = lambda potentials: jnp.sum(jnp.maximum(crf.log_likelihood(potentials, TAGS, **flags), -1e30))
    return (
        crf.log_likelihood(potentials, TAGS, **flags),
        crf.decode(potentials, **flags),
        crf.n_best(N, potentials, **flags),
        crf.marginals(potentials, **flags),
        jax.grad(summed)(potentials),
    )


close = lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("bound", [False, True], ids=["free", "constrained"])
def test_sums_and_maxima_are_those_over_all_tags(bound):
    potentials = Potentials(UNARY, START, MOVE, END)
    if bound:
        potentials = jax.tree.map(np.asarray, jax.jit(lambda p: p.within(*SCHEME.allowed))(potentials))
    hidden = potentials._replace(unary_BLC=np.where(REAL[..., None], UNARY, np.nan))
    likely, (tags, best), (several, scores), marginals, slopes = everything(hidden)
    for row in range(B):
        given, wanted, log_p, marginal = brute(row, *map(np.float64, potentials))
        close(likely[row], given)
        for n in range(N):
            close(scores[row, n], log_p[n])
            if log_p[n] > -np.inf:
                np.testing.assert_array_equal(several[row, n], wanted[n])
        np.testing.assert_array_equal(tags[row], wanted[0])
        close(best[row], log_p[0])
        close(np.exp(marginals[row]) * REAL[row][:, None], np.exp(marginal) * REAL[row][:, None])
    assert all(np.isfinite(slope).all() for slope in slopes)
    if not bound:  # the gradient is what is there, less what is expected
        once = np.eye(C)[TAGS] * REAL[..., None]
        close(slopes.unary_BLC, once - np.exp(marginals) * REAL[..., None])
        first, last = (np.array([d[place] for row in range(B) for d in documents(row)]) for place in (0, -1))
        rows = [row for row in range(B) for _ in documents(row)]
        wanted = once - np.exp(marginals) * REAL[..., None]
        close(slopes.start_C, wanted[rows, first].sum(0))
        close(slopes.end_C, wanted[rows, last].sum(0))


def test_the_gradient_of_a_transition_is_a_slope():
    step, shift = 1e-2, RNG.normal(size=(C, C)).astype(np.float32)
    at = lambda size: Potentials(UNARY, START, MOVE + size * shift, END)
    value = lambda potentials: float(np.sum(everything(potentials)[0]))
    slope = np.sum(everything(at(0.0))[-1].transition_CC * shift)
    np.testing.assert_allclose(slope, (value(at(step)) - value(at(-step))) / (2 * step), rtol=1e-2)


def test_without_transitions_it_is_a_softmax_per_token():
    """And a chain whose other scores are zero."""
    zeros = np.zeros((C, C), np.float32)
    plain, chained, flags = Potentials(UNARY), Potentials(UNARY, zeros[0], zeros, zeros[0]), dict(mask_BL=REAL)
    of = lambda p: (crf.log_likelihood(p, TAGS, **flags), crf.decode(p, **flags))
    (likely, best), other, marginals = jax.jit(lambda a, b: (of(a), of(b), crf.marginals(a, **flags)))(plain, chained)
    jax.tree.map(close, (likely, best), other)
    p = np.exp(UNARY) / np.exp(UNARY).sum(-1, keepdims=True)
    wanted = np.log(np.take_along_axis(p, TAGS[..., None], -1)[..., 0]) * REAL
    close(likely, wanted.sum(1))
    close(np.exp(marginals) * REAL[..., None], p * REAL[..., None])
    assert Potentials.of(UNARY).transition_CC is None and Potentials.of(chained) is chained


def test_logits_of_many_tags_are_read_in_chunks(monkeypatch):
    """A chunk is one token of all rows; the values are those of one array, and so are the gradients."""
    weight = RNG.normal(size=(3, C)).astype(np.float32)
    x_BLD = RNG.normal(size=(*TAGS.shape, 3)).astype(np.float32)

    def total(weight):
        p = Potentials.of(losses.logits(x_BLD, weight, None, REAL, "BLD,DV->BLV", "float32"))
        likely_B = crf.log_likelihood(p, TAGS, mask_BL=REAL)
        return jnp.sum(likely_B), (likely_B, crf.decode(p, mask_BL=REAL), isinstance(p.unary_BLC, losses.Logits))

    (_, (*whole, chunked)), slope = jax.value_and_grad(total, has_aux=True)(weight)
    monkeypatch.setattr(losses, "LARGE", 0)
    monkeypatch.setattr(losses, "CHUNK", 1)
    (_, (*parts, now)), found = jax.value_and_grad(total, has_aux=True)(weight)
    assert (chunked, now) == (False, True)
    jax.tree.map(close, (parts, found), (whole, slope))


def test_what_is_forbidden_gets_no_gradient_and_is_no_parameter():
    start, moves, end = SCHEME.allowed
    tags = np.array([[0, 1, 2, 0, 1, 2]])
    loss = lambda p: -jnp.sum(crf.log_likelihood(p.within(start, moves, end), tags))
    slopes = jax.jit(jax.grad(loss))(Potentials(UNARY[:1], START, MOVE, END))
    assert not np.any(np.asarray(slopes.transition_CC)[~moves]) and not np.any(np.asarray(slopes.start_C)[~start])
    assert np.any(np.asarray(slopes.transition_CC)[moves])


def test_half_precision_is_read_in_float32():
    low = Potentials(UNARY.astype(jnp.bfloat16), START, MOVE, END)
    found = jax.eval_shape(lambda p: (crf.log_likelihood(p, TAGS), crf.decode(p)[1], crf.marginals(p)), low)
    assert all(leaf.dtype == jnp.float32 for leaf in found)


def test_what_does_not_fit_is_refused():
    potentials = Potentials(UNARY, START, MOVE, END)
    for wrong, words in [
        (lambda: crf.decode(potentials._replace(end_C=END[:2])), "ncompatible|roadcast"),
        (lambda: crf.decode(potentials._replace(transition_CC=MOVE[:2])), r"transition is \[2, 4\], wanted \[4, 4\]"),
        (lambda: crf.log_likelihood(Potentials(UNARY), TAGS, mask_BL=REAL[:1]), r"mask_BL is bool\[1, 6\]"),
        (lambda: crf.n_best(0, potentials), "n=0, wanted the number of paths"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            jax.eval_shape(wrong)


def test_against_crfsuite(tmp_path):
    pycrfsuite = pytest.importorskip("pycrfsuite")
    trainer, words, tags = pycrfsuite.Trainer(verbose=False), "uvwx", "ABC"
    for _ in range(20):
        y = RNG.choice(list(tags), RNG.integers(2, 7))
        trainer.append(
            [[str(RNG.choice(list(words))), f"y={tag if RNG.random() > 0.4 else 'A'}"] for tag in y], list(y)
        )
    trainer.set_params({"max_iterations": 20})
    trainer.train(str(tmp_path / "model"))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(tmp_path / "model"))
    found, names = tagger.info(), tagger.labels()
    move = np.array([[found.transitions.get((a, b), 0.0) for b in names] for a in names], np.float32)
    items = [["u", "y=A"], ["x", "y=B"], ["v", "y=A"], ["w", "y=C"], ["u", "y=B"]]
    unary = np.array([[sum(found.state_features.get((f, s), 0.0) for f in item) for s in names] for item in items])
    zeros = np.zeros(len(names), np.float32)
    potentials = Potentials(np.float32(unary[None]), zeros, move, zeros)
    given = ["A", "B", "A", "C", "A"]
    ids = np.array([[names.index(tag) for tag in given]])
    likely, (best, log_p), marginals = jax.jit(lambda p: (crf.log_likelihood(p, ids), crf.decode(p), crf.marginals(p)))(
        potentials
    )
    tagger.set(items)
    assert [names[k] for k in best[0]] == tagger.tag()
    np.testing.assert_allclose(np.exp(likely[0]), tagger.probability(given), rtol=1e-4)
    np.testing.assert_allclose(np.exp(log_p[0]), tagger.probability(tagger.tag()), rtol=1e-4)
    tagger.set(items)  # probabilities of tags leave others behind
    wanted = [[tagger.marginal(s, t) for s in names] for t in range(len(items))]
    np.testing.assert_allclose(np.exp(marginals[0]), wanted, atol=1e-5)
