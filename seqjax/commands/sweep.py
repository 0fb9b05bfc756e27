"""seqjax sweep."""

from seqjax.commands import _config
from seqjax.screen import clean
from seqjax.types import SeqjaxError

ABOUT = "Search the space that a config's sweep() describes; run the same command again to continue."
EXAMPLES = """\
  seqjax sweep --config experiments/digits.py --workdir runs/sweep --trials 20
  seqjax sweep --config experiments/digits.py --workdir runs/sweep --sampler tpe --pruner median --slots 2
  seqjax sweep --config experiments/digits.py --workdir runs/folds --trials 10 --folds 5
  seqjax sweep --config experiments/digits.py --workdir runs/sweep --executor slurm --executor_option minutes=240"""
OPTIONS = ("trials", "sampler", "pruner", "folds", "seeds", "seed", "storage")


def options(parser) -> None:
    """The options of the command."""
    _config.options(parser)
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help="folder of the sweep; resumed if it holds one")
    add("--trials", type=int, metavar="N", help="number of trials (default: 20, or the whole grid)")
    add("--sampler", metavar="tpe|random|grid", help="what chooses the next values (default: tpe)")
    add("--pruner", metavar="none|median|halving", help="what ends bad trials early (default: none)")
    add("--folds", type=int, metavar="K", help="cross-validate: each trial is K runs, judged by their mean")
    add("--seeds", type=int, metavar="N", help="each trial is N runs with other seeds (default: 1)")
    add("--seed", type=int, metavar="N", help="seed of the sampler (default: 0)")
    add("--storage", metavar="URL", help="a database, such as postgresql://... (default: a file in DIR)")
    add("--executor", default="local", metavar="NAME", help="local, slurm or ray (default: local)")
    add("--slots", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    add(
        "--executor_option", action="append", default=[], metavar="KEY=VALUE", help="option of the executor; repeatable"
    )


def run(args) -> None:
    """Runs the trials, writes the report, and prints the best trial."""
    tree = _config.given(args)
    import shlex

    from seqjax import config, runtime
    from seqjax.report import sweep as report
    from seqjax.search import executors, space, sweep
    from seqjax.search._board import Board, value
    from seqjax.testing import record

    base = _config.resolved(tree)
    given = {key: getattr(args, key) for key in OPTIONS if getattr(args, key) is not None}
    how = sweep.Options(**config.resolve(sweep.Options, given))
    executor = executors.named(args.executor, args.slots, args.executor_option)
    runtime.leave_memory()
    record.warn([base["model"]])
    search = sweep.Sweep(base, space.read(args.config), how, args.workdir)
    try:
        with executor() as place, Board(search) as board:
            search.run(place, on_look=board.look)
    finally:
        found = search.summary()
        if found.records:
            path = report.write(found)
    if found.best is None:
        errors = [record.error for record in found.records if record.error]
        raise SeqjaxError(f"no trial is done; {f'the first error: {errors[0]}' if errors else 'all were pruned'}")
    best = search.workdir.path / "best.json"
    new = shlex.quote(str(search.workdir.path / "best"))
    print(f"best: trial {found.best.number}, {found.monitor} {value(found.best.value)}")
    print(clean(f"report: {path}"))
    print(clean(f"train it: seqjax train --config {shlex.quote(str(best))} --workdir {new}"))
