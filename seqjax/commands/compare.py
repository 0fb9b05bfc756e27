"""seqjax compare."""

from seqjax.commands import _config
from seqjax.screen import clean
from seqjax.types import ConfigError

ABOUT = "Compare models fairly: equal budget, a learning-rate search for each, seeds, statistics, one page."
EXAMPLES = """\
  seqjax compare --config experiments/compare/recall.py --workdir runs/recall
  seqjax compare --config experiments/compare/recall.py --dry_run
  seqjax compare --config experiments/compare/digits.py --config.base.train.steps=400 --workdir runs/digits --slots 2"""


def options(parser) -> None:
    """The options of the command."""
    _config.options(parser, "get_comparison", base="base.")
    add = parser.add_argument
    add("--workdir", metavar="DIR", help="folder for all runs and the report; run the same command again to continue")
    add("--executor", metavar="NAME", help="what starts the runs (default: from the config, else local)")
    add("--slots", type=int, metavar="N", help="runs at a time (default: from the config, else 1)")
    add("--dry_run", action="store_true", help="solve the sizes, print the plan, train nothing")


def run(args) -> None:
    """Trains the runs that are missing, and writes report.html, report.md, results.csv and results.parquet."""
    tree = _config.given(args, "get_comparison")
    if args.workdir is None and not args.dry_run:
        raise ConfigError("--workdir is missing: say where the runs should live, for example --workdir runs/recall.")
    from pathlib import Path

    from seqjax import config, runtime
    from seqjax.report import compare as page
    from seqjax.search import compare, plan, sizes
    from seqjax.search._display import Display
    from seqjax.testing import record
    from seqjax.training import experiment
    from seqjax.training.workdir import Workdir

    tree = plan.settled(tree)
    wishes = {"executor": args.executor, "executor.slots": args.slots}
    wishes = {key: wish for key, wish in wishes.items() if wish is not None}
    if wishes:
        tree.setdefault("executor", "local")
    tree = config.override(tree, wishes)
    runtime.setup()
    runtime.leave_memory()
    comparison = plan.resolve(tree)
    with Display() as display:
        if args.dry_run:
            display.plan(comparison, sizes.sizes(comparison, display=display))
            return
        trees = (comparison.tree(name, value) for name in comparison.contenders for value in comparison.values)
        record.warn(experiment.resolve(tree)["model"] for tree in trees)
        with _executor(comparison) as executor:
            workdir = Workdir(args.workdir).lock()
            workdir.write("comparison.json", tree)
            findings = compare.compare(comparison, workdir, executor, display)
    title = Path(args.config.partition(":")[0]).stem
    path = page.write(findings, Path(args.workdir), title, args.command_line)
    print(clean(f"report: {path}"))


def _executor(comparison):
    """The executor of a comparison. Raises ConfigError if it refuses its options."""
    try:
        return comparison.executor()
    except ValueError as error:
        raise ConfigError(f"executor: {error}") from error
