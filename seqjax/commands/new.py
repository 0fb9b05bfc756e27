"""seqjax new."""

import ast
import re
import shlex
from pathlib import Path

from seqjax import lookup, starts
from seqjax.types import ConfigError

ABOUT = "Write a config to start from; without a name, list the configs."
EXAMPLES = """\
  seqjax new
  seqjax new quickstart
  seqjax new text --out configs/book.py"""


def options(parser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("start", nargs="?", metavar="NAME", choices=lookup.names(starts.__name__), help="which config")
    add("--out", metavar="FILE.py", help="file to write (default: NAME.py)")


def run(args) -> None:
    """Writes the file and prints how to run it.

    Raises:
      ConfigError: the file exists or cannot be written, or its name does not end in .py.
    """
    if args.start is None:
        if args.out is not None:
            raise ConfigError(f"--out {args.out} has no config to write: add a name that 'seqjax new' lists.")
        for name in lookup.names(starts.__name__):
            print(f"  {name:12}{ast.get_docstring(ast.parse(_read(name)))}")
        print("write one: seqjax new NAME")
        return
    out = Path(f"{args.start}.py" if args.out is None else args.out)
    if out.suffix != ".py" or not str(out).isprintable():
        raise ConfigError(f"--out {args.out!r}: wanted the name of a file that ends in .py.")
    text = _read(args.start).replace(f"--config {args.start}.py", f"--config {shlex.quote(str(out))}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists and is not overwritten: choose another --out.") from error
    except OSError as error:
        raise ConfigError(f"cannot write {out.absolute()}: {error.strerror}.") from error
    print(f"wrote {out}: its comments say what to change and how to run it. In short:")
    print("  " + next(line for line in commands(text) if "--workdir" in line))


def commands(text: str) -> list[str]:
    """The commands of `seqjax` in the comments of a start, without the remarks in brackets."""
    return [re.sub(r" {3,}\(.*\)$", "", line[4:]) for line in text.splitlines() if line.startswith("#   seqjax ")]


def _read(name: str) -> str:
    return (Path(starts.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
