"""The command line: parses, calls, prints, and exits with a code that says what happened."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from seqjax import __version__
from seqjax.types import ConfigError, SeqjaxError

EPILOG = """exit codes:
  0 done   2 config or usage   3 data   4 checkpoint   5 run folder   6 numerics   75 preempted: run it again
"""
KINDS = {
    "mixers": ("seqjax.mixers", "Mixer"),
    "models": ("seqjax.models", "Model"),
    "tasks": ("seqjax.tasks", "Task"),
    "sources": ("seqjax.data", "Source"),
}


def main(argv: list[str] | None = None) -> None:
    """The console script `seqjax`. Never returns: exits with the code of what happened."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args, rest = _parser().parse_known_args(argv)
        args.overrides = _overrides(args, rest)
        args.command_line = "seqjax " + shlex.join(argv)
        args.run(args)
        code = 0
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
    sys.exit(code)


def _overrides(args, rest: list[str]) -> list[str]:
    """`--config.a.b=value` and `--config.a.b value` -> `a.b=value`; anything else is a usage error."""
    out, words = [], iter(rest)
    for word in words:
        if not word.startswith("--config.") or not hasattr(args, "config"):
            from seqjax import lookup

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


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        raise ConfigError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="seqjax",
        description="Attention or recurrence, at this task, budget and length?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seqjax {__version__}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True, parser_class=_Parser)
    parser.subcommands = commands

    def command(name: str, run, about: str, examples: str):
        sub = commands.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command(
        "train",
        _train,
        "Train what a config describes; run the same command again to resume.",
        "  seqjax train --config experiments/quickstart.py:gru --workdir runs/gru\n"
        "  seqjax train --config experiments/quickstart.py:gru --config.optim.peak=3e-4 --workdir runs/gru-3e-4\n"
        "  seqjax train --config runs/gru/config.json --workdir runs/gru-again      (replays a run)\n"
        "  seqjax train --config experiments/names.py --dry_run",
    )
    sub.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="a .py with get_config, or config.json")
    sub.add_argument("--config.SECTION.KEY", metavar="VALUE", dest="_override", help="override a key; repeatable")
    sub.add_argument("--workdir", metavar="DIR", help="the run folder; resumed if it holds a run")
    sub.add_argument("--restart", action="store_true", help="delete the folder's checkpoints and begin at step 0")
    sub.add_argument("--dry_run", action="store_true", help="build everything, train nothing, print what it would cost")
    sub.add_argument("--print_config", action="store_true", help="print the resolved config as JSON and stop")
    sub.add_argument("--quiet", action="store_true", help="print nothing but errors")

    sub = command(
        "evaluate",
        _evaluate,
        "Evaluate a checkpoint on a whole split; writes results.json.",
        "  seqjax evaluate --workdir runs/gru\n  seqjax evaluate --workdir runs/gru --split test",
    )
    _reads_run(sub)
    sub.add_argument("--split", default="validation", help="which split (default: validation)")

    sub = command(
        "generate",
        _generate,
        "Sample text from a checkpoint, or answers to what it reads; writes samples.json.",
        "  seqjax generate --workdir runs/gru --prompt 'The ' --tokens 300\n"
        "  seqjax generate --workdir runs/gru --temperature 0           (greedy)\n"
        "  seqjax generate --workdir runs/gru --top_k 40 --top_p 0.95 --samples 3 --seed 1\n"
        "  seqjax generate --workdir runs/reverse --samples 4           (answers to sources)",
    )
    _reads_run(sub)
    sub.add_argument("--prompt", help="text to go on from (default: a new line)")
    sub.add_argument("--tokens", type=int, default=None, help="how many new tokens (default: to the trained length)")
    sub.add_argument("--samples", type=int, default=1, help="continuations, or validation examples (default: 1)")
    sub.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default: 0.8)")
    sub.add_argument("--top_k", type=int, default=None, help="draw from the k likeliest (default: all)")
    sub.add_argument("--top_p", type=float, default=1.0, help="draw from the likeliest that make up p (default: 1)")
    sub.add_argument("--seed", type=int, default=0, help="same seed, same text (default: 0)")

    sub = command(
        "report",
        _report,
        "Write report.html and report.md from one or several run folders.",
        "  seqjax report runs/gru runs/attention --out runs",
    )
    sub.add_argument("folders", nargs="+", metavar="DIR", help="run folders")
    sub.add_argument("--out", metavar="DIR", help="where to (default: the first folder)")
    sub.add_argument("--figure", metavar="FILE.svg", help="also save the main figure by itself")

    sub = command(
        "list",
        _list,
        "Show every mixer, model, task and source, or one of these kinds.",
        "  seqjax list\n  seqjax list mixers",
    )
    sub.add_argument("kind", nargs="?", choices=list(KINDS), help="only this kind")
    return parser


