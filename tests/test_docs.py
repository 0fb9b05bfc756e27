"""What the documents tell a user to type works as it stands there."""

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


@pytest.mark.parametrize("command", commands())
def test_every_training_command_resolves(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = launch.main(*shlex.split(command)[1:], "--print_config")
    assert done.code == 0, done.err


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
