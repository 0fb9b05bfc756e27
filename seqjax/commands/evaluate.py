"""seqjax evaluate."""

from seqjax.commands import _run_folder
from seqjax.screen import clean

ABOUT = "Evaluate a checkpoint on a whole split, or on a text of your own; writes results.json."
EXAMPLES = """\
  seqjax evaluate --workdir runs/gru
  seqjax evaluate --workdir runs/gru --split test
  seqjax evaluate --workdir runs/gru --split test --at data.length=256 --at data.length=512
  seqjax evaluate --workdir runs/gru --file my.txt"""


def options(parser) -> None:
    """The options of the command."""
    _run_folder.options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--split", default="validation", help="which split (default: validation)")
    which.add_argument("--file", metavar="TEXT", help="a text to score in place of a split: any UTF-8 file")
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
    split, what = ("file", f"file {args.file}") if args.file else (args.split, args.split)
    all_of = {what: trained} | {f"{what} at {at}": trained.at(at) for at in args.at}
    if args.file:
        all_of = {name: one.on_file(args.file) for name, one in all_of.items()}
    for name, one in all_of.items():  # all were checked before the first evaluation
        result = one.evaluate(split, name=name)
        said = f"{name} ({result['examples']:,} examples, step {result['step']}): {show(result['metrics'])}"
        print(clean(said))
    if not args.file and (note := trained.add_baselines(args.split)):
        print(clean(f"note: {note}"))
