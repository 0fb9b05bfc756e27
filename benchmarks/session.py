"""One run of a benchmark: its options, its machine, and its results case by case."""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import harness, results
from seqjax import __version__

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "torch", "keras", "hmmlearn", "dynamax", "numpy")


class Check(NamedTuple):
    """The options with which `benchmarks.gpu_check` runs a benchmark, in addition to `--quick`.

    `tables`: its summary shows the tables whose caption begins with one of these (a race: always its times and ratios).
    """

    device: str  # on an accelerator, where this takes about a minute
    cpu: str  # without one, where it only shows that the benchmark runs
    tables: tuple[str, ...] = ("",)


def sizes(letters: str) -> Callable[[str], tuple[int, ...]]:
    """An argparse type: `32,128,256` for the letters `B,L,D`."""

    def parse(text: str) -> tuple[int, ...]:
        try:
            found = tuple(map(int, text.split(",")))
        except ValueError:
            found = ()
        if len(found) != len(letters.split(",")) or min(found) < 1:
            raise argparse.ArgumentTypeError(f"got {text!r}, wanted {letters}, all at least 1, like 32,128,256.")
        return found

    return parse


def options(name: str, description: str, **words) -> argparse.ArgumentParser:
    """The options of all benchmarks, and one option with its choices for each of `words`."""
    out = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=description)
    out.formatter_class = argparse.RawDescriptionHelpFormatter
    out.set_defaults(benchmark=name)
    out.add_argument("--quick", action="store_true", help="three short visits: for a try, not for numbers to quote")
    out.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    for option, choices in words.items():
        out.add_argument(f"--{option}", nargs="+", choices=list(choices), default=list(choices))
    return out


def add_plan(out: argparse.ArgumentParser) -> None:
    """Adds `--pin`, `--rounds` and `--resume`, for benchmarks that can be measured in CPU time and case by case."""
    out.add_argument("--pin", action="store_true", help="one core, one thread, CPU time instead of wall time")
    out.add_argument(
        "--rounds",
        type=int,
        choices=range(harness.ENOUGH, 100),
        metavar="N",
        help="visits to each: at least 3",
    )
    out.add_argument("--resume", type=Path, metavar="FILE", help="a .json of results: what it has is not timed again")


def parser(name: str, description: str, opponents: Iterable[str], letters: str, **words) -> argparse.ArgumentParser:
    """The options of a race between libraries: `--shapes` in these letters, and one option for each of `words`."""
    out = options(name, description, **words, opponents=opponents)
    add_plan(out)
    out.add_argument("--shared", action="store_true", help="all contenders in one process, with one allocator")
    out.add_argument("--allocator", choices=("keep", "default"), help="for all (default: keep for ours)")
    out.add_argument("--shapes", nargs="+", type=sizes(letters), help=f"{letters}, instead of the standard ones")
    return out


