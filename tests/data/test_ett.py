"""Hourly measurements of a transformer, cut into windows to forecast."""

import gzip

import numpy as np
import pytest

from seqjax.data import ett
from seqjax.types import DataError


def test_windows_are_those_of_the_standard_protocol(tmp_path, write_ett):
    path = write_ett(tmp_path)
    rows = gzip.decompress(path.read_bytes()).decode().split("\n")[1:]
    values = np.array([row.split(",")[1:] for row in rows], float)
    values = (values - values[:8640].mean(axis=0)) / values[:8640].std(axis=0)
    for horizon, windows in {96: 2785, 192: 2689, 336: 2545, 720: 2161}.items():
        source = ett.Source(dir=str(tmp_path), horizon=horizon)
        assert (source.size("train"), source.size("validation")) == (8640 - 336 - horizon + 1, windows)
        assert source.size("test") == windows
        for split, index, begin in (("train", 0, 336), ("validation", 0, 8640), ("test", windows - 1, 14400 - horizon)):
            example = source.example(split, index)
            np.testing.assert_allclose(example["features"], values[begin - 336 : begin], atol=1e-6)
            np.testing.assert_allclose(example["future"], values[begin : begin + horizon], atol=1e-6)


def test_baselines_are_those_of_a_loop(tmp_path, write_ett):
    write_ett(tmp_path)
    source = ett.Source(dir=str(tmp_path), lookback=30, horizon=5)
    every = lambda split: [source.example(split, i) for i in range(source.size(split))]
    column = lambda e, f: (e["features"][:, f] - e["features"][-1, f], e["future"][:, f] - e["features"][-1, f])
    pairs = {s: [column(e, f) for e in every(s) for f in range(2)] for s in ("train", "test")}
    x, y = (np.array(a, np.float64) for a in zip(*pairs["train"], strict=True))
    matrix = np.linalg.solve(x.T @ x + ett.RIDGE * np.eye(30), x.T @ y)
    x, y = (np.array(a, np.float64) for a in zip(*pairs["test"], strict=True))
    guesses = {"last value": 0 * y, "same hour of the last day": x[:, 6:11], "ridge regression": x @ matrix}
    wanted = {name: pytest.approx(np.mean((guess - y) ** 2), rel=1e-5) for name, guess in guesses.items()}
    assert source.baselines("test") == {"loss": wanted}


def test_broken_files(tmp_path, write_ett):
    build = lambda **options: ett.Source(dir=str(tmp_path), **options)
    path = write_ett(tmp_path)
    with pytest.raises(DataError, match="lookback=8600 and horizon=96 leave no window in train"):
        build(lookback=8600)
    with pytest.raises(DataError, match="horizon=2881 leave no window in validation, which has 2,880 hours"):
        build(horizon=2881)
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    for text, words in (
        (["A,B", *lines[1:]], "line 1: got the columns A, B, wanted date"),
        ([*lines[:5], "hour,x,1", *lines[6:]], "not a table of numbers"),
        (lines[:900], "899 rows, wanted at least 14,400"),
    ):
        path.write_bytes(gzip.compress("\n".join(text).encode()))
        with pytest.raises(DataError, match=words):
            build()
