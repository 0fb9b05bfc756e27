"""Sizes, nestings and code far beyond reason end in a sentence: rows 61 and 62."""

import dataclasses
import importlib
import json
import subprocess
import sys
import typing

import jax
import launch
import pytest
from test_bad_input import check

from seqjax import config, lookup
from seqjax.commands.list import KINDS
from seqjax.data import _files
from seqjax.search import space
from seqjax.training import cost, dry_run
from seqjax.training.experiment import Experiment, Schema, resolve
from seqjax.training.loop import BLOCK, Calls, Loop
from seqjax.types import ConfigError, Injected, Part, fields_of, marker, mismatch

DEEP = {"a": 1}
for _ in range(200):
    DEEP = {"a": DEEP}
# What no key takes, whatever its type: the first two are read as numbers, and are too large for a device.
NEVER = (10**30, -(10**30), 10**6000, [[[[1]]]], object(), float("nan"))
LARGE = (2**31 - 1, 10**9, 10**6)  # what a key may take, if the machine can


def keys(target, path="") -> dict[str, typing.Any]:
    """Every key of the schema at which a value stands -> its type."""
    found = {}
    for key, (hint, default) in fields_of(target).items():
        part = marker(hint, Part)
        if marker(hint, Injected) or (part and default is None):  # no part, unless a config names one
            continue
        if dataclasses.is_dataclass(hint):
            found |= keys(hint, f"{path}{key}.")
        elif part:
            known = lookup.names(part.package)
            name = launch.TINY[key]["name"] if key in launch.TINY else "gru" if "gru" in known else known[0]
            found |= keys(lookup.find(name, part.package, part.symbol), f"{path}{key}.")
        else:
            found[path + key] = hint
    return found


KEYS = keys(Schema)
INTEGERS = [key for key, hint in KEYS.items() if mismatch(hint, 3) is None and mismatch(hint, 3.5)]


def described(experiment):
    """A dry run that compiles nothing."""
    cost.check_room(experiment.shapes)


def test_the_keys_are_found():
    assert {
        "train.steps",
        "model.width",
        "model.mixer.remat",
        "data.symbols",
        "loader.batch_size",
        "guard.spike",
    } <= set(KEYS)
    assert len(KEYS) > 50 and len(INTEGERS) > 20


@pytest.mark.parametrize("value", NEVER, ids=lambda v: type(v).__name__)
def test_no_key_takes_what_is_absurd(value):
    """All keys at once: a sentence each, short, and nothing is built."""
    tree = config.override(launch.TINY, {})
    wrong = {key: hint for key, hint in KEYS.items() if mismatch(hint, value)}
    assert set(INTEGERS) <= set(wrong)
    for key, hint in wrong.items():
        assert len(mismatch(hint, value)) < 300
        section, _, name = key.rpartition(".")
        node = tree
        for part in section.split(".") if section else ():
            node = node.setdefault(part, {})
        if isinstance(node, dict):
            node[name] = value
    with pytest.raises(ConfigError) as error:
        resolve(tree)
    assert len(str(error.value)) < 10_000 and f"and {len(wrong) - 20} more" in str(error.value)


@pytest.mark.parametrize("value", LARGE)
@pytest.mark.parametrize("key", INTEGERS)
def test_large_numbers_are_refused_or_borne(tmp_path, monkeypatch, key, value):
    """Nothing is allocated, nothing grows with the number of steps, and what does not fit is told in a sentence."""
    monkeypatch.setattr(dry_run, "show", described)
    monkeypatch.setattr(cost, "memory", lambda: 2**30)
    monkeypatch.setattr(_files, "memory", lambda: 2**30)
    file = launch.write(tmp_path / "c.json", launch.tiny())
    outcome = launch.main("train", "--config", file, "--dry_run", f"--config.{key}={value}")
    assert outcome.code == 0 or len(outcome.err.splitlines()) <= 3
    if outcome.code:
        check(outcome, outcome.code, ())
        assert outcome.code in (2, 3, 5)