def _reads_run(sub) -> None:
    sub.add_argument("--workdir", required=True, metavar="DIR", help="the run folder")
    sub.add_argument("--checkpoint", default="best", metavar="best|latest|STEP", help="which one (default: best)")


def _experiment(args):
    from seqjax import config, runtime
    from seqjax.training import experiment

    tree = experiment.resolve(config.override(config.load(args.config), args.overrides))
    runtime.setup()
    return tree, lambda: experiment.Experiment(tree)


def _train(args) -> None:
    import json

    tree, build = _experiment(args)
    if args.print_config:
        print(json.dumps(tree, indent=1))
        return
    if args.workdir is None and not args.dry_run:
        raise ConfigError("--workdir is missing: say where the run should live, for example --workdir runs/first.")
    if args.dry_run:
        from seqjax.training import dry_run

        dry_run.show(build())
        return
    from seqjax.training import history, loop
    from seqjax.training.workdir import Workdir

    workdir = Workdir(args.workdir)
    experiment = build()
    step = None if args.restart else history.finished(experiment, workdir)
    if step is not None:
        print(f"already done at step {step}: {workdir.path}")
        return
    loop.train(experiment, workdir, restart=args.restart, command=args.command_line, quiet=args.quiet)


def _evaluate(args) -> None:
    from seqjax import runtime
    from seqjax.training.progress import show
    from seqjax.training.trained import Trained

    runtime.setup()

    trained = Trained.load(args.workdir, args.checkpoint)
    result = trained.evaluate(args.split)
    print(f"{args.split} ({result['examples']:,} examples, step {result['step']}): {show(result['metrics'])}")


def _generate(args) -> None:
    from seqjax import runtime
    from seqjax.decoding import Sampling
    from seqjax.decoding.show import show
    from seqjax.training.trained import Trained

    try:
        sampling = Sampling(args.temperature, args.top_k, args.top_p)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    runtime.setup()
    trained = Trained.load(args.workdir, args.checkpoint)
    how = dict(samples=args.samples, seed=args.seed, sampling=sampling)
    print(show(trained, prompt=args.prompt, tokens=args.tokens, **how))


def _report(args) -> None:
    from seqjax import report

    folders = [Path(f) for f in args.folders]
    out = Path(args.out) if args.out else folders[0]
    path = report.write(folders, out)
    if args.figure:
        report.figure(folders, Path(args.figure))
    print(f"report: {path}")


def _list(args) -> None:
    from rich.console import Console
    from rich.table import Table

    from seqjax import lookup

    console = Console(highlight=False)
    console.on_broken_pipe = _broken_pipe
    for kind, (package, symbol) in KINDS.items():
        if args.kind not in (None, kind):
            continue
        table = Table(title=kind, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        for name in lookup.names(package):
            table.add_row(f"  {name}", lookup.summary(package, name, symbol))
        console.print(table)
        console.print()


def _broken_pipe():
    raise BrokenPipeError  # rich would exit with 1
