"""The benchmark of chains: the opponents compute what ours computes, and it runs."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import chain

ROOT = Path(__file__).parents[2]
SIZES = dict(B=3, L=20, K=4)


def shared(what, name):
    """The part of a result that all contenders have, in one form."""
    with jax.numpy_rank_promotion("allow"):
        found = (chain.ours if name == "ours" else chain.OPPONENTS[name])(what, **SIZES).call()
    B, L, K = SIZES.values()
    if what == "filter" and name.startswith("hmmlearn"):
        return np.stack([state for state, _ in found]), sum(total for _, total in found)
    if what == "filter":
        return found[0], found[1].sum()
    if what == "smooth":
        return (np.exp(found) if name == "ours" else found).reshape(B, L, K)
    if what == "viterbi" and name == "dynamax":  # it does not say the weight
        return found, np.sum(chain.ours(what, **SIZES).call()[1])
    if what == "viterbi":
        return np.reshape(found[0], (B, L)), np.sum(found[1])
    return found[0], found[1][0], found[1][1]


@pytest.mark.slow  # two programs for each of five questions
@pytest.mark.parametrize("name", chain.OPPONENTS)
@pytest.mark.parametrize("what", chain.WHAT)
def test_opponents_compute_the_same(what, name):
    if name in ("hmmlearn_log", "hmmlearn_scaling", "dynamax"):
        pytest.importorskip(name.partition("_")[0])
    if chain.serves(name, {"what": what}):
        same = lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        jax.tree.map(same, shared(what, name), shared(what, "ours"))


def test_memory_is_compared_with_a_matrix_per_token():
    row = {"case": {"what": "em", "B": 1, "L": 1024, "K": 16}, "contenders": {"ours": {"temp_mb": 0.1}}}
    _, (_, line) = chain.memory([row, row | {"case": {"what": "filter"}}])
    assert line == ["(1, 1024, 16)", "0.1", "1.0", "0.100"]


@pytest.mark.slow  # processes of contenders
def test_the_benchmark_runs_and_writes_its_files(tmp_path):
    pytest.importorskip("hmmlearn")
    words = "--quick --pin --what viterbi em --shapes 2,8,3"
    command = [sys.executable, "-m", "benchmarks.chain", *words.split(), "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = {p.suffix: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(text) == {".json", ".md", ".png"} and b"Memory of the counts" in text[".md"]
    viterbi, em = json.loads(text[".json"])["rows"]
    chosen = lambda row: set(row["contenders"]) - {"dynamax"}  # it may be installed
    assert chosen(viterbi) == {"ours", "hmmlearn_log", "plain"}
    assert chosen(em) == {"ours", "hmmlearn_log", "hmmlearn_scaling", "plain"}
