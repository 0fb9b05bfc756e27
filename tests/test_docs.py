"""What the documents tell a user to type works as it stands there; what they name exists, and what exists is named."""

import ast
import collections
import dataclasses
import importlib.util
import re
import shlex
import typing
from pathlib import Path

import launch
import pytest
from test_imports import ROOMS

from seqjax import cli, config, lookup
from seqjax.commands.list import KINDS
from seqjax.mixers import _base as mixers
from seqjax.search import plan
from seqjax.training import experiment
from seqjax.types import Injected, fields_of, marker

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments" / "README.md"]
PARTS = ("mine", "ramps", "sharp", "deep")  # a mixer, a source, a task and a head of docs/extend.md


def blocks(language: str) -> list[str]:
    return [b for doc in DOCS for b in re.findall(rf"```{language}\n(.*?)```", doc.read_text(), re.DOTALL)]


def commands(first: str = "seqjax ") -> list[str]:
    lines = [line.strip() for b in blocks("sh") for line in b.replace("\\\n", " ").splitlines()]
    return sorted({line.partition(" # ")[0].strip() for line in lines if line.startswith(first)})


def files() -> dict[str, str]:
    """The Python files that the documents show whole: their first line is their name."""
    return {name[1]: code for code in blocks("python") if (name := re.match(r"# (\w+\.py)\n", code))}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as it is where a reader types the commands: with the experiments, and the files that the docs show."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    for name, code in files().items():
        (folder / name).write_text(code)
    return folder


@pytest.fixture
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))
    for command in commands("seqjax new "):
        name, *out = shlex.split(command)[2:] or [None]
        if name and not Path(out[-1] if out else f"{name}.py").exists():
            assert launch.main(*shlex.split(command)[1:]).code == 0


@pytest.mark.parametrize("command", commands("seqjax train"))
@pytest.mark.usefixtures("at_desk")
def test_every_training_command_resolves(command):
    done = launch.main(*shlex.split(command)[1:], "--print_config")
    assert done.code == 0, done.err


@pytest.mark.parametrize("command", commands("seqjax compare"))
@pytest.mark.usefixtures("at_desk")
def test_every_comparison_resolves(command):
    words = shlex.split(command)
    plan.resolve(config.load(words[words.index("--config") + 1], "get_comparison"))


def test_the_options_of_every_command_exist():
    known = cli._parser().subcommands.choices
    for command in commands():
        words = shlex.split(command)[1:]
        words = words[: words.index("--")] if "--" in words else words
        options = {w.partition("=")[0] for w in words if w.startswith("--") and not w.startswith("--config.")}
        assert words[0] in known and options <= set(known[words[0]]._option_string_actions), command


@pytest.mark.usefixtures("at_desk")
def test_what_the_documents_build_learns(tmp_path):
    (command,) = (command for command in commands("seqjax train") if "mine:Decay" in command)
    words = shlex.split(command)[1:-2]
    done = launch.main(*words, "--workdir", tmp_path / "run", "--config.train.eval_every=100")
    assert done.code == 0 and launch.rows(tmp_path / "run")[-1]["sure"] > 0.9, done


@pytest.mark.parametrize("code", blocks("python"))
@pytest.mark.usefixtures("at_desk")
def test_every_python_block_runs(code):
    """And the tests in it pass, with all their parameters."""
    found = {}
    exec(compile(code, "<docs>", "exec"), found)
    for name, function in found.items():
        if name.startswith("test_"):
            marks = getattr(function, "pytestmark", ())
            for case in marks[0].args[1] if marks else [()]:
                function(*([case] if marks else []))


def test_the_documents_name_every_law():
    from seqjax.testing.laws import LAWS

    text = (ROOT / "docs" / "extend.md").read_text()
    assert all(f"`{law}`" in text for law in LAWS)


def test_a_new_part_is_a_short_file_with_a_test():
    shown = files()
    for name in PARTS:
        assert "def test_" in shown[f"test_{name}.py"]
        for file in (name, f"test_{name}"):
            assert len(shown[f"{file}.py"].splitlines()) < 40, file


# Links.


def prose(doc: Path) -> str:
    """A document without what stands in it as code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", doc.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(doc: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    text, found = re.sub(r"^```.*?^```", "", doc.read_text(), flags=re.DOTALL | re.MULTILINE), collections.Counter()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[f"{slug}-{found[slug]}" if found[slug] else slug] += 1
    return set(found)


@pytest.mark.parametrize("doc", DOCS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(doc):
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", prose(doc)):
        target = doc.parent / link if link else doc
        assert target.exists(), f"{doc.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{doc.name} links to {link}#{anchor}"


def test_every_document_can_be_found_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert not [doc.name for doc in DOCS[1:-1] if f"](docs/{doc.name}" not in readme]


# The reference.


@pytest.fixture(scope="module")
def reference():
    found = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_reference_is_that_of_this_code(reference):
    assert reference.PAGE.read_text() == reference.reference(), "docs/reference.md is stale: run `make reference`"
    assert reference.README.read_text() == reference.readme(), "README.md is stale: run `make reference`"


def entry(page: str, title: str) -> str:
    """What the reference says under a title."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page, re.DOTALL | re.MULTILINE)
    return found


def test_the_reference_names_every_key_with_its_default(reference):
    page, tree = reference.PAGE.read_text(), {key: launch.TINY[key] for key in ("data", "task", "model")}
    resolved = experiment.resolve({**tree, "train": {"steps": 1}})
    for name, (hint, _) in fields_of(experiment.Schema).items():
        if dataclasses.is_dataclass(hint):
            rows = dict(re.findall(rf"^\| `{name}\.(\w+)` \|.*\| `?(.*?)`? \|$", entry(page, f"section: {name}"), re.M))
            rows = {key: ast.literal_eval(default) if default else resolved[name][key] for key, default in rows.items()}
            assert rows == resolved[name]


def test_the_reference_says_what_every_part_says_of_itself(reference):
    page = reference.PAGE.read_text()
    for kind, (package, symbol) in reference.PARTS.items():
        for name in lookup.names(package):
            target, text = lookup.find(name, package, symbol), entry(page, f"{kind[:-1]}: {name}").replace("\\*", "*")
            keys = [key for key, (hint, _) in fields_of(target).items() if marker(hint, Injected) is None]
            assert not [key for key in keys if f"| `{key}` |" not in text], name
            assert lookup.summary(package, name, symbol) in text, name
            for part in re.findall(r"arXiv:[\d.]+\d|\w+Error:", target.__doc__):
                assert part in text, (name, part)


def test_every_mixer_is_of_a_family():
    for name in lookup.names("seqjax.mixers"):
        assert lookup.find(name, "seqjax.mixers", "Mixer").family in typing.get_args(mixers.Family), name


def test_the_readme_names_everything_that_exists():
    readme = (ROOT / "README.md").read_text()
    for package, _ in KINDS.values():
        for name in lookup.names(package):
            assert f"`{name}`" in readme, f"{name} of {package} is not in README.md"


def test_the_design_names_every_room():
    """In the order in which they may import each other."""
    (house,) = (block for block in blocks("text") if block.startswith("seqjax/\n"))
    named = [name.strip("/") for line in house.splitlines()[1:] for name in line[:24].split()]
    there = {
        path.stem for path in (ROOT / "seqjax").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert named == [room for room in ROOMS if room in there and room != "__main__"]
