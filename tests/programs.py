"""A plug-in: what each test file costs, and how many programs JAX compiles for it."""

import collections
import os
import time

import jax
import pytest

STAGES = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}
COLUMNS = ("cpu", *STAGES.values(), "programs", "tests")
SHOWN = 15  # files; all with -v
MANY = 300  # programs

spent = collections.Counter()  # of this process so far
files = collections.defaultdict(collections.Counter)
subjects = collections.Counter()  # (file, subject) -> programs
_heard = []  # begin and length of traces that none of those heard so far holds


def _hear(event, seconds, **_):
    if event not in STAGES:
        return
    begin, inside = time.time() - seconds, 0
    while STAGES[event] == "trace" and _heard and _heard[-1][0] >= begin:
        inside += _heard.pop()[1]  # of a trace within this one, heard before it
    if STAGES[event] == "trace":
        _heard.append((begin, seconds))
    spent[STAGES[event]] += seconds - inside
    spent["programs"] += STAGES[event] == "compile"


jax.monitoring.register_event_duration_secs_listener(_hear)


def _now():
    """What this process has spent, and the processor time of itself and of its children that have ended."""
    return spent | collections.Counter(cpu=sum(os.times()[:4]))


def forget():
    """Lets go of programs once there are many: they take memory. What JAX has traced goes with them."""
    if spent["programs"] - spent["forgotten"] > MANY:
        spent["forgotten"] = spent["programs"]
        jax.clear_caches()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    before, file = _now(), item.location[0]
    result = yield
    cost = _now() - before
    files[file] += cost + collections.Counter(tests=1)
    if "subject" in getattr(getattr(item, "callspec", None), "params", ()):
        subjects[file, item.callspec.params["subject"]] += cost["programs"]
    return result


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["files"] = {name: dict(cost) for name, cost in files.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """The main process hears what its workers have spent."""
    for name, cost in getattr(node, "workeroutput", {}).get("files", {}).items():
        files[name] += collections.Counter(cost)


def pytest_terminal_summary(terminalreporter, config):
    """The costliest files: seconds of processor time, seconds that pass in JAX, numbers of programs and tests."""
    if not files:
        return
    ranked = sorted(files.items(), key=lambda pair: -pair[1]["cpu"])
    rows = ranked if config.get_verbosity() > 0 else ranked[:SHOWN]
    show = lambda cells, name: terminalreporter.write_line("".join(f"{cell:>9}" for cell in cells) + f"  {name}")
    show(COLUMNS, "file")
    for name, cost in [*rows, ("all", sum(files.values(), collections.Counter()))]:
        show((f"{cost[column]:.0f}" for column in COLUMNS), name)
