"""The command line: parses, calls, prints, and exits with a code that says what happened."""

import argparse
import gc
import importlib
import os
import shlex
import sys

from seqjax import __version__, lookup
from seqjax.types import ConfigError, SeqjaxError

EPILOG = """exit codes:
  0 done   2 config or usage   3 data   4 checkpoint   5 run folder   6 numerics   75 preempted: run it again
"""


def main(argv: list[str] | None = None) -> None:
    """The console script `seqjax`. Never returns: exits with the code of what happened."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args, rest = _parser().parse_known_args(argv)
        args.overrides = _overrides(args, rest)
        args.command_line = "seqjax " + shlex.join(argv)
        code = args.run(args) or 0
    except SeqjaxError as error:
        sys.stdout.flush()
        print(f"seqjax: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("seqjax: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `seqjax list | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code:
        gc.collect()  # what a failure leaves goes now: when Python ends, `runtime.quiet_loops` is no longer heeded
    sys.exit(code)


def _overrides(args, rest: list[str]) -> list[str]:
    """`--config.a.b=value` and `--config.a.b value` -> `a.b=value`; anything else is a usage error."""
    out, words = [], iter(rest)
    for word in words:
        if not word.startswith("--config.") or not hasattr(args, "config"):
            known = [a for p in _parser().subcommands.choices.values() for a in p._option_string_actions]
            raise ConfigError(
                f"{word!r} is not an option of 'seqjax {args.name}'.{lookup.nearest(word, known)}"
                f" See seqjax {args.name} --help."
            )
        if "=" not in word:
            value = next(words, None)
            if value is None:
                raise ConfigError(f"{word} has no value: write {word}=VALUE.")
            word = f"{word}={value}"
        out.append(word.removeprefix("--config."))
    return out


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog):
        super().__init__(prog)
        self._action_max_length = 17  # argparse forgets that the names of commands are indented once more


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        raise ConfigError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="seqjax",
        description="Attention or recurrence, at this task, budget and length?",
        epilog=EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"seqjax {__version__}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True, parser_class=_Parser)
    parser.subcommands = commands

    for name in lookup.names("seqjax.commands"):
        module = importlib.import_module(f"seqjax.commands.{name}")
        sub = commands.add_parser(
            name.replace("_", "-"),
            help=module.ABOUT,
            description=module.ABOUT,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        module.options(sub)
        sub.set_defaults(run=module.run)
    return parser
