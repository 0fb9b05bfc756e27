"""The house: each room imports only from rooms above it; everything imports cleanly and is documented."""

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import seqjax

ROOT = Path(seqjax.__file__).parent
ROOMS = (
    *("screen", "types", "lookup", "words", "config", "masks", "metrics"),
    *("ops", "mixers", "converters", "models", "probabilistic", "data", "tasks"),
    *(
        "training",
        "decoding",
        "analysis",
        "search",
        "report",
        "runtime",
        "supervise",
        "verify",
        "commands",
        "cli",
        "__main__",
    ),
)
# On the ground floor, too, nobody reaches up: what each of these may import.
GROUND = {
    **{"screen": [], "types": ["screen"], "lookup": ["screen", "types"], "words": ["types", "lookup"]},
    **{"config": ["screen", "types", "lookup", "words"], "masks": [], "metrics": []},
}
NEVER = {"torch", "keras", "tensorflow", "tensorflow_probability", "transformers", "clu", "dynamax", "hmmlearn"}
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(ROOT)], "seqjax.") if m.name != "seqjax.__main__")


def imported(file: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it; `from a import b` gives a.b."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files():
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_upward(file):
    room = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":
        assert not {name for name in imported(file) if name.startswith("seqjax")}
        return
    assert room in ROOMS, f"{room} is a new room: say where it stands"
    for name in imported(file):
        package, _, rest = name.partition(".")
        assert package not in NEVER
        if package != "seqjax" or rest in ("", "__version__"):
            continue
        other = rest.split(".")[0]
        allowed = GROUND[room] if room in GROUND else ROOMS[: ROOMS.index(room) + 1]
        assert other in allowed, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_and_is_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for key, thing in vars(module).items():
        public = not key.startswith("_") and getattr(thing, "__module__", None) == name
        if public and (inspect.isclass(thing) or inspect.isfunction(thing)):
            # A dataclass without one is given its signature.
            assert (thing.__doc__ or f"{key}(").partition("(")[0] != key, f"{name}.{key} has no docstring"


def test_the_command_line_starts_light():
    code = (
        "import sys, seqjax.cli; "
        "heavy = {'matplotlib', 'orbax', 'grain', 'tensorboardX', 'pyarrow', 'sklearn'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


def test_a_journal_leaves_pytorch_where_it_is(tmp_path):
    (tmp_path / "torch.py").write_text("print('imported')")
    code = (
        "from seqjax.training.journal import Journal; from seqjax.training.workdir import Workdir; "
        f"Journal(Workdir({str(tmp_path)!r}), steps=1, step=0, quiet=True, owed=False).close(); "
        "print('made'); import torch"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.split() == ["made", "imported"], done.stderr


def test_files_stay_short():
    long = {str(f.relative_to(ROOT)): n for f in files() if (n := len(f.read_text().splitlines())) > 260}
    assert not long, f"two files each, please: {long}"
