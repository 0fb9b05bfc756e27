"""What the documents tell a user to type works as it stands there."""

import importlib
import re
import shlex
from pathlib import Path

import launch
import pytest

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments" / "README.md"]


def blocks(language: str) -> list[str]:
    return [b for doc in DOCS for b in re.findall(rf"```{language}\n(.*?)```", doc.read_text(), re.DOTALL)]


def commands() -> list[str]:
    lines = [line.strip() for b in blocks("sh") for line in b.replace("\\\n", " ").splitlines()]
    return sorted({line.partition(" # ")[0].strip() for line in lines if line.startswith("seqjax train")})


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The folder of `mine.py`, as the guide has it."""
    folder = tmp_path_factory.mktemp("own")
    (code,) = (block for block in blocks("python") if "class Ramps" in block)
    (folder / "mine.py").write_text(code)
    return folder


@pytest.mark.parametrize("command", commands())
def test_every_training_command_resolves(command, mine, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(mine))
    done = launch.main(*shlex.split(command)[1:], "--print_config")
    assert done.code == 0, done.err


def test_what_the_guide_builds_learns(mine, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(mine))
    (command,) = (command for command in commands() if "mine:Decay" in command)
    words = shlex.split(command)[1:-2]
    monkeypatch.chdir(ROOT)
    done = launch.main(*words, "--workdir", tmp_path / "run", "--config.train.eval_every=100")
    assert done.code == 0 and launch.rows(tmp_path / "run")[-1]["sure"] > 0.9, done


def test_the_mixer_of_the_guide_holds_the_laws(mine, monkeypatch):
    from seqjax.testing import laws

    monkeypatch.syspath_prepend(str(mine))
    kind = importlib.import_module("mine").Decay
    assert {verdict.outcome for verdict in laws.check(laws.Subject(kind(width=8)))} == {"held", "does not apply"}


def test_the_guide_names_every_law():
    from seqjax.testing.laws import LAWS

    guide = (ROOT / "docs" / "guide.md").read_text().partition("against the laws\n")[2].partition("\n## ")[0]
    assert all(f"`{law}`" in guide for law in LAWS)


def test_the_guide_names_every_key():
    """Of all sections but those of data and tasks, each of which has its own."""
    from seqjax import lookup
    from seqjax.training.experiment import Schema
    from seqjax.types import Injected, fields_of, marker

    guide, keys = (ROOT / "docs" / "guide.md").read_text(), set()
    for section in ("optim", "loader", "train", "guard", "init", "parallel"):
        keys |= {f"{section}.{key}" for key in fields_of(fields_of(Schema)[section][0])}
    for name in lookup.names("seqjax.models"):
        fields = fields_of(lookup.find(name, "seqjax.models", "Model"))
        keys |= {f"model.{key}" for key, (hint, _) in fields.items() if marker(hint, Injected) is None}
    assert not [key for key in sorted(keys) if not re.search(rf"`{re.escape(key)}[=`]", guide)]


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_block_runs(code):
    exec(compile(code, "<docs>", "exec"), {})


@pytest.mark.parametrize("doc", DOCS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(doc):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", doc.read_text()):
        assert (doc.parent / link).exists(), f"{doc.name} links to {link}"


def test_the_readme_names_everything_that_exists():
    from seqjax import lookup
    from seqjax.commands.list import KINDS

    readme = (ROOT / "README.md").read_text()
    for package, _ in KINDS.values():
        for name in lookup.names(package):
            assert f"`{name}`" in readme, f"{name} of {package} is not in README.md"