def test_long_examples_that_are_cut_are_counted_whole(monkeypatch):
    """A batch of them is in memory before it is cut to its bucket."""
    monkeypatch.setattr(_files, "memory", lambda: 2**30)
    cut = ("loader.buckets=[8]", "loader.too_long=truncate", "data.length=10000000")
    with pytest.raises(
        ConfigError, match=r"=64 rows of 20,000,001 tokens take .*\(1 batch is held .* lower loader\.batch_size or"
    ):
        Experiment(resolve(launch.tiny(*cut, "loader.batch_size=64")))
    Experiment(resolve(launch.tiny(*cut, "loader.batch_size=4")))


@pytest.mark.parametrize(
    "word", ["1e999", "9" * 5000, "-1", "[" * 5000, "(" * 150, "-" * 5000, "{'a':" * 90, "...", "\x1b[2J"]
)
def test_absurd_words_are_refused(tmp_path, word):
    file = launch.write(tmp_path / "c.json", launch.tiny())
    for key in ("train.steps", "model.width", "data.length", "optim.learning_rate", "optim.options", "model.mixer"):
        outcome = launch.main("train", "--config", file, "--dry_run", f"--config.{key}={word}")
        check(outcome, 2, (key,))
        assert len(outcome.err) < 1000 and "\x1b" not in outcome.err


@pytest.mark.parametrize(("package", "symbol"), KINDS.values())
def test_no_number_of_any_part_is_without_bounds(package, symbol):
    for name in lookup.names(package):
        for key, (hint, _) in fields_of(lookup.find(name, package, symbol)).items():
            if mismatch(hint, 3) is None and hint is not typing.Any and not marker(hint, Injected):
                assert mismatch(hint, 10**30) or mismatch(hint, 3.5) is None, (name, key)
                assert mismatch(hint, 10**400), (name, key)


def test_a_model_that_no_machine_holds_is_told_with_its_bytes(tmp_path):
    file = launch.write(tmp_path / "c.json", launch.tiny("model.width=1000000000"))
    run = tmp_path / "run"
    for more in (("--dry_run",), ("--workdir", run)):
        outcome = launch.main("train", "--config", file, *more)
        assert outcome.code == 2
        assert "72,000,000,216,000,000,080 bytes" in outcome.err and "this machine has" in outcome.err
    assert not list(run.glob("ckpt/*"))
    assert "whole state" in launch.main("train", "--config", file, "--dry_run").out


