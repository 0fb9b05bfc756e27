"""The file system is the registry."""

import pytest

from seqjax import lookup
from seqjax.commands.list import KINDS
from seqjax.mixers.gru import GRU
from seqjax.types import ConfigError


@pytest.mark.parametrize(("package", "symbol"), KINDS.values())
def test_every_name_of_every_kind_is_found_and_described(package, symbol):
    assert lookup.names(package)
    for name in lookup.names(package):
        assert lookup.find(name, package, symbol)
        assert len(lookup.summary(package, name, symbol)) > 10


@pytest.mark.parametrize("spec", ["gru", "gru:GRU", "seqjax.mixers.gru:GRU", "seqjax.mixers.gru"])
def test_spellings(spec):
    assert lookup.find(spec, "seqjax.mixers", "Mixer") is GRU


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("grru", "Did you mean 'gru'"),
        ("zzz", "It has: attention, attention_rnn, bidirectional"),
        ("gru:GRUU", "no 'GRUU' in seqjax.mixers.gru. Did you mean 'GRU'"),
        ("no.such.module:Thing", "no module 'no.such.module'"),
        (".gru", "no module '.gru'"),
        ("", "no ''"),
        ("_base", "no '_base'"),
        ("a..b", "no module 'a..b'"),
        ("no_such_module:Thing", "no 'no_such_module' in seqjax.mixers"),
    ],
)
def test_unknown_names_list_the_near_ones(spec, words):
    with pytest.raises(ConfigError, match=words):
        lookup.find(spec, "seqjax.mixers", "Mixer")


def test_code_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_mixer.py").write_text("class Thing: pass")
    (tmp_path / "own_fault.py").write_text("import no_such_package")
    (tmp_path / "own_slip.py").write_text("class Thing")
    assert lookup.find("own_mixer:Thing", "seqjax.mixers", "Mixer").__name__ == "Thing"
    with pytest.raises(ConfigError, match=r"no 'Thong' in own_mixer\. Did you mean 'Thing'"):
        lookup.find("own_mixer:Thong", "seqjax.mixers", "Mixer")
    with pytest.raises(ConfigError, match=r"own_fault cannot be imported: ModuleNotFoundError: .*no_such_package"):
        lookup.find("own_fault:Thing", "seqjax.mixers", "Mixer")
    with pytest.raises(ConfigError, match=r"own_slip cannot be imported: SyntaxError: .*own_slip\.py, line 1"):
        lookup.find("own_slip:Thing", "seqjax.mixers", "Mixer")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("import no_such_package", "ModuleNotFoundError: .*no_such_package"),
        ("import json.no_such_part", "ModuleNotFoundError: .*no_such_part"),
        ("raise ImportError('of another build')", "ImportError: of another build"),
        ("raise ValueError('of its own')", "ValueError: of its own"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_package_that_fails_is_not_taken_for_one_that_is_not_there(tmp_path, monkeypatch, fault, words):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text(fault)
    (tmp_path / "own_package" / "mixers.py").write_text("class Thing: pass")
    with pytest.raises(ConfigError, match=rf"own_package\.mixers cannot be imported: {words}"):
        lookup.find("own_package.mixers:Thing", "seqjax.mixers", "Mixer")


def test_require_names_the_extra():
    for module in ("no_such_package", "no_such_package.part", "json.no_such_part"):
        with pytest.raises(ConfigError, match=r"which is not installed: pip install .*\.\[audio\]"):
            lookup.require(module, "audio", "a test")


def test_a_package_that_is_there_and_fails_is_not_called_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_extra.py").write_text("import no_such_package")
    with pytest.raises(ConfigError, match=r"own_extra, which cannot be imported \(No module named 'no_such_package'\)"):
        lookup.require("own_extra", "audio", "a test")
