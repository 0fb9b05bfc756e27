"""seqjax fingerprint."""

import os

from seqjax.types import ConfigError

ABOUT = "Measure what mixers can do and what they cost: equal probes, one page per mixer, one page that compares all."
EXAMPLES = """\
  seqjax fingerprint --mixer gru
  seqjax fingerprint --mixer gru,attention,rg_lru --workdir runs/fingerprint --seeds 3
  seqjax fingerprint --mixer attention --config.model.mixer.window=16 --name attention-16
  seqjax fingerprint --all --tier gpu --workdir runs/fingerprint-gpu
  seqjax fingerprint --mixer gru --dry_run"""


def options(parser) -> None:
    """The options of the command."""
    parser.set_defaults(config=None)  # there is no config file, only keys to override
    add = parser.add_argument
    add("--mixer", action="append", default=[], metavar="NAME", help="which mixer; repeatable, or a list with commas")
    add("--all", action="store_true", help="every mixer that is causal and reads one sequence")
    add("--config.SECTION.KEY", metavar="VALUE", dest="_override", help="override a key of all runs; repeatable")
    add("--name", help="name of the fingerprint (default: the mixer's name)")
    add("--workdir", default="runs/fingerprint", metavar="DIR", help="output folder (default: runs/fingerprint)")
    add("--tier", default="cpu", help="cpu: 10 minutes a mixer on two cores; gpu: larger (default: cpu)")
    add("--seeds", type=int, default=1, help="runs at the chosen learning rate (default: 1)")
    add("--slots", type=int, default=None, help="runs at a time (default: one per core; one with --tier gpu)")
    add("--dry_run", action="store_true", help="train nothing, print the probes and how long they would take")


def run(args) -> None:
    """Takes the fingerprints, and writes the pages after each."""
    mixers = [name for names in args.mixer for name in names.split(",")]
    if bool(mixers) == args.all:
        raise ConfigError(f"name mixers with --mixer, or all with --all; got {'both' if args.all else 'neither'}.")
    # The runs are processes that share one device, so none of them may reserve all memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    from pathlib import Path

    from seqjax import runtime
    from seqjax.report import fingerprint as pages
    from seqjax.search import fingerprint
    from seqjax.search._display import Display
    from seqjax.testing import record

    runtime.setup()
    mixers = mixers or fingerprint.causal()
    if args.name and len(mixers) > 1:
        raise ConfigError(f"--name {args.name} is for one mixer, got {len(mixers)}: name one mixer at a time.")
    slots = args.slots if args.slots is not None else 1 if args.tier == "gpu" else os.cpu_count() or 1
    with Display() as display:
        options = dict(name=args.name, overrides=args.overrides, tier=args.tier, seeds=args.seeds, slots=slots)
        prints = [fingerprint.Fingerprint(mixer, args.workdir, **options, display=display) for mixer in mixers]
        if not args.dry_run:
            record.warn([taken.model for taken in prints])
        for taken in prints:
            if args.dry_run:
                _show(taken)
                continue
            taken.run()
            finished, unfinished = fingerprint.read(args.workdir)
            path = pages.write(Path(args.workdir), finished)
            if unfinished:
                display.say(f"not finished, so not on the pages: {', '.join(unfinished)}")
            display.say(f"report: {path.with_name(f'{taken.name}.html')}, side by side: {path}")


def _show(taken) -> None:
    """The probes of one mixer, and an estimate."""
    from seqjax.report.words import seconds

    print(f"{taken.name}, tier {taken.tier_name}: learning rates {', '.join(f'{p:g}' for p in taken.tier.peaks)}")
    for probe in taken.tier.probes:
        sizes = ", ".join(f"{k}={v}" for k, v in probe.data.items() if k != "name")
        longer = f", scored at {', '.join(f'{f}x' for f in probe.factors)}" if len(probe.factors) > 1 else ""
        print(f"  {probe.name:17} {sizes}; {probe.steps:,} steps{longer}")
    runs, total = taken.estimate()
    lengths = ", ".join(map(str, taken.tier.lengths))
    print(f"  time and memory   at {lengths} tokens")
    print(f"  {runs} runs: about {seconds(total)} of training one after the other, {taken.slots} at a time")
