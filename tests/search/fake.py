"""A trial that takes no time: reads its config, writes what a run leaves, and behaves as `optim.learning_rate` says.

loss(step) = (log10 peak + 2)^2 + 1 / step, best at 0.01. A peak of

    2   fails as training does      3   crashes without a word of its own     4   is preempted twice, then done
    5   is always preempted         6   loses its numbers                     7   trains for a minute, if it may
    8   kills itself                9   was never finite
"""

import json
import sys
from pathlib import Path

CODE = """
import json, math, os, signal, sys, time
given, folder = sys.argv[1:]
tree = json.load(open(given))
os.makedirs(folder, exist_ok=True)
path = lambda name: os.path.join(folder, name)
with open(path("starts"), "a") as file:
    file.write("x")
starts = os.path.getsize(path("starts"))

def write(name, tree):  # whole or not at all
    with open(path("new"), "w") as file:
        json.dump(tree, file)
    os.replace(path("new"), path(name))

def status(word, step, error=None):
    write("status.json", {"status": word, "step": step, "error": error})

def fail(error, code):
    status("failed", 1, error)
    print("a line before")
    sys.exit(code)

write("config.json", tree)
status("running", 0)
peak, step = tree["optim"]["learning_rate"], 0

def told(*_):
    status("preempted", step)
    sys.exit(75)

signal.signal(signal.SIGTERM, told)
if peak == 2: fail("DataError: no such thing", 3)
if peak == 3: raise RuntimeError("boom")
if peak == 4 and starts < 3 or peak == 5: told()
if peak == 6: fail("NumericsError: not finite", 6)
if peak == 8: os.kill(os.getpid(), signal.SIGKILL)
rows = open(path("metrics.jsonl"), "w")
for step in range(1, tree["train"]["steps"] + 1 if peak != 7 else 1000):
    loss = (math.log10(peak) + 2) ** 2 + 1 / step
    for split in ("train", "validation"):
        row = {"step": step, "split": split, "loss": None if peak == 9 else loss, "accuracy": 1 / (1 + loss)}
        rows.write(json.dumps(row) + "\\n")
    rows.flush()
    if peak == 7:
        time.sleep(0.05)
status("done", step)
"""


def command(trial) -> list[str]:
    """Stands for `trials.command`."""
    return [sys.executable, "-I", "-S", "-c", CODE, str(trial.given), str(trial.folder)]


def starts(folder: Path) -> int:
    """How often a trial has been started."""
    file = Path(folder) / "starts"
    return len(file.read_text()) if file.exists() else 0


def rows(folder: Path) -> list[dict]:
    """Its metrics."""
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
