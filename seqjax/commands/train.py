"""seqjax train."""

from seqjax.commands import _config
from seqjax.screen import clean
from seqjax.types import ConfigError

ABOUT = "Train what a config describes; run the same command again to resume."
EXAMPLES = """\
  seqjax train --config experiments/quickstart.py:gru --workdir runs/gru
  seqjax train --config experiments/quickstart.py:gru --config.optim.learning_rate=3e-4 --workdir runs/gru-3e-4
  seqjax train --config runs/gru/config.json --workdir runs/gru-again      (replays a run)
  seqjax train --config experiments/names.py --dry_run"""


def options(parser) -> None:
    """The options of the command."""
    _config.options(parser)
    add = parser.add_argument
    add("--workdir", metavar="DIR", help="the run folder; resumed if it holds a run")
    add("--restart", action="store_true", help="delete the folder's checkpoints and begin at step 0")
    add("--dry_run", action="store_true", help="build everything, train nothing, print what it would cost")
    add("--print_config", action="store_true", help="print the resolved config as JSON and stop")
    add("--quiet", action="store_true", help="print only errors")
    group = parser.add_argument_group(
        "several processes", "one run on several hosts; SLURM, Open MPI, Kubernetes and TPU pods set these themselves"
    )
    group.add_argument(
        "--coordinator_address", metavar="HOST:PORT", help="address of process 0, the same for all processes"
    )
    group.add_argument("--num_processes", type=int, metavar="N", help="number of processes; 1 ignores a launcher")
    group.add_argument("--process_id", type=int, metavar="I", help="index of this process, from 0")
    group.add_argument(
        "--initialization_timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="longest wait for all processes (default: 300)",
    )
    group.add_argument(
        "--heartbeat_timeout",
        type=int,
        default=100,
        metavar="SECONDS",
        help="a process that is silent for longer counts as dead (default: 100)",
    )


def run(args) -> None:
    """Trains a run, or prints what it would train."""
    tree = _config.given(args)
    if args.workdir is None and not args.dry_run and not args.print_config:
        raise ConfigError("--workdir is missing: name the run folder, for example --workdir runs/first.")
    tree = _config.resolved(tree)
    if args.print_config:
        import json

        print(json.dumps(tree, indent=1))
        return
    from seqjax.training import tokenizer_file
    from seqjax.training.experiment import Experiment

    if args.dry_run:
        from seqjax.training import dry_run

        dry_run.show(Experiment(tree, saved=tokenizer_file.to_read(tree)))
        return
    from seqjax import config
    from seqjax.tokenizers._base import named
    from seqjax.training import facts, history, processes
    from seqjax.training import run as training_run
    from seqjax.training.workdir import Workdir

    processes.join(
        args.coordinator_address,
        args.num_processes,
        args.process_id,
        args.initialization_timeout,
        args.heartbeat_timeout,
    )
    workdir = Workdir(args.workdir, writes=processes.is_first())
    told = {"--workdir": str(workdir.path), "--restart": args.restart}
    processes.agree({**tree, **told, "versions": facts.versions()}, config.differences)
    saved = processes.together(lambda: tokenizer_file.to_read(tree, workdir, args.restart))
    experiment = processes.together(lambda: Experiment(tree, saved=saved))
    processes.agree({"tokenizer": experiment.tokenizer and named(experiment.tokenizer)}, config.differences)
    step = None if args.restart else history.finished(experiment, workdir)
    if step is not None:
        if processes.is_first():
            print(clean(f"already done at step {step}: {workdir.path}"))
        return
    if processes.is_first() and not args.quiet:
        from seqjax.testing import record

        record.warn([tree["model"]])
    training_run.train(experiment, workdir, restart=args.restart, command=args.command_line, quiet=args.quiet)
