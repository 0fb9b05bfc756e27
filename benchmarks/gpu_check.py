"""Does seqjax work on this accelerator, and how fast is it there? Tests, killed runs and quick tables in ten minutes.

    make gpu-check PYTHON=/path/to/python DIR=runs/gpu-check
    python -m benchmarks.gpu_check --out runs/gpu-check --parts tests recurrence

Installs nothing. Each part is a process of its own with a time limit and a log in the folder, and the next part starts
whatever became of it. Parts: the tests with the mark `gpu`; `seqjax verify-resume`; a run that is killed from outside;
and each benchmark of this folder that has a `CHECK`, its options for this command. `summary.md` is written again after
each part. Exit code: 1 if a part failed, 130 if interrupted. Without an accelerator, sizes are small.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib
import json
import os
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import benchmarks
from benchmarks import results
from seqjax.machine import ONE_ORDER

ROOT = Path(__file__).parents[1]
MINUTES = 9.5
# What a process finds out, so that this one holds no memory of the device.
PROBE = """
import importlib.util, json, jax
from seqjax.training import facts
device, absent = jax.local_devices()[0], [n for n in ("torch", "keras") if importlib.util.find_spec(n) is None]
if device.platform != "cpu" and "torch" not in absent:
    import torch
    absent += ["torch"] * (not torch.cuda.is_available())
print(json.dumps({
    "platform": device.platform, "device": device.device_kind, "devices": jax.device_count(), "absent": absent,
    "runtime": device.client.platform_version.splitlines()[-1],
    "capability": getattr(device, "compute_capability", None),
    "memory": (device.memory_stats() or {}).get("bytes_limit"),
    "versions": facts.versions(), "git": facts.revision(), "environment": jax.print_environment_info(True),
}))
"""


Figures = list[tuple[str, list[list[str]]]] | str  # caption and cells (the first line is the head), or a line of text


class Part(NamedTuple):
    """A process of the check. `figures` reads what it left: the main figures, as tables or as text."""

    name: str
    command: list[str]
    figures: Callable[[Path], Figures]
    weight: float = 1.0  # of the time that is left, among the parts that are left
    env: dict[str, str] = {}


@dataclasses.dataclass
class Outcome:
    """What became of a part: "passed", "failed" or "skipped", the reason unless it passed, and its main figures."""

    name: str
    became: str
    seconds: float = 0.0
    reason: str = ""
    figures: Figures = ""


def probe() -> dict:
    """The device, the driver and the versions; with "error" if JAX cannot tell."""
    ask = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    try:
        done = ask([sys.executable, "-c", PROBE])
    except subprocess.TimeoutExpired as error:
        return {"platform": None, "absent": [], "error": f"no answer in {error.timeout} s"}
    if done.returncode:
        return {"platform": None, "absent": [], "error": _last(done.stderr)}
    found = json.loads(done.stdout.splitlines()[-1]) | {"driver": ""}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        found["driver"] = ask(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).stdout.strip()
    return found


def parts(machine: dict, out: Path) -> list[Part]:
    """All parts, for the platform of the machine, and without opponents that it lacks."""
    seqjax, config = ["-m", "seqjax"], str(ROOT / "experiments" / "quickstart.py:gru")
    proof = ["--steps", "24", "--kills", "1", "--workdir", str(out / "verify-resume")]
    flags = f"{os.environ.get('XLA_FLAGS', '')} {ONE_ORDER}".strip()
    found = [
        Part("tests", ["-m", "pytest", "-m", "gpu", "-rs"], _last_line, weight=3.0),
        Part("verify-resume", [*seqjax, "verify-resume", "--config", config, *proof], _last_line),
        Part("killed", ["-m", "benchmarks._kill", "--out", str(out / "killed")], _last_line, env={"XLA_FLAGS": flags}),
    ]
    size = "cpu" if machine["platform"] == "cpu" else "device"
    for name in sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__)):
        if name.startswith("_") or not (check := getattr(importlib.import_module(f"benchmarks.{name}"), "CHECK", None)):
            continue
        words = [word for word in shlex.split(getattr(check, size)) if word not in machine["absent"]]
        command = ["-m", f"benchmarks.{name}", "--quick", *words, "--out", str(out)]
        found.append(Part(name, command, functools.partial(tables, begin=check.tables)))
    return found


def run(part: Part, out: Path, limit: float) -> Outcome:
    """Runs a part for at most `limit` seconds; its output goes to a log. What it started ends with it."""
    log = out / f"{part.name}.log"
    start = time.monotonic()
    with log.open("w") as file:
        print("$ python", shlex.join(part.command), file=file, flush=True)
        process = subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **part.env},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    outcome = Outcome(part.name, "failed" if code else "passed", time.monotonic() - start)
    if code is None:
        outcome.became, outcome.reason = "failed", f"no end after {limit:.0f} s"
    elif code:
        outcome.reason = f"code {code}: {_last(log.read_text())}"
    try:
        outcome.figures = part.figures(log)
    except Exception as error:  # the figures of one part must not stop the others
        outcome.figures = f"no figures: {type(error).__name__}: {error}"
    return outcome


def _end(process: subprocess.Popen) -> None:
    """Kills a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _last_line(log: Path) -> str:
    """The last line of a log; of pytest, the one with the numbers, and why tests were skipped."""
    text = log.read_text()
    numbers = re.findall(r"^\d+ (?:passed|failed|skipped).*$", text, re.MULTILINE)
    reasons = dict.fromkeys(re.findall(r"^SKIPPED \[\d+\] [^ ]+: (.*)$", text, re.MULTILINE))
    return "; ".join([numbers[-1] if numbers else _last(text), *(f"skipped: {reason}" for reason in reasons)])


