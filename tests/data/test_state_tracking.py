"""Sources whose answer is the state that a word leads to: parity, modular addition, the symmetric group."""

import itertools

import numpy as np
import pytest

from seqjax.data import modular_addition, parity, s5


def odd(bits):
    """Flips once for every one."""
    state = 0
    for bit in bits:
        state = 1 - state if bit else state
    return state


def total(numbers, modulus):
    """Turns a dial, click by click."""
    state = 0
    for number in numbers:
        for _ in range(number):
            state = state + 1 if state + 1 < modulus else 0
    return state


def shuffled(ids, degree):
    """Moves every thing by one permutation after the other."""
    orders = list(itertools.permutations(range(degree)))
    places = list(range(degree))
    for symbol in ids:
        places = [orders[symbol][place] for place in places]
    return orders.index(tuple(places))


CASES = [
    (lambda **o: parity.Source(**o), 2, odd),
    (lambda **o: modular_addition.Source(modulus=7, **o), 7, lambda word: total(word, 7)),
    (lambda **o: s5.Source(**o), 120, lambda word: shuffled(word, 5)),
    (lambda **o: s5.Source(degree=3, **o), 6, lambda word: shuffled(word, 3)),
    (lambda **o: s5.Source(degree=4, generators="two", **o), 24, lambda word: shuffled(word, 4)),
]


@pytest.mark.parametrize("build, symbols, state", CASES)
def test_the_answer_is_what_a_loop_finds(build, symbols, state):
    source = build(length=9, min_length=2, examples=60)
    assert source.spec.vocabulary == symbols + 1 and source.spec.length == 11
    for split, few in (("train", 2), ("validation", 9), ("test", 9)):
        counts = set()
        for index in range(60):
            example = source.example(split, index)
            *word, end, answer = example["tokens"].tolist()
            assert end == symbols and max(word) < symbols
            assert answer == state(word)
            np.testing.assert_array_equal(example["scored"], [False] * (len(word) + 1) + [True])
            counts.add(len(word))
        assert counts == set(range(few, 10))


@pytest.mark.parametrize("build, symbols, state", CASES)
def test_the_vocabulary_does_not_depend_on_the_length(build, symbols, state):
    assert build(length=3).spec.vocabulary == build(length=99).spec.vocabulary


@pytest.mark.parametrize("degree", [3, 4, 5])
def test_two_permutations_generate_all(degree):
    source = s5.Source(degree=degree, generators="two", length=60, examples=200)
    drawn = [source.example("test", i)["tokens"] for i in range(200)]
    generators = set(np.concatenate([tokens[:60] for tokens in drawn]).tolist())
    assert len(generators) == 2
    reached, before = {0}, set()
    while reached != before:
        before = reached
        reached = reached | {shuffled([a, b], degree) for a in reached for b in generators}
    assert len(reached) == source.symbols


def test_the_order_of_permutations_matters():
    source = s5.Source(degree=3)
    assert source.answer(np.array([1, 2])) != source.answer(np.array([2, 1]))


def test_baselines():
    assert parity.Source().baselines("test") == {"accuracy": {"guessing": 0.5}}
    assert modular_addition.Source(modulus=4).baselines("test") == {"accuracy": {"guessing": 0.25}}
    source = s5.Source(degree=3, examples=50)
    answers = [int(source.example("test", i)["tokens"][-1]) for i in range(50)]
    most = max(answers.count(a) for a in answers) / 50
    assert source.baselines("test") == {"accuracy": {"most frequent answer": most}}


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: parity.Source(length=3, min_length=4), "min_length=4 is above length=3"),
        (lambda: modular_addition.Source(modulus=1), "modulus: got 1, wanted an int of at least 2"),
        (lambda: s5.Source(degree=7), "degree: got 7, wanted an int of at least 3 and at most 6"),
        (lambda: s5.Source(generators="three"), "generators: got 'three', wanted one of 'all', 'two'"),
    ],
)
def test_options_that_cannot_be(build, words):
    with pytest.raises(ValueError, match=words):
        build()
