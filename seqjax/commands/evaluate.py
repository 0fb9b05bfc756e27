"""seqjax evaluate."""

from seqjax.commands import _run_folder

ABOUT = "Evaluate a checkpoint on a whole split; writes results.json."
EXAMPLES = """\
  seqjax evaluate --workdir runs/gru
  seqjax evaluate --workdir runs/gru --split test"""


def options(parser) -> None:
    """The options of the command."""
    _run_folder.options(parser)
    parser.add_argument("--split", default="validation", help="which split (default: validation)")


def run(args) -> None:
    """Evaluates, prints and writes."""
    from seqjax import runtime
    from seqjax.training.progress import show
    from seqjax.training.trained import Trained

    runtime.setup()
    trained = Trained.load(args.workdir, args.checkpoint)
    result = trained.evaluate(args.split)
    print(f"{args.split} ({result['examples']:,} examples, step {result['step']}): {show(result['metrics'])}")
