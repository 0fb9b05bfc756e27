"""The benchmark of linear recurrences: an engine and its opponents compute the same, and growth is a slope."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import _recurrences, linear_recurrence
from seqjax import lookup

ROOT = Path(__file__).parents[2]
L = 64


@pytest.mark.slow  # a program for each opponent of each engine
@pytest.mark.parametrize("name", ["scan", "associative", "torch"])
@pytest.mark.parametrize("kind", linear_recurrence.ENGINES)
def test_opponents_compute_what_the_engine_computes(kind, name, monkeypatch):
    """Values, and gradients by tokens, weights and the state."""
    if name == "torch":
        pytest.importorskip("torch")
    monkeypatch.setattr(_recurrences, "D", 8)
    monkeypatch.setattr(_recurrences, "N", 4)
    if not linear_recurrence.serves(name, {"kind": kind, "L": L}):
        pytest.skip("the state is not multiplied elementwise")
    for what in linear_recurrence.WHAT:
        with jax.numpy_rank_promotion("allow"):  # definitions serve torch, too, which allows it
            built = [getattr(linear_recurrence, who)(what, kind, L) for who in (name, "ours")]
        got, wanted = ([np.asarray(a) for a in jax.tree.leaves(one.call())] for one in built)
        wanted = wanted[len(wanted) - len(got) :]  # torch gives no value beside gradients
        for g, w in zip(got, wanted, strict=True):
            if name == "torch" and what == "training":
                w = np.conj(w)  # the gradient by a complex number is conjugate in torch
            np.testing.assert_allclose(g, w, atol=1e-4 * np.max(np.abs(w)))


@pytest.mark.slow  # a program for each engine
@pytest.mark.parametrize("kind", ["selective", "matrix_head", "matrix_channel", "matrix_delta", "matrix_mlstm"])
def test_products_are_those_of_all_chunks(kind, monkeypatch):
    """As many numbers as y of the engine; a product reads each token of its chunk, and those of earlier ones."""
    monkeypatch.setattr(_recurrences, "D", 8)
    y = linear_recurrence.products("inference", kind, 128).call()
    assert y.size == 128 * 8 + (128 * 4) * (kind == "matrix_mlstm")  # there the sum of weights, for each head
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(linear_recurrence.products("training", kind, 128).call()))


def test_who_takes_part():
    serves = lambda name, kind, L=1024: linear_recurrence.serves(name, {"kind": kind, "L": L})
    assert serves("ours", "mamba", 65_536) and serves("scan", "selective") and serves("products", "selective")
    assert not serves("scan", "selective", 65_536) and not serves("torch", "selective", 4096)
    assert serves("associative", "matrix_channel") and not serves("associative", "matrix_delta")
    assert not serves("products", "diagonal") and not serves("scan", "mamba") and serves("attention", "mamba")


def test_mixers_that_are_linear_recurrences_are_found():
    found = linear_recurrence.mixers()
    assert {"mamba", "s4d", "min_gru"} <= set(found) <= set(lookup.names("seqjax.mixers"))
    assert not {"gru", "attention", "attention_window"} & set(found)


def test_growth_is_the_exponent_of_time_from_4096_tokens_on():
    case = lambda L: {"what": "training", "kind": "diagonal", "L": L}
    row = lambda L, ms: {"case": case(L), "contenders": {"ours": {"ms": ms, "temp_mb": L / 1024}}}
    _, (_, line) = linear_recurrence.growth([row(1024, 9.0), row(4096, 2.0), row(65_536, 2.0 * 16**1.5)])
    assert line == ["diagonal", "training", "4,096", "65,536", "1.50", "64.0", f"{4 * _recurrences.D:,}"]
    _, (_, line) = linear_recurrence.growth([row(1024, 9.0)])
    assert line[4] == ""


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_its_files(tmp_path):
    words = "--quick --pin --what inference --kinds matrix_delta min_gru --shapes 8 16 --opponents scan attention"
    command = [sys.executable, "-m", "benchmarks.linear_recurrence", *words.split(), "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = {p.suffix: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(text) == {".json", ".md", ".png"} and b"Growth with length" in text[".md"]
    rows = json.loads(text[".json"])["rows"]
    assert [(row["case"]["kind"], row["case"]["L"]) for row in rows] == [
        ("matrix_delta", 8), ("matrix_delta", 16), ("min_gru", 8), ("min_gru", 16)]  # fmt: skip
    assert [set(row["contenders"]) for row in rows] == [{"ours", "scan", "attention"}] * 2 + [{"ours", "attention"}] * 2
