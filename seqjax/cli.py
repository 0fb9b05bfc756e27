"""The command line: parses, calls, prints, and exits with a code that says what happened."""

import argparse
import errno
import gc
import importlib
import math
import os
import shlex
import signal
import sys
import traceback

from seqjax import __version__, hints, lookup, runtime, screen
from seqjax.types import ConfigError, SeqjaxError

EPILOG = """exit codes:
  0 done   1 crashed, or a run or a law failed   2 config or usage   3 data   4 checkpoint   5 run folder   6 numerics
  75 preempted: run it again   130 Ctrl-C where there is nothing to save   128 + n ended by signal n
"""


def main(argv: list[str] | None = None) -> None:
    """The console script `seqjax`. Never returns: exits with the code of what happened."""
    argv = sys.argv[1:] if argv is None else argv
    runtime.logs()
    try:
        args, rest = _parser().parse_known_args(argv)
        args.overrides = _overrides(args, rest)
        args.command_line = screen.masked("seqjax " + shlex.join(argv))
        code = _run(args)
    except SeqjaxError as error:
        sys.stdout.flush()
        print(screen.clean(f"seqjax: {screen.masked(str(error))}"), file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("seqjax: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `seqjax list | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    if code:
        gc.collect()  # free the objects of a failure now: when Python exits, `runtime.quiet_loops` has no effect
    sys.exit(code)


def _run(args) -> int:
    """Runs the command, and returns its code.

    Raises:
      ConfigError: there is no device of JAX_PLATFORMS (JAX fails only here, with an assertion), or user code calls
        sys.exit.
    """
    try:
        return args.run(args) or 0
    except SystemExit as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        raise ConfigError(f"{last.filename}, line {last.lineno}: {lookup.told(error)}") from error
    except (AssertionError, RuntimeError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked or _has_devices():
            raise
        raise ConfigError(
            f"JAX_PLATFORMS={asked!r}, and JAX finds no such device here: unset it, or set it to cpu; for NVIDIA GPUs "
            "install the extra 'cuda'."
        ) from error


def _has_devices() -> bool:
    import jax

    try:
        return bool(jax.devices())
    except (AssertionError, RuntimeError):
        return False


def _overrides(args, rest: list[str]) -> list[str]:
    """`--config.a.b=value` and `--config.a.b value` -> `a.b=value`; anything else is a usage error."""
    out, words = [], iter(rest)
    for word in words:
        if not word.startswith("--config.") or not hasattr(args, "config"):
            name, equals, value = word.partition("=")
            hint = _hint(args, name, next(words, "") if name.startswith("-") and not equals else value)
            raise ConfigError(
                f"{screen.hidden(word)!r} is not an option of 'seqjax {args.subcommand}'.{hint} "
                f"See seqjax {args.subcommand} --help."
            )
        if "=" not in word:
            value = next(words, None)
            if value is None:
                raise ConfigError(f"{word} has no value: write {word}=VALUE.")
            word = f"{word}={value}"
        out.append(word.removeprefix("--config."))
    return out


def _hint(args, word: str, value: str) -> str:
    """Suggests what an unknown option of a command may mean."""
    if args.subcommand == "supervise":
        return " Put two dashes (--) before the command to run."
    if hasattr(args, "base") and (hint := hints.of_option(word, value, args.base)):
        return hint
    options = {name: list(p._option_string_actions) for name, p in _parser().subcommands.choices.items()}
    if others := [name for name, known in options.items() if word in known]:
        return f" 'seqjax {others[0]}' has this option."
    near = lookup.nearest(word.strip("-"), [option.strip("-") for option in options[args.subcommand]])
    return near.replace("'", "'--", 1)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog):
        super().__init__(prog)
        self._action_max_length = 17  # argparse forgets that the names of commands are indented once more


def _int(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**31:
        raise argparse.ArgumentTypeError(f"got {text}, wanted a whole number of at most 31 bits")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"got {text}, wanted a finite number")
    return number


def _folder(text: str) -> str:
    if not text:  # an empty name would mean the current folder
        raise argparse.ArgumentTypeError("got '', wanted the name of a folder")
    try:
        os.lstat(text)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (None, errno.ENAMETOOLONG):
            reason = getattr(error, "strerror", error)
            got = screen.shown(text)
            raise argparse.ArgumentTypeError(f"got {got}, wanted the name of a folder: {reason}") from error
    return text


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        super().__init__(**options)
        self.register("type", int, _int)
        self.register("type", float, _float)

    def _check_value(self, action, value):  # argparse's own names the nearest choice only from Python 3.14 on
        if action.choices is not None and value not in action.choices:
            near = lookup.nearest(value, action.choices)
            known = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f"got {value!r}, wanted one of {known}.{near}")

    def error(self, message):
        self.print_usage(sys.stderr)
        raise ConfigError(f"{message}{' See' if message.endswith(('.', '?')) else '; see'} {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="seqjax",
        description="Train and compare sequence models: attention or recurrence, at this task, budget and length?",
        epilog=EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"seqjax {__version__}")
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True, parser_class=_Parser)
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
        for action in sub._actions:
            if action.metavar == "DIR":
                action.type = _folder
        sub.set_defaults(run=module.run)
    return parser