def test_steps_cost_nothing_before_they_are_taken():
    """The learning rates of log lines come in blocks, the calls of the step by number."""
    e = Experiment(
        resolve(
            launch.tiny(
                "train.steps=2147483647", "train.log_every=7", "optim.schedule=cosine", "optim.warmup_steps=5000"
            )
        )
    )
    steps = Loop.__new__(Loop)
    steps.experiment, steps.options = e, e.train
    steps._schedule, steps._rates = jax.jit(jax.vmap(e.optim.rate(e.train.steps))), (-1, None)
    for step in (7, 7 * BLOCK, 7 * BLOCK + 7, 2**31 - 1):
        assert steps._rate(step) == pytest.approx(float(e.optim.rate(e.train.steps)(step - 1)), rel=1e-4)
    calls = Calls(5, 2**31 - 1, 3, passed=2)
    assert len(calls) == 715827881 and calls[0] == range(7, 8) and calls[1] == range(8, 11)
    assert calls[len(calls) - 1] == range(2**31 - 3, 2**31)
    with pytest.raises(IndexError):
        calls[len(calls)]
    for first, last, k in ((0, 12, 3), (4, 12, 3), (12, 12, 3), (0, 2, 5)):
        assert [n for call in Calls(first, last, k, 0) for n in call] == list(range(first, last // k * k))


def test_an_endless_grid_is_counted_before_it_is_made():
    with pytest.raises(ConfigError, match="the grid has 2,000,000,000,000 points"):
        space.grid({"a": space.integers(1, 10**12), "b": space.choice(1, {"name": "x"})})


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
@pytest.mark.parametrize("option", ["--workdir", "--config", "--config.init.run"])
def test_names_that_no_file_has(tmp_path, monkeypatch, option, name):
    monkeypatch.chdir(tmp_path)
    words = {"--config": launch.write(tmp_path / "c.json", launch.tiny()), "--workdir": "run", option: name}
    outcome = launch.main("train", *(word for pair in words.items() for word in pair))
    check(outcome, 2, ())
    assert "\0" not in outcome.err


FILES = {
    "deep json": ("c.json", json.dumps(DEEP), "64 levels"),
    "deeper json": ("c.json", "[" * 10**5, "64 levels"),
    "a deep dict": ("c.py", "def get_config():\n d = {}\n d['a'] = d\n return d", "64 levels"),
    "an endless number": ("c.py", "def get_config(): return {'seed': 10 ** 6000}", "seed: got an int of 19,932 bits"),
    "it exits": ("c.py", "import sys; sys.exit(0)", "sys.exit(0), which would end the process: remove the call"),
    "its function exits": ("c.py", "def get_config(): raise SystemExit", "sys.exit(None)"),
    "no usual error": ("c.py", "class Odd(BaseException): pass\nraise Odd('boo')", "Odd: boo"),
    "many keys": ("c.json", json.dumps({f"k{i}": 1 for i in range(30_000)}), "and 29,984 more"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "words"), FILES.values(), ids=FILES)
def test_configs_beyond_reason(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    outcome = launch.main("train", "--config", tmp_path / name, "--print_config")
    check(outcome, 2, (words,))
    assert len(outcome.err) < 10_000


EXITS = {
    "as it is imported": "import sys; sys.exit(0)",
    "as it is built": "from seqjax.mixers.gru import GRU\nclass Own(GRU):\n def setup(self): raise SystemExit(0)",
}


@pytest.mark.parametrize("when", EXITS)
def test_code_of_ones_own_cannot_end_a_command_in_silence(tmp_path, monkeypatch, when):
    monkeypatch.chdir(tmp_path)
    module = f"exits_{list(EXITS).index(when)}"
    (tmp_path / f"{module}.py").write_text(EXITS[when])
    file = launch.write(tmp_path / "c.json", launch.tiny(f"model.mixer={module}:Own"))
    outcome = launch.main("train", "--config", file, "--dry_run")
    check(outcome, 2, (module, "it calls sys.exit(0), which would end the process"))


SHADOWS = ("google", "random", "socket", "pickle", "torch", "tokenizers", "logging", "yaml", "ray", "helpers2")


@pytest.mark.slow  # a run with two workers, in processes of their own
def test_the_current_folder_stands_for_no_module_of_others(tmp_path):
    """Neither in the command, however it is started, nor in its workers; what the config names is found, and told."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong file')" if name != "helpers2" else "x = 1")
    (tmp_path / "mine_here.py").write_text(
        "import helpers2\nfrom seqjax.data.copy import Copy\nclass Own(Copy):\n  pass\n"
    )
    tree = launch.tiny(
        "data=mine_here:Own", "data.length=3", "data.examples=4", "loader.num_workers=1", "train.steps=1"
    )
    command = [sys.executable, "-m", "seqjax", "train", "--config", launch.write(tmp_path / "c.json", tree)]
    done = subprocess.run([*command, "--workdir", "run"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"imported mine_here from {tmp_path / 'mine_here.py'}") == 1


def test_the_current_folder_is_looked_into_for_the_users_code_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_alone.py").write_text("import own_helper\nclass Thing: pass")
    (tmp_path / "own_helper.py").write_text("")
    (tmp_path / "colorsys.py").write_text("raise RuntimeError")
    before = list(sys.path), list(sys.meta_path)
    assert lookup.find("own_alone:Thing", "seqjax.mixers", "Mixer").__module__ == "own_alone"
    assert lookup.imported()[-1] == "own_alone"
    with pytest.raises(ConfigError, match=r"no 'Thing' in colorsys\..* This module is .*lib.*colorsys\.py"):
        lookup.find("colorsys:Thing", "seqjax.mixers", "Mixer")
    assert (list(sys.path), list(sys.meta_path)) == before
    del sys.modules["own_helper"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_helper")
