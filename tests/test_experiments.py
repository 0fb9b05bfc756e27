"""Every experiment file runs two steps in its `tiny` variant, and says how it is run."""

import importlib.util
import inspect
import os
import re
from pathlib import Path

import launch
import pytest

from seqjax import config
from seqjax.search import _checks, plan

ROOT = Path(__file__).parents[1]
COMPARISONS = sorted((ROOT / "experiments" / "compare").glob("*.py"))
FILES = [file for file in sorted((ROOT / "experiments").rglob("*.py")) if file not in COMPARISONS]
DATA = Path(os.environ.get("SEQJAX_DATA") or ROOT.parent / "shared" / "data")
NEEDS_DATA = {
    "classify",
    "forecast",
    "fsdd",
    "fsdd_hmm",
    "names",
    "nli",
    "shakespeare",
    "snips_slots",
    "tag",
    "tag_hmm",
    "wnut17",
}


def module(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def needs(file) -> list[str]:
    """Options that a file wants on every machine but its author's."""
    if file.stem not in NEEDS_DATA:
        return []
    if not DATA.is_dir():
        pytest.skip(f"no datasets in {DATA}: set SEQJAX_DATA")
    return [f"--config.data.dir={DATA}"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_tiny_variant_fits_together(file):
    done = launch.main("train", "--config", f"{file}:tiny", "--dry_run", *needs(file))
    assert done.code == 0, done.err


QUICK = ("quickstart", "copy")  # the others compile for seconds, each its own programs


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=[pytest.mark.slow] * (f.stem not in QUICK)) for f in FILES], ids=lambda f: f.stem
)
def test_two_steps_of_the_tiny_variant(file, tmp_path):
    done = launch.main(
        "train", "--config", f"{file}:tiny", "--workdir", tmp_path, "--config.train.steps=2", *needs(file)
    )
    assert done.code == 0, done.err
    assert {row["step"] for row in launch.rows(tmp_path)} == {2}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_command_in_the_docstring_works(file):
    doc = module(file).__doc__
    commands = re.findall(r"seqjax train --config experiments/(\S+)", doc)
    assert commands, "say how it is run"
    for command in commands:
        assert command.partition(":")[0] == str(file.relative_to(ROOT / "experiments"))
        done = launch.main("train", "--print_config", "--config", str(ROOT / "experiments" / command), *needs(file))
        assert done.code == 0, done.err


def test_the_quickstart_compares_equal_sizes(tmp_path):
    sizes = []
    for variant in ("gru", "attention"):
        done = launch.main("train", "--dry_run", "--config", f"{ROOT}/experiments/quickstart.py:{variant}")
        assert done.code == 0, done.err
        sizes.append(int(re.search(r"total\s+([\d,]+)", done.out)[1].replace(",", "")))
    assert abs(sizes[0] / sizes[1] - 1) < 0.01, sizes


def test_configs_hold_data_only():
    for file in (*FILES, *COMPARISONS):
        loaded = module(file)
        functions = [
            name for name, f in inspect.getmembers(loaded, inspect.isfunction) if f.__module__ == loaded.__name__
        ]
        allowed = [["get_comparison"]] if file in COMPARISONS else [["get_config"], ["get_config", "sweep"]]
        assert functions in allowed, f"{file.name} defines {functions}"


@pytest.mark.parametrize("variant", ["", ":tiny"])
@pytest.mark.parametrize("file", COMPARISONS, ids=lambda f: f.stem)
def test_a_comparison_says_how_it_is_run_and_is_sound(file, variant, monkeypatch):
    if needs(file):
        monkeypatch.setenv("SEQJAX_DATA", str(DATA))
    if file.stem == "digits":
        pytest.importorskip("sklearn")
    where = file.relative_to(ROOT)
    assert f"seqjax compare --config {where} --workdir runs/{file.stem}" in module(file).__doc__
    c = plan.resolve(config.load(f"{file}{variant}", "get_comparison"))
    assert len(c.contenders) in (4, 12, 19) and len(c.seeds) >= _checks.LEAST_SEEDS and "attention" in c.contenders
    counted = "markov" in c.contenders  # it has few sizes, so the others fit to it
    assert c.target == (c.match and ("markov" if counted else "attention"))


@pytest.mark.slow
@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("file", COMPARISONS, ids=lambda f: f.stem)
def test_the_tiny_variant_of_a_comparison(file, tmp_path, monkeypatch):
    if needs(file):
        monkeypatch.setenv("SEQJAX_DATA", str(DATA))
    if file.stem == "digits":
        pytest.importorskip("sklearn")
    args = ("compare", "--config", f"{file}:tiny", "--workdir", tmp_path, "--executor", "inline.here")
    done = launch.main(*args)
    assert done.code == 0, done.err
    files = {p.name for p in tmp_path.iterdir()}
    assert {"report.html", "report.md", "results.csv", "comparison.json", "sizes.json"} <= files
    before = launch.tree_of(tmp_path / "runs")
    assert launch.main(*args).code == 0 and launch.tree_of(tmp_path / "runs") == before
