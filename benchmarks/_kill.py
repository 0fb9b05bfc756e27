"""A run that is killed from outside, and resumed, ends with the same bits as a run that is not interrupted.

    python -m benchmarks._kill --out runs/killed

`seqjax verify-resume` kills a run at its log lines; here SIGKILL comes at any moment after the first checkpoint.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._training import EXPERIMENTS

STEPS = 400
OPTIONS = {"steps": STEPS, "checkpoint_every": 40, "log_every": 20, "eval_every": "none"}


def start(workdir: Path) -> subprocess.Popen:
    """Starts `seqjax train` in another process."""
    given = [f"--config.train.{name}={value}" for name, value in OPTIONS.items()]
    config = f"{EXPERIMENTS / 'quickstart.py'}:tiny"
    command = ["train", "--config", config, *given, "--config.optim.warmup_steps=1", "--workdir", str(workdir)]
    return subprocess.Popen([sys.executable, "-m", "seqjax", *command])


def ended(process: subprocess.Popen, wanted: int) -> None:
    """Waits for a process.

    Raises:
      RuntimeError: it ended with another code.
    """
    if process.wait() != wanted:
        raise RuntimeError(f"a run ended with code {process.returncode}, wanted {wanted}.")


def main(argv: list[str] | None = None) -> None:
    """Trains, trains with a kill, trains on, and compares."""
    parser = argparse.ArgumentParser("python -m benchmarks._kill", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs")
    args = parser.parse_args(argv)
    straight, killed = args.out / "straight", args.out / "killed"
    ended(start(straight), 0)
    process = start(killed)
    while process.poll() is None and not list((killed / "ckpt").glob("[0-9]*[0-9]")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    ended(process, -signal.SIGKILL)
    ended(start(killed), 0)
    from seqjax import verify

    step = json.loads((killed / "run.json").read_text())["starts"][-1]["step"]
    digest = verify.compare(straight, killed)
    if not 0 < step < STEPS:
        raise RuntimeError(f"the run went on from step {step}, so nothing is proved.")
    print(f"same bits after {STEPS} steps, killed and resumed at step {step}: sha256 {digest}")


if __name__ == "__main__":
    main()
