"""A run that is stopped anywhere and started again ends with the same bits and the same metrics.

Everything that could tell two runs apart is on: dropout, shuffling, random crops, buckets with partial batches,
accumulation, metrics of every kind, a moving average, the mean of gradient norms, warm-up, and intervals that do not
divide each other.
"""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import time

import launch
import pytest
from held.sources import Held

from seqjax.config import digest
from seqjax.training import damage, signals
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.workdir import Workdir

STEPS = 14
TREE = {
    "data": {"name": "held.sources:Held"},
    "task": {"name": "held.tasks:Counted"},
    "model": {"name": "stack", "width": 8, "layers": 1, "expansion": 1, "dropout": 0.2, "mixer": {"name": "gru"}},
    "optim": {"learning_rate": 0.01, "warmup_steps": 3, "ema_decay": 0.9, "weight_decay": 0.1},
    "loader": {"batch_size": 4, "buckets": [4, 6], "too_long": "crop"},
    "train": {"steps": STEPS, "log_every": 2, "eval_every": 4, "checkpoint_every": 3, "accumulation_steps": 2},
    "guard": {"spike": 100.0},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return launch.write(tmp_path_factory.mktemp("config") / "c.json", TREE)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The folder of a run from 0 to the end."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert launch.main("train", "--config", config, "--workdir", folder).code == 0
    return folder


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of it, times of files included."""
    shutil.copytree(undisturbed, tmp_path / "run")
    return tmp_path / "run"


def status(folder):
    return json.loads((folder / "status.json").read_text())


def starts(folder):
    return json.loads((folder / "run.json").read_text())["starts"]


def check_same(folder, undisturbed):
    assert launch.final(folder) == launch.final(undisturbed)
    assert launch.rows(folder) == launch.rows(undisturbed)
    assert status(folder)["status"] == "done"
    assert re.fullmatch(r"(\{.*\}\n)+", (folder / "metrics.jsonl").read_text())


def train(config, folder, *args):
    return launch.main("train", "--config", config, "--workdir", folder, *args)


def test_a_run_says_each_step_once_and_saves_the_last(undisturbed):
    rows = launch.rows(undisturbed)
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(2, STEPS + 1, 2))
    assert [row["step"] for row in rows if row["split"] == "validation"] == [4, 8, 12, STEPS]
    assert Checkpoints(undisturbed / "ckpt").steps() == [STEPS, 12]
    best = min((row for row in rows if row["split"] == "validation"), key=lambda row: row["loss"])
    assert Checkpoints(undisturbed / "ckpt_best").steps() == [best["step"]]
    assert status(undisturbed).items() >= {"status": "done", "step": STEPS, "error": None}.items()


# (examples that are read before it is held, rows and saves that must be seen by then, signals)
STOPS = {
    "killed before the first save": (18, 1, 0, [signal.SIGKILL]),
    "killed between saves": (45, 3, 1, [signal.SIGKILL]),
    "asked twice": (25, 2, 1, [signal.SIGTERM, signal.SIGINT]),
}


def stopped(config, folder, tmp_path, examples, rows):
    """A run that is held in the middle: (process, the file that holds it)."""
    hold = tmp_path / "hold"
    hold.unlink(missing_ok=True)
    process = launch.start("train", "--config", config, "--workdir", folder, HOLD=f"{examples}:{hold}")
    launch.until(lambda: hold.exists() and len(launch.rows(folder)) >= rows, process)
    return process, hold


@pytest.mark.slow  # three processes, one after the other
def test_killed_again_and_again(config, undisturbed, tmp_path):
    """Before the first save, between saves, and by a second signal; once the last line is torn as well."""
    folder, seen = tmp_path / "run", []
    for examples, rows, saves, numbers in STOPS.values():
        process, _ = stopped(config, folder, tmp_path, examples, rows)
        launch.until(lambda: len(Checkpoints(folder / "ckpt").steps()) >= saves, process)  # noqa: B023
        for number in numbers:
            process.send_signal(number)
        outcome = launch.end(process)
        assert outcome.code in ([-signal.SIGKILL] if numbers == [signal.SIGKILL] else [128 + s for s in numbers])
        seen.append(launch.rows(folder)[-1]["step"])
        assert status(folder)["status"] == "running" and "Traceback" not in outcome.err
    assert seen[0] < STEPS > seen[1]
    with open(folder / "metrics.jsonl", "a") as f:
        f.write('{"step": 9, "lo')
    assert train(config, folder).code == 0
    check_same(folder, undisturbed)
    begun = [start["step"] for start in starts(folder)]
    assert begun[:2] == [0, 0] and begun == sorted(begun) and begun[2] >= 3 and begun[3] >= 3


@pytest.mark.parametrize(
    ("number", "examples"), [(signal.SIGTERM, 55), pytest.param(signal.SIGINT, 16, marks=pytest.mark.slow)]
)
def test_asked_to_stop(config, undisturbed, tmp_path, number, examples):
    """While it evaluates or waits for data, it saves the step it is at, says so, and goes on from there."""
    folder = tmp_path / "run"
    process, hold = stopped(config, folder, tmp_path, examples, 1)
    process.send_signal(number)
    if number == signal.SIGTERM:  # else it is asked while the source is silent
        hold.unlink()
    outcome = launch.end(process)
    assert outcome.code == 75
    (line,) = (line for line in outcome.err.splitlines() if not line.startswith("INFO imported held."))
    assert number.name in line and "run the same command again" in line and str(folder) in line
    stopped_at = status(folder)["step"]
    assert status(folder)["status"] == "preempted" and 3 <= stopped_at < STEPS
    assert Checkpoints(folder / "ckpt").steps()[0] == stopped_at
    assert launch.rows(folder) == launch.rows(undisturbed)[: len(launch.rows(folder))]
    assert train(config, folder).code == 0
    assert starts(folder)[1]["step"] == stopped_at
    check_same(folder, undisturbed)


def test_asked_twice_it_does_not_finish_what_it_is_at():
    """Even if that is a call into other code, such as a compiler, from which no handler in Python comes in between."""
    code = (
        "import hashlib\nfrom seqjax.training.signals import Interrupt\n"
        "with Interrupt():\n  print('busy', flush=True)\n  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    )
    process = launch.run("-c", code)
    assert process.stdout.readline() == "busy\n"
    for _ in range(2):  # as when a whole job is told, and a supervisor hands it on
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    time.sleep(signals.ECHO)
    process.send_signal(signal.SIGTERM)
    assert launch.end(process, timeout=30).code == 128 + signal.SIGTERM


@pytest.mark.parametrize(("before", "heard"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_terminal_that_goes_away_asks_to_stop_unless_under_nohup(before, heard):
    old = signal.signal(signal.SIGHUP, before)
    try:
        with signals.Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.asked == ("SIGHUP" if heard else None)
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, old)


@pytest.mark.slow  # a process of its own
def test_two_runs_at_once(config, undisturbed, tmp_path):
    """The second is told who holds the folder; the first ends as if nobody had come."""
    folder = tmp_path / "run"
    process, hold = stopped(config, folder, tmp_path, 45, 3)
    outcome = train(config, folder)
    assert outcome.code == 5 and f"process {process.pid} on " in outcome.err and "another --workdir" in outcome.err
    hold.unlink()
    assert launch.end(process).code == 0
    check_same(folder, undisturbed)


def test_a_finished_run_is_left_alone(config, finished):
    before = launch.tree_of(finished)
    outcome = train(config, finished)
    assert outcome.code == 0 and f"already done at step {STEPS}" in outcome.out and str(finished) in outcome.out
    assert launch.tree_of(finished) == before


def test_more_steps_go_on_where_it_ended(config, finished):
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}", "--config.optim.learning_rate=0.005")
    assert outcome.code == 0 and f"resuming at step {STEPS}" in outcome.out
    assert "optim.learning_rate was 0.01, is 0.005" in outcome.out
    rows = launch.rows(finished)
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(2, STEPS + 3, 2))
    assert starts(finished)[1]["step"] == STEPS
    assert starts(finished)[1]["changes"]["optim.learning_rate"] == [0.01, 0.005]
    assert status(finished)["step"] == STEPS + 2


def test_more_steps_say_what_they_make_of_the_learning_rate(config, finished):
    """A cosine over more steps is higher than where the one over fewer had ended."""
    outcome = train(config, finished, f"--config.train.steps={2 * STEPS}")

    def cosine(done, steps, peak=0.01, warmup=3, end=0.1):
        share = (done - warmup - 1) / (steps - warmup - 1)
        return float(f"{peak * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * share))):.4g}")

    was, now = cosine(STEPS, STEPS), cosine(STEPS, 2 * STEPS)
    logged = [row["learning_rate"] for row in launch.rows(finished) if row["split"] == "train"][STEPS // 2 - 1 :]
    assert was == 0.001 == pytest.approx(logged[0]) and 5 * was < logged[1] < now
    assert outcome.code == 0
    assert f"changed since the last start: learning rate at step {STEPS} was {was!r}, is {now!r}\n" in outcome.out
    changed = starts(finished)[1]["changes"]
    assert changed == {"train.steps": [STEPS, 2 * STEPS], f"learning rate at step {STEPS}": [was, now]}


def test_restart_forgets_and_begins_anew(config, finished, undisturbed):
    """Also what was found with the parameters of before."""
    found = ("results.json", "samples.json", "states.json")
    for name in found:
        (finished / name).write_text("{}")
    assert train(config, finished, "--restart").code == 0
    check_same(finished, undisturbed)
    assert [start["step"] for start in starts(finished)] == [0, 0]
    assert not any((finished / name).exists() for name in found)


def test_a_folder_in_use_is_left_alone(config, finished):
    before = launch.tree_of(finished)
    lock = Workdir(finished).lock()
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}")
    assert outcome.code == 5 and f"process {os.getpid()}" in outcome.err and str(finished) in outcome.err
    lock.unlock()
    after = launch.tree_of(finished)
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


OTHER_MODEL = {
    "model.width=4": ["recurrent", "saved float32[8, 24]", "wanted float32[4, 12]"],
    "model.layers=2": ["blocks_1", "saved nothing"],
    "optim.name=sgd": ["opt_state", "wanted nothing"],
    "optim.weight_decay=0.0": ["opt_state", "without arrays", "wanted nothing"],
    "optim.ema_decay=none": ["ema", "wanted nothing"],
}


@pytest.mark.parametrize(("override", "words"), OTHER_MODEL.items(), ids=OTHER_MODEL)
def test_another_model_is_refused(config, finished, override, words):
    """In one message that shows both sides; the old run stays as it is."""
    before = launch.tree_of(finished)
    outcome = train(config, finished, f"--config.{override}")
    assert outcome.code == 4 and "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    assert 2 <= len(lines) <= 30 and any(all(word in line for word in words) for line in lines), outcome.err
    after = launch.tree_of(finished)
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}
    assert "already done" in train(config, finished).out


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        ((f"train.steps={STEPS + 2}", "model.mixer.zoneout=0.1"), 4, ("model.mixer.zoneout was 0.0", "another --work")),
        ((f"train.steps={STEPS - 2}",), 2, (f"at step {STEPS} of train.steps={STEPS - 2}: ask for more",)),
        (
            ("optim.learning_rate=0.02",),
            2,
            (f"at step {STEPS} of train.steps={STEPS}, and optim.learning_rate would change nothing",),
        ),
    ],
)
def test_what_would_pass_for_another_run_is_refused(config, finished, overrides, code, words):
    """Though all arrays fit: another model, fewer steps than were taken, or options of steps that are over."""
    before = launch.tree_of(finished)
    outcome = train(config, finished, *(f"--config.{override}" for override in overrides))
    assert outcome.code == code and all(word in outcome.err for word in words), outcome
    after = launch.tree_of(finished)
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}
    assert "already done" in train(config, finished).out


def test_what_is_dropped_in_training_may_change(config, finished):
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}", "--config.model.dropout=0.1")
    assert outcome.code == 0 and "model.dropout was 0.2, is 0.1" in outcome.out


def edit(file, *keys, to):
    """Another value in a JSON file."""
    tree = json.loads(file.read_text())
    tree = {key: value for key, value in tree.items() if key not in ("format", "seal")}  # else the change is refused
    node = tree
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = to
    file.write_text(json.dumps(tree))


def test_a_number_changed_in_the_config_of_the_folder_is_seen(config, finished):
    """Where it changes what the checkpoint computes, or on what: by all who read it, and whatever else agrees."""
    held, text = finished / "config.json", (finished / "config.json").read_text()
    commands = {STEPS: ("evaluate", "--workdir", finished), 12: ("generate", "--workdir", finished, "--checkpoint", 12)}
    for *keys, to in (("model", "mixer", "zoneout", 0.1), ("task", "prompt_length", 1), ("data", "count", 9)):
        edit(held, *keys, to=to)
        for step, command in commands.items():
            outcome = launch.main(*command)
            said = f"config.json has {'.'.join(keys)}={to!r}, but step {step} was trained with "
            assert outcome.code == 4 and said in outcome.err and "Traceback" not in outcome.err, outcome
    edit(held, "data", "count", to=10)
    edit(held, "task", "prompt_length", to=0)
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}", "--config.model.mixer.zoneout=0.1")
    assert outcome.code == 4 and "model.mixer.zoneout was 0.0 and is now 0.1" in outcome.err, outcome
    held.unlink()
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}", "--config.seed=3")
    assert outcome.code in (4, 5) and Checkpoints(finished / "ckpt").steps() == [STEPS, 12], outcome
    held.write_text(text)
    for *keys, to in (("model", "dropout", 0.1), ("optim", "learning_rate", 0.5), ("data", "dir", "there")):
        edit(held, *keys, to=to)
    assert launch.main(*commands[STEPS]).code == 0


def of_before(folder):
    """The folder as if its checkpoints had been written before they kept their config, and a list of their files."""
    for file in folder.glob("ckpt*/*/_CHECKPOINT_METADATA"):
        whole = json.loads(file.read_text())
        meta = whole["custom_metadata"]
        meta["config"] = "0123456789ab"
        del meta["empty"], meta["data"]["meanings"], meta["seal"]
        meta["seal"] = digest(meta)
        file.write_text(json.dumps(whole))
        (file.parent / damage.FILES).unlink()


def test_checkpoints_that_keep_no_config_are_as_good_as_before(config, finished):
    of_before(finished)
    held, text = finished / "config.json", (finished / "config.json").read_text()
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}", "--config.model.mixer.zoneout=0.1")
    assert outcome.code == 4 and "model.mixer.zoneout was 0.0 and is now 0.1" in outcome.err, outcome
    edit(held, "model", "mixer", "zoneout", to=0.1)
    assert launch.main("evaluate", "--workdir", finished).code == 0
    held.write_text(text)
    outcome = train(config, finished, f"--config.train.steps={STEPS + 2}", "--config.optim.weight_decay=0.0")
    assert outcome.code == 5 and "cannot be read" in outcome.err and "restart" not in outcome.err, outcome
    assert Checkpoints(finished / "ckpt").steps() == [STEPS, 12]
    assert train(config, finished, f"--config.train.steps={STEPS + 2}").code == 0


@pytest.mark.parametrize("override", ["loader.batch_size=8", "seed=3", "data.count=9", "loader.buckets=[8]"])
def test_other_data_are_refused(config, finished, override):
    before = launch.tree_of(finished)
    outcome = train(config, finished, f"--config.{override}")
    assert outcome.code == 4 and override.partition("=")[0] in outcome.err and "--restart" in outcome.err
    assert launch.tree_of(finished) == before


def test_data_that_changed_under_the_same_config_are_refused(config, finished, monkeypatch):
    """More records, or other ones; but where they are read from may change."""
    (finished / "status.json").unlink()
    real = Held.example
    with monkeypatch.context() as patch:
        patch.setattr(Held, "size", lambda self, split: 12 if split == "train" else 5)
        outcome = train(config, finished)
    assert outcome.code == 4 and "were 10 records and are now 12 records" in outcome.err and "--restart" in outcome.err
    with monkeypatch.context() as patch:
        patch.setattr(Held, "example", lambda *args: {k: (v + 1) % 5 for k, v in real(*args).items()})
        outcome = train(config, finished)
    assert outcome.code == 4 and "first batch" in outcome.err and "--restart" in outcome.err
    assert Checkpoints(finished / "ckpt").steps() == [STEPS, 12]


def test_data_may_move(config, finished):
    """`data.dir` is a place: whether the data there are the same is seen by other means."""
    outcome = train(config, finished, "--config.data.dir=there", f"--config.train.steps={STEPS + 2}")
    assert outcome.code == 0 and "data.dir was 'here', is 'there'" in outcome.out


def flip(folder):
    """Damages the file of a checkpoint that holds its arrays."""
    file = max(folder.rglob("d/*"), key=lambda f: f.stat().st_size)
    bad = bytearray(file.read_bytes())
    bad[len(bad) // 2] ^= 1
    file.write_bytes(bad)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine")
def test_a_damaged_checkpoint_costs_only_time(config, finished, undisturbed, caplog):
    (finished / "status.json").unlink()
    flip(finished / "ckpt" / str(STEPS))
    assert train(config, finished).code == 0
    assert str(finished / "ckpt" / str(STEPS)) in caplog.text and "set aside" in caplog.text
    assert starts(finished)[1]["step"] == 12 and (finished / "ckpt" / f"{STEPS}.corrupt").is_dir()
    check_same(finished, undisturbed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine")
def test_when_all_checkpoints_are_damaged_it_does_not_begin_anew(config, finished, undisturbed):
    (finished / "status.json").unlink()
    for step in Checkpoints(finished / "ckpt").steps():
        flip(finished / "ckpt" / str(step))
    for _ in range(2):
        outcome = train(config, finished)
        assert outcome.code == 4 and "--restart" in outcome.err and str(finished / "ckpt") in outcome.err
        assert launch.rows(finished) == launch.rows(undisturbed)
    assert "the damaged ones are kept" in outcome.err
    assert train(config, finished, "--restart").code == 0
    check_same(finished, undisturbed)
    assert {p.name for p in (finished / "ckpt").iterdir()} == {"12", str(STEPS), "12.kept", f"{STEPS}.kept"}