def parse(options: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The parsed options, as `command` the typed command without the folder, and whether `--opponents` is left open."""
    argv = sys.argv[1:] if argv is None else argv
    args = options.parse_args(argv)
    args.any_opponents = getattr(args, "opponents", None) == options.get_default("opponents")
    files = ("--out", str(args.out), "--resume", str(getattr(args, "resume", None)))
    typed = [word for word in argv if word not in files and not word.startswith(("--out=", "--resume="))]
    args.command = shlex.join([*options.prog.split(), *typed])
    return args


def contenders(args, ours: Callable, opponents: dict[str, Callable], own: Iterable[str]) -> list[harness.Contender]:
    """Ours and the chosen opponents. Ours and those in `own` have our allocator, the others that of their users."""
    found = {results.OURS: ours, **{name: opponents[name] for name in args.opponents}}
    keeps = {results.OURS, *own}
    return [harness.Contender(n, build, "keep" if n in keeps else "default") for n, build in found.items()]


def run(args, cases: list[dict], contenders: list, targets: Callable, serves=lambda name, case: True) -> dict:
    """Runs all cases; prints the ratios and saves after each case; returns the result.

    `serves(name, case)`: whether a contender takes part in a case. An opponent that is not installed does not: its
    column says so.

    Raises:
      SystemExit: an opponent that was asked for by name is not installed, or options contradict each other.
    """
    absent = [c.name for c in contenders if c.name in PACKAGES and importlib.util.find_spec(c.name) is None]
    if absent and not args.any_opponents:
        sys.exit(f"{', '.join(absent)} not found: pip install -e '.[bench]', or choose other --opponents.")
    if args.allocator:
        contenders = [c._replace(allocator=args.allocator) for c in contenders]
    elif args.shared:
        sys.exit("--shared uses one process, which has one allocator: add --allocator keep or --allocator default.")
    contenders = [c for c in contenders if c.name not in absent]
    plan, facts = plan_of(args), about(args, contenders)
    result = resumed(facts, args.resume)
    result["allocators"] |= facts["allocators"]
    console = Console() if sys.stdout.isatty() else Console(width=160)
    for case in cases:
        if any(row["case"] == case for row in result["rows"]):
            continue
        timings = harness.race([c for c in contenders if serves(c.name, case)], case, plan)
        place(result, timings[results.OURS].device)
        left_out = {name: "not installed" for name in absent if serves(name, case)}
        result["rows"].append(results.row(case, timings, result["clock"], targets(**case), left_out))
        ratios = [f"{r['against']} {results.cell(r)}" for r in result["rows"][-1]["ratios"] if r["of"] == "time"]
        console.print(f"{results.title(case)}: " + ", ".join(ratios), highlight=False, soft_wrap=True)
        results.save(result, args.out / stem(result))
    for caption, (head, *lines) in results.tables(result["rows"])[:-1]:  # the last one is only in the file
        table = Table(*head, title=caption)
        for line in lines:
            table.add_row(*line)
        console.print(table)
    return result


def plan_of(args) -> harness.Plan:
    """The plan of the timing, from the options."""
    given = {"rounds": 3, "seconds": 0.05, "budget": 10.0} if args.quick else {}
    given |= {"rounds": args.rounds} if args.rounds else {}
    return harness.Plan(**given, pin=args.pin, shared=args.shared)


def place(result: dict, device: str) -> None:
    """Records the device that computed.

    Raises:
      SystemExit: CPU time was asked for, but an accelerator computed; or results of another device are resumed.
    """
    if result["clock"] == "cpu" and device != "cpu":
        sys.exit(f"--pin compares CPU time, which does not measure {device}: leave out --pin.")
    before = result["hardware"]["device"]
    if before not in (None, device):
        sys.exit(f"--resume: those are results of {before}, but {device} computed: leave out --resume.")
    result["hardware"]["device"] = device


def resumed(result: dict, path: Path | None) -> dict:
    """`result` with the rows and facts of earlier results in the file `path`, and their commands before its own.

    Raises:
      SystemExit: the earlier results were not measured in the same way.
    """
    if path is None:
        return result
    earlier = json.loads(path.read_text())
    result["hardware"]["device"] = earlier["hardware"]["device"]
    for key in ("name", "clock", "processes", "hardware", "versions", "layer"):
        if earlier.get(key) != result.get(key):
            sys.exit(f"--resume {path}: its {key} is {earlier.get(key)}, wanted {result.get(key)}: leave out --resume.")
    joined = {key: "; ".join(dict.fromkeys([*earlier[key].split("; "), result[key]])) for key in ("command", "git")}
    return earlier | joined | {"date": result["date"]}


def about(args, contenders: list[harness.Contender]) -> dict:
    """The facts that belong to each number: hardware, versions, command; no names of hosts or folders."""
    # Imported late: the processes of contenders import this file, and must not import JAX before its settings are made.
    from seqjax.training.facts import revision

    return {
        "name": args.benchmark,
        "clock": "cpu" if args.pin else "wall",
        "processes": "one for all" if args.shared else "one each",
        "allocators": {c.name: c.allocator for c in contenders},
        "hardware": {
            "device": None,
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "used": 1 if args.pin else "all",
        },
        "versions": {"seqjax": __version__, "python": platform.python_version(), **_versions()},
        "date": datetime.date.today().isoformat(),
        "command": args.command,
        "git": revision(),
        "rows": [],
    }


def stem(result: dict) -> str:
    """`recurrence-amd-epyc`, `recurrence-amd-epyc-pinned`, `recurrence-nvidia-h200`."""
    device = re.sub(r"(\(\w+\)|\b(cpu|processor)\b|[^a-z0-9])+", "-", results.machine(result).lower()).strip("-")
    return f"{result['name']}-{device}" + "-pinned" * (result["clock"] == "cpu")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    here = [name for name in PACKAGES if importlib.util.find_spec(name)]
    return {name: importlib.metadata.version(name) for name in here}
