"""Small made-up data in the shape of the real ones, and the real ones where they are."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def fake_text():
    letters = np.random.Generator(np.random.Philox(key=0)).choice(list("abcdé\n "), 1000)
    return "".join(letters)


@pytest.fixture(scope="session")
def fake_text_sha256(fake_text):
    return hashlib.sha256(fake_text.encode()).hexdigest()


@pytest.fixture(scope="session")
def write_shakespeare():
    def write(folder: Path, text: str):
        path = folder / "tinyshakespeare" / "input.txt.gz"
        path.parent.mkdir()
        path.write_bytes(gzip.compress(text.encode()))
        return path

    return write


@pytest.fixture(scope="session")
def write_names():
    def write(folder: Path):
        """Two languages that share a name; repeats in Upper; letters that only validation and test have."""
        path = folder / "names"
        path.mkdir()
        (path / "Lower.txt").write_text("".join(f"name{chr(97 + i)}\n" for i in range(10)) + "öx\n", encoding="utf-8")
        (path / "Upper.txt").write_text("Aa\nBb\nAa\nCc\nnamec\nBb\n")
        return path

    return write


@pytest.fixture(scope="session")
def real_data():
    """The folder of real datasets: SEQJAX_DATA, or shared/data next to the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SEQJAX_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set SEQJAX_DATA")
    return folder
