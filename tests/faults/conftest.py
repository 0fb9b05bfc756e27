"""Runs that meet faults; see `driver`."""

from pathlib import Path

import driver
import pytest
from driver import Fault, Ran


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return driver.Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def meet(tmp_path, runs, monkeypatch, caplog):
    def run(fault: Fault, folder: Path = tmp_path / "run") -> Ran:
        return driver.meet(fault, folder, tmp_path / "c.json", runs, monkeypatch, caplog)

    return run
