"""Trials: each runs once to its end, whatever the others do, and the folders say what happened."""

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import fake
import launch
import pytest

from seqjax.search import trials
from seqjax.search.executors.local import Executor
from seqjax.search.trials import Trial, outcome
from seqjax.training.experiment import resolve
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, Preempted, WorkdirError


def trial(folder, peak=0.01, *overrides) -> Trial:
    return Trial(folder, resolve(launch.tiny(f"optim.learning_rate={peak}", *overrides)))


def run(some, slots=2, **options) -> dict:
    """Folder name -> outcome, as they end."""
    ended = {}

    def on_done(trial, outcome):
        assert trial.folder.name not in ended
        ended[trial.folder.name] = outcome

    with Executor(slots=slots) as executor:
        trials.run(some, executor, on_done=on_done, command=fake.command, **options)
    return ended


def test_what_has_ended_is_not_run_again(tmp_path):
    """Done and diverged stay; what failed otherwise is tried once more."""
    some = [trial(tmp_path / f"{peak:g}", peak) for peak in (0.01, 0.1, 2, 6)]
    first = run(some)
    assert {name: o.status for name, o in first.items()} == {
        "0.01": "done",
        "0.1": "done",
        "2": "failed",
        "6": "failed",
    }
    assert first["2"].error == "DataError: no such thing"
    assert first["0.01"].best("loss", "less") == 1 / 4 and first["0.1"].best("loss", "less") == 1 + 1 / 4
    assert first["0.01"].best("accuracy", "more") == 0.8 and first["0.01"].step == 4
    again = run(some)
    assert again == first
    assert [fake.starts(t.folder) for t in some] == [1, 1, 2, 1]


def test_one_that_fails_does_not_end_the_rest(tmp_path):
    """However it fails, its error is a sentence that is still there the next time."""
    peaks = {"crashed": 3, "killed": 8, "never": 9, "refused": 2, "fine": 0.01}
    some = {name: trial(tmp_path / name, peak) for name, peak in peaks.items()}
    ended = run(some.values())
    assert {name for name, o in ended.items() if o.status == "done"} == {"never", "fine"}
    assert ended["crashed"].error == "ended with code 1: RuntimeError: boom"
    assert ended["killed"].error == "killed by signal 9: it printed nothing"
    assert ended["never"].best("loss", "less") is None and math.isnan(ended["never"].rows[0]["loss"])
    assert {name: outcome(t).error for name, t in some.items()} == {name: o.error for name, o in ended.items()}


def test_what_our_program_says_last_is_the_error(tmp_path, monkeypatch):
    """Even if a library talks after it. A folder in use is another's: nothing is written there."""
    code = "import sys; print('seqjax: no such file.'); print('chatter'); sys.exit({})"
    monkeypatch.setattr(fake, "command", lambda trial: [sys.executable, "-S", "-c", code.format(2)])
    ended = run([trial(tmp_path / "a")])
    assert ended["a"].status == outcome(trial(tmp_path / "a")).status == "failed"
    assert ended["a"].error == "no such file."
    monkeypatch.setattr(fake, "command", lambda trial: [sys.executable, "-S", "-c", code.format(5)])
    monkeypatch.setattr(trials, "RESTARTS", 1)
    ended = run([trial(tmp_path / "b")])
    assert ended["b"].error == "no such file." and not (tmp_path / "b").exists()


def test_what_is_preempted_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "RESTARTS", 3)
    ended = run([trial(tmp_path / "twice", 4), trial(tmp_path / "always", 5), trial(tmp_path / "never")])
    assert {name: o.status for name, o in ended.items()} == {"twice": "done", "always": "preempted", "never": "done"}
    assert {name: fake.starts(tmp_path / name) for name in ended} == {"twice": 3, "always": 4, "never": 1}


def test_a_folder_of_another_config_is_left_alone(tmp_path):
    run([trial(tmp_path / "a", 0.01)])
    with pytest.raises(ConfigError, match=r"optim\.learning_rate is 0\.01 there and 0\.02 here"):
        run([trial(tmp_path / "a", 0.02)])
    assert fake.starts(tmp_path / "a") == 1


def test_a_trial_is_stopped_orderly(tmp_path, monkeypatch):
    """Once, and the others go on; it can be taken up later."""
    started, command = [], fake.command
    monkeypatch.setattr(fake, "command", lambda t: started.append(t.folder.name) or command(t))
    stop = lambda t: t.folder.name == "long" and len(outcome(t).rows) > 3
    ended = run([trial(tmp_path / "long", 7), *(trial(tmp_path / str(i)) for i in range(3))], stop=stop)
    assert ended["long"].status == "preempted" and 3 < len(ended["long"].rows) < 900
    assert [ended[str(i)].status for i in range(3)] == ["done"] * 3
    assert not ended["long"].ended and started == ["long", "0", "1", "2"]


def test_trials_are_chosen_when_there_is_room(tmp_path):
    """A generator sees what has ended before it is asked for the next."""
    ended, known = [], []

    def choose():
        for i in range(4):
            known.append(len(ended))
            yield trial(tmp_path / str(i))

    with Executor(slots=1) as executor:
        trials.run(choose(), executor, on_done=lambda t, o: ended.append(t), command=fake.command)
    assert known == [0, 1, 2, 3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_all_and_the_next_call_goes_on(tmp_path, number):
    some = [trial(tmp_path / "long", 7), trial(tmp_path / "later")]

    def interrupt():
        while not (tmp_path / "long" / "metrics.jsonl").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    ended = []
    with Executor(slots=1) as executor, pytest.raises(Preempted, match=number.name):
        trials.run(some, executor, on_done=lambda t, o: ended.append(t), command=fake.command)
    assert ended == [] and outcome(some[0]).status == "preempted" and fake.starts(some[1].folder) == 0


def test_a_row_that_is_being_written_is_not_read(tmp_path):
    t = trial(tmp_path / "a")
    run([t])
    with open(t.folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "split": "valid')
    assert len(outcome(t).rows) == 4
    (t.folder / "status.json").write_text("{")
    with pytest.raises(WorkdirError, match=r"status\.json"):
        outcome(t)


def test_a_real_run(tmp_path):
    """The command trains the config that it is given, and says nothing unless it fails."""
    good = trial(tmp_path / "good", 0.01, "train.eval_every=2")
    bad = trial(tmp_path / "bad", 0.01, "model.mixer=attention", "model.mixer.heads=3")
    ended = {}
    with Executor(slots=2) as executor:
        trials.run([good, bad], executor, on_done=lambda t, o: ended.update({t.folder.name: o}))
    assert ended["good"].status == "done" and [row["step"] for row in ended["good"].rows] == [2, 4]
    assert Workdir(good.folder).config() == good.config
    assert good.log.read_text() == ""
    assert ended["bad"].status == "failed" and "heads=3 does not divide" in ended["bad"].error
    assert "Traceback" not in Path(bad.log).read_text()
