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
    *(
        "screen",
        "types",
        "lookup",
        "words",
        "hints",
        "renamed",
        "config",
        "module",
        "machine",
        "spec",
        "masks",
        "metrics",
        "spans",
    ),
    *("ops", "mixers", "converters", "embed", "emissions", "heads", "models", "probabilistic", "tokenizers", "data"),
    "tasks",
    *(
        "training",
        "decoding",
        "evaluators",
        "samples",
        "translations",
        "analysis",
        "search",
        "report",
        "runtime",
        "testing",
        "supervise",
        "verify",
        "starts",
        "commands",
        "cli",
        "__main__",
    ),
)
# On the ground floor, too, nobody reaches up: what each of these may import.
GROUND = {
    **{"screen": [], "types": ["screen"], "lookup": ["screen", "types"], "words": ["types", "lookup"]},
    **{"hints": ["lookup"], "renamed": ["types"], "config": ["screen", "types", "lookup", "words", "hints", "renamed"]},
    **{"module": ["types"], "machine": [], "spec": ["types"], "masks": [], "metrics": []},
    "spans": ["types"],
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


LIGHT = """
import sys
from seqjax import cli

heavy = {"jax", "jaxlib", "numpy", "flax", "optax", "orbax", "grain", "rich", "matplotlib", "tensorboardX", "pyarrow"}
for command in sys.stdin.read().splitlines():
    try:
        cli.main(command.split())
    except SystemExit as end:
        assert end.code in (0, 1, 2), (command, end.code)
    found = heavy & set(sys.modules)
    assert not found, f"seqjax {command} imports {found}"
"""


def test_help_and_mistakes_on_the_command_line_need_no_jax(tmp_path):
    commands = [
        *("", "--help", "--version", "trian", "train --help", "train", "train --lr 3", "train --kills 3", "sweep"),
        *("train --config no.py", "train --config no.py --workdir x", "train --config no.py:tiny --dry_run"),
        *("compare --dry_run", "compare --config no.py --dry_run", "sweep --config no.py --workdir x", "fingerprint"),
        *("new", "new nope", "new text --out text", "new quickstart --out quickstart.py", "new quickstart"),
        *("report x --figure a.png", "generate --workdir x --top_p nan", "supervise", "supervise -- true"),
        *("supervise --restarts 0 -- false", "evaluate --workdir x", "generate --workdir x", "report x", "report . x"),
        *("laws", "laws --help", "laws gru --heads 2", "laws gru --width x"),
        *("verify-resume --config quickstart.py --kills 0", "verify-resume --config quickstart.py --steps 7"),
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT.parent), *sys.path])}
    options = dict(capture_output=True, text=True, cwd=tmp_path, env=env)
    done = subprocess.run([sys.executable, "-c", LIGHT], input="\n".join(commands), **options)
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
