"""seqjax verify-resume."""

from seqjax.commands import _config
from seqjax.types import ConfigError

ABOUT = "Prove that a config resumes to the same bits: train straight, train with kills, compare."
EXAMPLES = """\
  seqjax verify-resume --config experiments/quickstart.py:gru
  seqjax verify-resume --config experiments/names.py --steps 100 --kills 5 --workdir runs/proof"""

SET = {
    "train.steps": ": pass --steps N",
    "train.log_every": ", so that it can kill between two log lines: leave it out",
    "train.checkpoint_every": ", so that there is a checkpoint between two kills: leave it out",
    "train.patience": ", because both runs must reach the last step: leave it out",
}


def options(parser) -> None:
    """The options of the command."""
    _config.options(parser)
    add = parser.add_argument
    add("--steps", type=int, default=30, metavar="N", help="steps of each of the two runs (default: 30)")
    add("--kills", type=int, default=3, metavar="N", help="how often the second run is killed (default: 3)")
    add("--seed", type=int, default=0, help="seed that chooses the steps of the kills (default: 0)")
    add("--workdir", metavar="DIR", help="keep both runs here (default: a temporary folder)")


def run(args) -> None:
    """Trains twice, and prints that the bits are the same."""
    wanted = max(args.kills, 1)
    if args.kills < wanted or args.steps < 2 * (wanted + 1):
        raise ConfigError(
            f"got {args.kills} kills in {args.steps} steps: wanted at least 1 kill, and for {wanted} at least "
            f"{2 * (wanted + 1)} steps."
        )
    tree = _config.given(args)
    import contextlib
    import tempfile
    from pathlib import Path

    from seqjax import verify
    from seqjax.training import progress

    say = progress.console(soft_wrap=True).print
    for word in args.overrides:
        path = word.partition("=")[0]
        if key := next((key for key in SET if f"{key}.".startswith(f"{path}.")), None):
            raise ConfigError(f"--config.{word}: verify-resume sets {key} itself{SET[key]}.")
    tree = _config.resolved(tree)
    with contextlib.ExitStack() as stack:
        folder = Path(args.workdir or stack.enter_context(tempfile.TemporaryDirectory(prefix="seqjax-verify-")))
        verdict = verify.verify(tree, folder, steps=args.steps, kills=args.kills, seed=args.seed, say=say)
    say(
        f"same bits after {verdict.steps} steps, without kills and with kills at steps "
        f"{', '.join(map(str, verdict.kills))}: sha256 {verdict.digest}"
    )