def tables(log: Path, begin: tuple[str, ...]) -> Figures:
    """The tables of a benchmark whose caption begins so; of a race, the times of ours and the ratios to the others."""
    file = next(log.parent.glob(f"{log.stem}-*.json"), None)
    if file is None:
        return "nothing was measured"
    rows = json.loads(file.read_text())["rows"]
    if not all(results.OURS in row.get("contenders", {}) for row in rows):
        parts = re.findall(r"^## (.*)\n\n((?:\|.*\n)+)", file.with_suffix(".md").read_text(), re.MULTILINE)
        return [(caption, _cells(block)) for caption, block in parts if caption.startswith(begin)]
    caption, (head, *lines) = results.tables(rows)[0]
    ours = [row["contenders"][results.OURS] for row in rows]
    times = ["~" * figures["noisy"] + f"{figures['ms']:.3g}" for figures in ours]
    lines = [[line[0], ms, *line[1:]] for line, ms in zip(lines, times, strict=True)]
    return [(caption, [[head[0], "ours, ms", *head[1:]], *lines])]


def _cells(block: str) -> list[list[str]]:
    """The cells of a table in markdown."""
    lines = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in block.splitlines()]
    return [line for i, line in enumerate(lines) if i != 1]


def summary(machine: dict, outcomes: list[Outcome], note: str = "") -> str:
    """One page: the machine, the versions, and each part with its reason and main figures."""
    count = lambda became: sum(outcome.became == became for outcome in outcomes)
    lines = ["# Check of an accelerator", "", f"{count('passed')} passed, {count('failed')} failed, "
             f"{count('skipped')} skipped.{note}", ""]  # fmt: skip
    lines += [*about(machine), "", "| part | | seconds | |", "| --- | --- | --- | --- |"]
    for o in outcomes:
        figures = o.figures if isinstance(o.figures, str) else "see below"
        said = "; ".join(text for text in dict.fromkeys((o.reason, figures)) if text)
        lines.append(f"| {o.name} | {o.became} | {o.seconds:.0f} | {said.replace('|', '/')[:400]} |")
    for o in outcomes:
        for caption, (head, *rows) in () if isinstance(o.figures, str) else o.figures:
            lines += ["", f"**{o.name}**: {caption}", ""]
            lines += [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    lines += ["", "`~`: other processes worked at the time. Logs and results are in this folder."]
    return "\n".join(lines) + "\n"


def about(machine: dict) -> list[str]:
    """The machine and the versions, as a list."""
    if "error" in machine:
        return [f"- The device cannot be asked: {machine['error']}"]
    memory = f", {machine['memory'] / 2**30:.0f} GiB for JAX" if machine["memory"] else ""
    capability = f", compute capability {machine['capability']}" if machine["capability"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    found = [f"- {machine['devices']} x {machine['device']}{capability}{memory}; {machine['runtime']}"]
    if machine["driver"]:
        found.append(f"- driver {', '.join(dict.fromkeys(machine['driver'].split()))}")
    if machine["platform"] == "cpu":
        found.append("- **No accelerator: JAX computes on the CPU. This only tries the command, with small sizes.**")
    if machine["absent"]:
        found.append(f"- without {', '.join(machine['absent'])}, which is not installed or does not see the device")
    return [*found, f"- {versions}, revision {machine['git']}"]


def check(wanted: list[Part], machine: dict, out: Path, minutes: float) -> int:
    """Runs the parts one after the other; returns the exit code."""
    outcomes: list[Outcome] = []
    write = lambda note="": (out / "summary.md").write_text(summary(machine, outcomes, note))
    end = time.monotonic() + 60 * minutes
    for i, part in enumerate(wanted):
        share = part.weight / sum(later.weight for later in wanted[i:])
        limit = share * (end - time.monotonic())
        print(f"{part.name}: at most {limit:.0f} s", flush=True)
        try:
            outcomes.append(
                run(part, out, limit) if limit > 1 else Outcome(part.name, "skipped", reason="no time left")
            )
        except KeyboardInterrupt:
            outcomes += [Outcome(left.name, "skipped", reason="interrupted") for left in wanted[i:]]
            write(" Interrupted.")
            return 130
        write()
        print(f"  {outcomes[-1].became}. {outcomes[-1].reason}", flush=True)
    return int(any(outcome.became == "failed" for outcome in outcomes))


def main(argv: list[str] | None = None) -> None:
    """Parses the options, asks for the device, runs the parts and prints the summary."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_check", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="new folder for logs, results and summary.md")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for all parts (default: {MINUTES:g})")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    if out.exists() and any(out.iterdir()):
        parser.error(f"--out: {args.out} holds an earlier check or other files: choose another folder, or delete it.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = probe()
    found = parts(machine, out)
    if unknown := set(args.parts or ()) - {part.name for part in found}:
        parser.error(f"--parts: got {', '.join(sorted(unknown))}; choose from {', '.join(p.name for p in found)}.")
    print("\n".join(about(machine)), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "machine.txt").write_text(machine.get("environment", machine.get("error", "")) + "\n")
    code = check([part for part in found if part.name in (args.parts or part.name)], machine, out, args.minutes)
    print((out / "summary.md").read_text())
    sys.exit(code)


if __name__ == "__main__":
    main()
