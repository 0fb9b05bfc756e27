"""seqjax supervise."""

from seqjax.types import ConfigError

ABOUT = "Run a command, and run it again when it was preempted or crashed."
EXAMPLES = """\
  seqjax supervise -- seqjax train --config experiments/quickstart.py:gru --workdir runs/gru
  seqjax supervise --restarts 100 --wait 30 -- seqjax train --config experiments/names.py --workdir runs/names"""


def options(parser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--restarts", type=int, default=10, metavar="N", help="largest number of restarts (default: 10)")
    add(
        "--wait",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="wait before the first restart; doubles each time (default: 1)",
    )
    add("command", nargs="*", metavar="-- COMMAND ...", help="the command to run, after two dashes")


def run(args) -> int:
    """Runs the command, and returns its exit code."""
    from seqjax import supervise

    if not args.command:
        raise ConfigError("no command: write it after two dashes, seqjax supervise -- seqjax train ...")
    if args.restarts < 0 or not args.wait >= 0:
        raise ConfigError(f"got --restarts {args.restarts} --wait {args.wait}: both must be at least 0.")
    return supervise.supervise(args.command, args.restarts, args.wait)
