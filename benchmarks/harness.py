"""Times contenders against each other on a machine that also runs other programs.

All contenders run the same case (a computation at given sizes). Each contender has its own process unless `shared` is
set, with the allocator that its users have. They take turns, A B C C B A A B C; the others sleep. A visit is one call
to warm up, then calls for 0.4 s; `/proc/stat` shows how much of a core other processes used in that time. Two clocks:

    wall   the time that a user waits, only from quiet visits: torch gets much slower if another process holds a core.
    cpu    `pin`: one core, one thread, CPU time of the process: stable to 2 % while other programs run.
"""

import math
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.ready import Built, Decoded, Work

QUIET = 0.1  # of a core: the most that other processes use in a quiet visit
ENOUGH = 3  # visits needed for a median


class Contender(NamedTuple):
    """`build(**case)` runs in the contender's process, so it is a function of a module and imports what it needs."""

    name: str
    build: Callable[..., Built]
    allocator: Literal["keep", "default"] = "default"  # keep: as the seqjax command line sets it


class Visit(NamedTuple):
    """Seconds per call, and the share of a core that other processes used during the visit."""

    wall: float
    cpu: float
    others: float

    @property
    def quiet(self) -> bool:
        return self.others < QUIET


class Timing(NamedTuple):
    """The measurements of one contender in one case."""

    visits: list[Visit]
    allocator: str
    device: str
    compile_s: float | None
    temp_mb: float | None
    peak_mb: float | None  # resident memory of the process, libraries and compilation included; None if shared
    decoded: Decoded | None = None
    work: Work | None = None
    left_out: str | None = None  # why there are no visits


class Plan(NamedTuple):
    """How to time. `seconds` is the length of a visit, `budget` the total length of all visits to a case."""

    rounds: int = 7
    seconds: float = 0.4
    budget: float = 90.0
    pin: bool = False
    shared: bool = False  # all contenders in one process


def turns(names: Iterable[str], round: int) -> list[str]:
    """The order of visits in a round: forwards, then backwards, so that a drift affects all contenders equally."""
    return list(names)[:: -1 if round % 2 else 1]


def race(contenders: list[Contender], case: dict, plan: Plan) -> dict[str, Timing]:
    """Times all contenders at one case.

    Raises:
      ValueError: contenders of one process need different allocators, or they run on different devices.
      RuntimeError: a contender failed; the message has its traceback.
    """
    hosts: dict[str, _Host] = {}
    try:
        for c in contenders:
            shared = next(iter(hosts.values()), None) if plan.shared else None
            hosts[c.name] = shared or _Host(c.allocator, plan.pin)
            if hosts[c.name].allocator != c.allocator:
                raise ValueError(f"{c.name} needs the allocator {c.allocator}: set one for all in a process.")
        # One after the other, so that no compilation slows down another one.
        facts = {c.name: hosts[c.name].ask("build", c.name, c.build, case) for c in contenders}
        devices = {f["device"] for f in facts.values()}
        if len(devices) > 1:
            raise ValueError(f"contenders run on different devices: { ({n: f['device'] for n, f in facts.items()}) }.")
        visits = _visits({name: host for name, host in hosts.items() if not facts[name]["left_out"]}, plan)
        peaks = {name: None if plan.shared else host.ask("peak") for name, host in hosts.items()}
    finally:
        for host in hosts.values():
            host.close()
    return {
        c.name: Timing(visits.get(c.name, []), c.allocator, peak_mb=peaks[c.name], **facts[c.name]) for c in contenders
    }


def _visits(hosts: dict, plan: Plan) -> dict[str, list[Visit]]:
    """Visits in rounds, until each contender has enough quiet ones, the budget is spent, or the machine stays busy."""
    calls = {name: host.ask("calls", name, plan.seconds) for name, host in hosts.items()}
    visits: dict[str, list[Visit]] = {name: [] for name in hosts}
    start = time.perf_counter()
    for round in range(4 * plan.rounds):
        for name in turns(hosts, round):
            visits[name].append(hosts[name].ask("visit", name, calls[name]))
        counted = min((sum(v.quiet or plan.pin for v in of) for of in visits.values()), default=plan.rounds)
        if counted >= plan.rounds or (round + 1 >= ENOUGH and time.perf_counter() - start > plan.budget):
            break
    return visits


class _Host:
    """A process that holds contenders and does one thing at a time."""

    def __init__(self, allocator: str, pin: bool):
        context = multiprocessing.get_context("spawn")  # a fork would inherit threads and the allocator
        self.allocator = allocator
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, allocator, pin), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *message):
        """Sends a request, waits, and returns the answer."""
        try:
            self.pipe.send(message)
            fine, answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            raise RuntimeError(f"the process died with code {self.process.exitcode} during {message[:2]}.") from error
        if not fine:
            raise RuntimeError(f"{' '.join(map(str, message[:2]))} failed:\n{answer}")
        return answer

    def close(self) -> None:
        self.pipe.close()  # the process reads the end of the pipe and leaves
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


def _work(pipe, allocator: str, pin: bool) -> None:
    """The loop of a host: answers requests until the pipe closes."""
    if pin:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # else the cache would be timed
    if allocator == "keep":
        from seqjax import runtime

        os.environ["SEQJAX_MALLOC"] = "keep"
        runtime.keep_pages()
    built: dict[str, Built] = {}

    def build(name, function, case):
        built[name] = function(**case)
        return {key: value for key, value in built[name]._asdict().items() if key != "call"}

    answers = {
        "build": build,
        "calls": lambda name, seconds: calls_for(built[name].call, seconds),
        "visit": lambda name, calls: visit(built[name].call, calls),
        "peak": peak_mb,
    }
    while True:
        try:
            what, *args = pipe.recv()
            try:
                answer = (True, answers[what](*args))
            except Exception:
                answer = (False, traceback.format_exc())
            pipe.send(answer)
        except (EOFError, OSError):  # the other end is gone
            return


def calls_for(call: Callable, seconds: float) -> int:
    """The number of calls that take about `seconds`."""
    call()
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        if best > seconds:
            break
    return max(1, round(seconds / best))


def visit(call: Callable, calls: int) -> Visit:
    """Makes one call to warm up, then times `calls` calls."""
    call()
    busy, cpu, wall = _busy(), time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    wall, cpu, busy = time.perf_counter() - wall, time.process_time() - cpu, _busy() - busy
    return Visit(wall / calls, cpu / calls, max(0.0, busy - cpu) / wall)


def _busy() -> float:
    """Seconds that all cores together have worked since the machine started, including stolen time."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def peak_mb() -> float:
    """The peak resident memory of this process."""
    status = Path("/proc/self/status").read_text()  # getrusage would count what the parent had before exec
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
