"""seqjax evaluate."""

from seqjax.commands import _run_folder
from seqjax.screen import clean

ABOUT = "Evaluate a checkpoint on a whole split; writes results.json, and trained baselines into run.json."
EXAMPLES = """\
  seqjax evaluate --workdir runs/gru
  seqjax evaluate --workdir runs/gru --split test
  seqjax evaluate --workdir runs/gru --split test --at data.length=256 --at data.length=512"""


def options(parser) -> None:
    """The options of the command."""
    _run_folder.options(parser)
    parser.add_argument("--split", default="validation", help="which split (default: validation)")
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="evaluate again with this key of the data changed; repeatable",
    )


def run(args) -> None:
    """Evaluates, prints and writes."""
    _run_folder.check(args.workdir)
    from seqjax import runtime
    from seqjax.training.progress import show
    from seqjax.training.trained import Trained

    runtime.setup()
    trained = Trained.load(args.workdir, args.checkpoint)
    elsewhere = {f"{args.split} at {at}": trained.at(at) for at in args.at}  # check all before the first evaluation
    for name, one in {args.split: trained, **elsewhere}.items():
        result = one.evaluate(args.split, name=name)
        said = f"{name} ({result['examples']:,} examples, step {result['step']}): {show(result['metrics'])}"
        print(clean(said))
    if note := trained.add_baselines(args.split):
        print(clean(f"note: {note}"))
