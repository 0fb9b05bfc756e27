"""Sweeps: what is tried, what is chosen, what is cut short, and that a kill costs nothing."""

import collections
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
import unittest.mock

import fake
import launch
import pytest
from inline import made_up

from seqjax.search import _board, _study
from seqjax.search import space as spaces
from seqjax.search._study import Study
from seqjax.search.executors.local import Executor
from seqjax.search.space import choice, integers, log, uniform
from seqjax.search.sweep import Options, Sweep
from seqjax.training.experiment import resolve
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, WorkdirError

optuna = pytest.importorskip("optuna")
BASE = resolve(launch.tiny("train.eval_every=2"))
PEAKS = {"optim.learning_rate": log(1e-4, 1.0)}


def sweep(folder, space, base=BASE, slots=2, **options):
    """Runs a sweep with fake trials, to its end."""
    made = Sweep(base, space, Options(**options), folder)
    try:
        with Executor(slots=slots) as executor:
            made.run(executor, command=fake.command)
        return made.summary()
    finally:
        made.workdir.unlock()


def loss(record) -> float:
    return (math.log10(record.params["optim.learning_rate"]) + 2) ** 2 + 1 / BASE["train"]["steps"]


# What is tried, and what is best.


def test_a_grid_is_tried_once_each(tmp_path):
    found = sweep(tmp_path, {"optim.learning_rate": choice(0.1, 0.01), "model.width": choice(4, 8)}, sampler="grid")
    tried = [(r.params["optim.learning_rate"], r.params["model.width"]) for r in found.records]
    assert tried == [(0.1, 4), (0.1, 8), (0.01, 4), (0.01, 8)]
    assert [r.value for r in found.records] == pytest.approx([loss(r) for r in found.records])
    assert found.best is found.records[2] and all(r.status == "done" for r in found.records)
    best = Workdir(tmp_path).read("best.json")
    assert best == resolve(launch.tiny("train.eval_every=2", "optim.learning_rate=0.01", "model.width=4"))
    assert (
        len(
            sweep(
                tmp_path, {"optim.learning_rate": choice(0.1, 0.01), "model.width": choice(4, 8)}, sampler="grid"
            ).records
        )
        == 4
    )


def test_the_metric_says_which_way_is_better(tmp_path):
    base = resolve(launch.tiny("task.monitor=accuracy"))
    found = sweep(tmp_path, {"optim.learning_rate": choice(0.1, 0.01, 0.5)}, base, sampler="grid")
    assert found.best.params == {"optim.learning_rate": 0.01}
    assert found.best.value == max(r.value for r in found.records)


@pytest.mark.parametrize(("sampler", "trials"), [("random", 4), ("tpe", 12)])
def test_the_same_seed_draws_the_same_also_in_two_parts(tmp_path, sampler, trials):
    """A sweep that is carried on draws what it would have drawn, and repeats nothing."""
    draw = lambda found: [r.params["optim.learning_rate"] for r in found.records]
    whole = draw(sweep(tmp_path / "whole", PEAKS, slots=1, sampler=sampler, trials=trials, seed=3))
    part = draw(sweep(tmp_path / "parts", PEAKS, slots=1, sampler=sampler, trials=2, seed=3))
    both = draw(sweep(tmp_path / "parts", PEAKS, slots=1, sampler=sampler, trials=trials, seed=3))
    assert len(set(whole)) == trials and part == whole[:2] and both == whole
    assert draw(sweep(tmp_path / "other", PEAKS, slots=1, sampler=sampler, trials=1, seed=4)) != whole[:1]


def test_what_is_drawn_by_order_of_magnitude_is_known_by_name(tmp_path):
    peaks = choice(dict(name="adamw", peak=log(1e-4, 1e-2)), dict(name="sgd", momentum=uniform(0, 1)))
    study = Study(tmp_path / "j", "s", {**PEAKS, "optim": peaks}, maximize=False, options=Options(sampler="random"))
    for _ in range(20):
        study.next(99)
    assert study.logarithmic() == {"optim.learning_rate", "optim(adamw).peak"}


def test_tpe_looks_where_it_was_good(tmp_path):
    """After its random start it draws nearer to the best peak than chance does, where the median distance is 1.

    The width, which changes nothing, is of no importance.
    """
    space = PEAKS | {"model.width": choice(4, 8)}
    study = Study(tmp_path / "j", "s", space, maximize=False, options=Options())
    distance = []
    for _ in range(60):
        number, values = study.next(99)
        distance.append(abs(math.log10(values["optim.learning_rate"]) + 2))
        study.complete(number, [distance[-1] ** 2])
    assert statistics.median(distance[30:]) < 0.5
    shares = study.importances()
    assert shares["optim.learning_rate"] > 0.9 and shares["model.width"] < 0.1


def test_a_section_is_a_value(tmp_path):
    space = {"model.mixer": choice("gru", dict(name="attention", heads=choice(1, 2)))}
    found = sweep(tmp_path, space, sampler="grid")
    configs = [json.loads((tmp_path / "trials" / f"{i:04}" / "config.json").read_text()) for i in range(3)]
    mixers = [c["model"]["mixer"] for c in configs]
    assert [(m["name"], m.get("heads")) for m in mixers] == [("gru", None), ("attention", 1), ("attention", 2)]
    assert found.params == ["model.mixer", "model.mixer(attention).heads"]


# What goes wrong in it.


def test_a_failed_trial_keeps_its_error_and_ends_nothing_else(tmp_path):
    space = {"optim.learning_rate": choice(2.0, 0.01, 9.0, 8.0, 5.0, 0.1), "optim.warmup_steps": choice(0, 4)}
    base = resolve(launch.tiny("train.steps=5"))
    found = sweep(tmp_path, space, base, sampler="grid")
    errors = {r.params["optim.learning_rate"]: r.error for r in found.records}
    assert errors == {
        2.0: "DataError: no such thing",
        9.0: "loss was never finite on validation",
        8.0: "killed by signal 9: it printed nothing",
        5.0: "preempted too often",
        0.01: None,
        0.1: None,
    }
    assert [r.status for r in found.records].count("failed") == 8 and found.best.params["optim.learning_rate"] == 0.01


HEADS = resolve(launch.tiny("model.mixer={'name': 'attention', 'heads': 1}"))


def test_a_grid_is_built_before_any_of_it_is_run(tmp_path):
    """Each value fits the config; all combinations that cannot be built are told at once, and nothing is run."""
    space = {
        "model.width": choice(8, 12),
        "model.mixer.heads": choice(2, 4, 5),
        "optim.learning_rate": choice(0.1, 0.01),
    }
    with pytest.raises(ConfigError) as error:
        Sweep(HEADS, space, Options(sampler="grid"), tmp_path / "s")
    head, *lines = str(error.value).splitlines()
    assert head == "6 problems in 12 trials of the grid, to be taken out of the search space:"
    cases = [(w, h, p) for w, h in ((8, 5), (12, 4), (12, 5)) for p in (0.1, 0.01)]
    assert [line.split(": ")[0] for line in lines] == [
        f"  model.width={w}, model.mixer.heads={h}, optim.learning_rate={p}" for w, h, p in cases
    ]
    assert "mixer.heads=5 does not divide model.width=8" in lines[0] and not (tmp_path / "s").exists()
    with pytest.raises(
        ConfigError, match=r"1 problem in 4 trials .*\n.* optim\.warmup_steps=4 is longer than train\.steps=3: lower"
    ):
        Sweep(
            BASE, {"optim.warmup_steps": choice(0, 4), "train.steps": choice(4, 3)}, Options(sampler="grid"), tmp_path
        )
    Sweep(HEADS, space, Options(sampler="grid", trials=4), tmp_path).workdir.unlock()  # the first four can be


def test_a_model_is_built_at_every_end_of_a_domain(tmp_path):
    """With values of the space, not of the config: nobody asked for its width."""
    base = resolve(launch.tiny("model.mixer={'name': 'attention', 'heads': 1}", "model.width=6"))
    space = {"model.width": choice(8, 16), "model.mixer.heads": choice(2, 4)}
    Sweep(base, space, Options(), tmp_path).workdir.unlock()
    with pytest.raises(ConfigError, match=r"1 problem in 3 combinations of the ends .*\n  model.width=8, .*heads=3:"):
        Sweep(base, space | {"model.mixer.heads": choice(2, 3)}, Options(), tmp_path / "s")


def test_values_that_do_not_fit_each_other_fail_alone(tmp_path):
    """Between the ends: where it is drawn nothing is started."""
    found = sweep(tmp_path, {"model.mixer.heads": integers(1, 4)}, HEADS, sampler="random", trials=6)
    failed = {r.number: r.error for r in found.records if r.status == "failed"}
    assert set(failed) == {r.number for r in found.records if r.params["model.mixer.heads"] == 3} != set()
    assert all("mixer.heads=3 does not divide model.width=8" in error for error in failed.values())
    assert {p.name for p in (tmp_path / "trials").glob("????")} == {
        f"{r.number:04}" for r in found.records if r.status == "done"
    }


def test_twice_the_trials_are_twice_the_work(tmp_path, monkeypatch):
    """The study is read at the start alone; the last trial costs as many looks at others as the first."""
    counts = collections.Counter()

    def counted(name, function, size=lambda *args: 1):
        return lambda *args, **given: counts.update({name: size(*args)}) or function(*args, **given)

    monkeypatch.setattr(_study, "Record", counted("records", _study.Record))
    monkeypatch.setattr(_board, "best", counted("compared", _board.best, lambda some, _: len(some)))
    monkeypatch.setattr(_board, "ROWS", 3)
    monkeypatch.setattr(_board.Board, "_table", counted("rows", _board.Board._table, lambda _, shown: len(shown)))
    monkeypatch.setattr(optuna.Study, "get_trials", counted("reads", optuna.Study.get_trials))
    found = {}
    for trials in (6, 11, 16):
        counts.clear()
        made = Sweep(BASE, PEAKS, Options(sampler="random", trials=trials), tmp_path / str(trials))
        with _board.Board(made) as board, made_up.MadeUp() as executor:
            board._live = unittest.mock.Mock()
            made.run(executor, on_look=board.look)
        made.workdir.unlock()
        found[trials] = {**counts}
    first, second, third = found.values()
    assert {k: third[k] - second[k] for k in third} == {k: second[k] - first[k] for k in first}
    assert first["reads"] == third["reads"] == 1 and third["records"] == 2 * 16


@pytest.mark.parametrize(
    ("space", "options", "overrides", "words"),
    [
        ({"optim.peka": log(0.1, 1)}, {}, [], "optim.peka is not a key"),
        (PEAKS, {"sampler": "grid"}, [], "has no grid points"),
        (PEAKS, {"pruner": "median"}, ["train.eval_every=None"], "set train.eval_every"),
        (PEAKS, {"folds": 3}, [], "draws train without end"),
        (PEAKS, {"storage": "nothing://here"}, [], "--storage nothing://here"),
    ],
)
def test_what_cannot_be_swept_says_so_before_it_runs(tmp_path, space, options, overrides, words):
    with pytest.raises(ConfigError, match=words):
        Sweep(resolve(launch.tiny("train.eval_every=2", *overrides)), space, Options(**options), tmp_path / "s")
    assert not (tmp_path / "s" / "trials").exists()


def test_a_password_is_not_written_down(tmp_path):
    with pytest.raises(ConfigError, match=r"--storage nothing://me:\*\*\*@here/db: ") as error:
        Sweep(resolve(launch.tiny()), PEAKS, Options(storage="nothing://me:se:cret@here/db"), tmp_path)
    held = (tmp_path / "sweep.json").read_text()
    assert "nothing://me:***@here/db" in held and "cret" not in held + str(error.value)


def test_without_validation_there_is_nothing_to_choose_by(tmp_path):
    (tmp_path / "t.csv").write_text("text,class\n" + "\n".join(f"record {i},{'ab'[i % 2]}" for i in range(9)))
    with pytest.raises(ConfigError, match="'table' has no validation split"):
        Sweep(table(tmp_path), PEAKS, Options(), tmp_path / "s")


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install .*\.\[sweep\]"):
        Sweep(BASE, PEAKS, Options(), tmp_path)


def test_a_folder_holds_one_sweep_and_one_process(tmp_path):
    found = sweep(tmp_path, PEAKS, trials=1)
    for change in ({"seed": 1}, {"sampler": "random"}, {"seeds": 2}):
        with pytest.raises(ConfigError, match="holds another sweep, " + next(iter(change))):
            sweep(tmp_path, PEAKS, trials=1, **change)
    with pytest.raises(ConfigError, match=r"holds another sweep, space\.optim\.learning_rate"):
        sweep(tmp_path, {"optim.learning_rate": log(1e-3, 1.0)}, trials=1)
    held = Sweep(BASE, PEAKS, Options(), tmp_path)
    with pytest.raises(WorkdirError, match="in use"):
        Sweep(BASE, PEAKS, Options(), tmp_path)
    held.workdir.unlock()
    assert [r.params for r in sweep(tmp_path, PEAKS, trials=1).records] == [r.params for r in found.records]


def test_a_study_can_live_in_a_database(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    first = sweep(tmp_path / "s", PEAKS, trials=2, storage=storage)
    again = sweep(tmp_path / "s", PEAKS, trials=3, storage=storage)
    assert len(again.records) == 3 and [r.params for r in again.records[:2]] == [r.params for r in first.records]
    assert not (tmp_path / "s" / "study.journal").exists()
    assert len(sweep(tmp_path / "t", PEAKS, trials=1, storage=storage).records) == 1  # another sweep, another study


def test_processes_share_a_study_in_a_database(tmp_path):
    """Each trial has one process; what a process left that is gone goes to the next that asks; the ends are known."""
    options = Options(sampler="grid", storage=f"sqlite:///{tmp_path}/study.db")
    space = {"optim.learning_rate": choice(0.1, 0.2, 0.3)}
    one, two = (Sweep(BASE, space, options, tmp_path / "s").study for _ in range(2))
    drawn = [study.next(3) for study in (one, two, one)]
    assert drawn == [(i, {"optim.learning_rate": v}) for i, v in enumerate((0.1, 0.2, 0.3))]
    assert one.next(3) is None and two.next(3) is None
    two.complete(1, [1.0])
    one.fail(2, "why")
    one._claims._held.pop(0).close()  # as the end of its process does
    assert two.next(3) == drawn[0] and two.next(3) is None
    two.complete(0, [2.0])
    one.read()
    for study in (one, two):
        assert [(r.number, r.status, r.value) for r in study.records()] == [
            (0, "done", 2.0), (1, "done", 1.0), (2, "failed", None)
        ]  # fmt: skip
    assert not list((tmp_path / "s" / ".claims").glob("0*"))


# Pruning.


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_bad_trial_is_stopped_and_what_it_had_is_kept(tmp_path, pruner):
    """Six good ones, then one that is bad and would never end."""
    space = {"optim.learning_rate": choice(*(0.01 + i / 1e4 for i in range(6)), 7.0)}
    found = sweep(tmp_path, space, slots=1, sampler="grid", pruner=pruner)
    last = found.records[-1]
    assert found.records[0].status == "done" and last.status == "pruned"
    steps = [row["step"] for row in fake.rows(tmp_path / "trials" / "0006")]
    assert steps[-1] < 900 and fake.starts(tmp_path / "trials" / "0006") == 1
    assert last.curve[1] == pytest.approx((math.log10(7) + 2) ** 2 + 1)
    assert found.best.status == "done"


# Killed, and started again.

DRIVER = """
import sys
sys.path.insert(0, {here!r})
import test_sweep
space = {{"optim.learning_rate": test_sweep.choice(0.01, 0.1, 7.0, 0.02)}}
test_sweep.sweep({folder!r}, space, slots=1, sampler="grid")
"""


def killed(tmp_path, number) -> subprocess.Popen:
    """A sweep in a process of its own, ended by a signal while its third trial runs."""
    code = DRIVER.format(here=os.path.dirname(__file__), folder=str(tmp_path))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, start_new_session=True)
    metrics = tmp_path / "trials" / "0002" / "metrics.jsonl"
    launch.until(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, process)
    process.send_signal(number)
    process.wait(60)
    process.stderr.close()
    return process


def test_a_killed_sweep_goes_on_where_it_was(tmp_path, monkeypatch):
    """After SIGKILL, with half a line in the journal and a lock on it: what was done is kept, what ran goes on."""
    process = killed(tmp_path, signal.SIGKILL)
    folder = lambda i: tmp_path / "trials" / f"{i:04}"
    size = len(fake.rows(folder(2)))
    time.sleep(0.3)
    assert len(fake.rows(folder(2))) == size  # nobody trains any more
    assert launch.gone(process.pid)
    with open(tmp_path / "study.journal", "a") as file:
        file.write('{"op_code": 5, "wor')
    os.symlink(tmp_path / "study.journal", tmp_path / "study.journal.lock")
    monkeypatch.setattr(fake, "CODE", fake.CODE.replace("peak != 7", "True"))  # now it ends
    found = sweep(tmp_path, {"optim.learning_rate": choice(0.01, 0.1, 7.0, 0.02)}, slots=1, sampler="grid")
    assert [r.params["optim.learning_rate"] for r in found.records] == [0.01, 0.1, 7.0, 0.02]
    assert [r.status for r in found.records] == ["done"] * 4
    assert [fake.starts(folder(i)) for i in range(4)] == [1, 1, 2, 1]


@pytest.mark.slow
def test_a_sweep_that_is_told_to_end_stops_its_trials(tmp_path):
    """SIGTERM: the trial saves, the study has nothing new."""
    process = killed(tmp_path, signal.SIGTERM)
    assert process.returncode == 1  # Preempted, which the command line makes 75
    assert json.loads((tmp_path / "trials" / "0002" / "status.json").read_text())["status"] == "preempted"
    left = Sweep(BASE, {"optim.learning_rate": choice(0.01, 0.1, 7.0, 0.02)}, Options(sampler="grid"), tmp_path)
    assert [r.status for r in left.study.records()] == ["done", "done", "running"]
    left.workdir.unlock()


def test_a_trial_that_ended_unseen_is_not_run_again(tmp_path):
    """The sweep was killed between the end of a trial and telling the study."""
    first = Sweep(BASE, PEAKS, Options(trials=2), tmp_path)
    number, values = first.study.next(2)
    with Executor() as executor:
        from seqjax.search import trials

        tree = spaces.with_values(BASE, values)
        trials.run([trials.Trial(tmp_path / "trials" / "0000", tree)], executor, command=fake.command)
    first.workdir.unlock()
    first.study._claims.drop(0)  # as the end of its process does
    found = sweep(tmp_path, PEAKS, trials=2)
    assert number == 0 and [r.status for r in found.records] == ["done", "done"]
    assert [fake.starts(tmp_path / "trials" / f"{i:04}") for i in range(2)] == [1, 1]


# Folds and seeds.


def table(folder) -> dict:
    """A config that classifies the records of t.csv."""
    data = {"name": "table", "train": str(folder / "t.csv"), "text": "text", "label": "class"}
    model = {"name": "stack", "width": 4, "layers": 1, "mixer": "gru"}
    sections = {"data": data, "task": {"name": "classification", "monitor": "loss"}, "model": model}
    return resolve(launch.tiny() | sections)


@pytest.fixture
def folded(tmp_path):
    (tmp_path / "t.csv").write_text("text,class\n" + "\n".join(f"record {i},{'ab'[i % 2]}" for i in range(9)))
    return table(tmp_path)


def test_cross_validation_is_a_mean_over_folds(tmp_path, folded, monkeypatch):
    """k runs, each with its own fold of the same cut; the value is their mean, the spread their deviation."""
    monkeypatch.setattr(fake, "CODE", fake.CODE.replace("+ 1 / step", "+ tree['data']['fold'] + 1 / step"))
    found = sweep(tmp_path / "s", {"optim.learning_rate": choice(0.01, 0.1)}, folded, sampler="grid", folds=3, seed=5)
    assert [r.parts for r in found.records] == [pytest.approx([0.25 + a + f for f in range(3)]) for a in (0, 1)]
    assert [r.value for r in found.records] == pytest.approx([1.25, 2.25])
    assert [r.spread for r in found.records] == pytest.approx([1.0, 1.0])
    folders = sorted(p.name for p in (tmp_path / "s" / "trials" / "0000").iterdir() if p.is_dir())
    assert folders == ["fold-0", "fold-1", "fold-2"]
    configs = [json.loads((tmp_path / "s" / "trials" / "0000" / f / "config.json").read_text()) for f in folders]
    assert [c["data"]["fold"] for c in configs] == [0, 1, 2]
    assert {(c["data"]["folds"], c["data"]["seed"], c["data"]["of"]["name"], c["seed"]) for c in configs} == {
        (3, 5, "table", 0)
    }
    assert json.loads((tmp_path / "s" / "best.json").read_text())["data"] == folded["data"]


def test_seeds_and_folds_multiply(tmp_path, folded):
    found = sweep(
        tmp_path / "s", {"optim.learning_rate": choice(0.01, 0.1)}, folded, trials=1, sampler="grid", folds=2, seeds=2
    )
    assert len(found.records) == 1 and len(found.records[0].parts) == 4
    folder = tmp_path / "s" / "trials" / "0000"
    configs = {p.name: json.loads((p / "config.json").read_text()) for p in folder.iterdir() if p.is_dir()}
    assert {name: (c["seed"], c["data"]["fold"]) for name, c in configs.items()} == {
        f"seed-{s}-fold-{f}": (s, f) for s in range(2) for f in range(2)
    }


def test_a_trial_is_no_better_than_its_worst_fold(tmp_path, folded, monkeypatch):
    """One that fails fails the trial, whose other runs are not begun."""
    monkeypatch.setattr(fake, "CODE", fake.CODE.replace("peak == 2:", "peak == 0.1 and tree['data']['fold'] == 1:"))
    found = sweep(tmp_path / "s", {"optim.learning_rate": choice(0.1, 0.01)}, folded, slots=1, sampler="grid", folds=4)
    assert [r.status for r in found.records] == ["failed", "done"]
    assert found.records[0].error == "fold-1: DataError: no such thing"
    assert not (tmp_path / "s" / "trials" / "0000" / "fold-2").exists()


def test_folds_are_pruned_by_the_mean_so_far(tmp_path, folded):
    space = {"optim.learning_rate": choice(*(0.01 + i / 1e4 for i in range(5)), 0.9)}
    found = sweep(tmp_path / "s", space, folded, slots=1, sampler="grid", folds=3, pruner="median")
    assert [r.status for r in found.records] == ["done"] * 5 + ["pruned"]
    assert sorted(found.records[0].curve) == [1, 2] and sorted(found.records[5].curve) == [1]
    assert not (tmp_path / "s" / "trials" / "0005" / "fold-1").exists()


# The command.

CONFIG = """
from seqjax.search.space import choice, integers, log, uniform
def get_config(variant=""):
    return {tree!r}
def sweep():
    return {space}
"""


def config(tmp_path, space, *overrides) -> str:
    (tmp_path / "c.py").write_text(CONFIG.format(tree=launch.tiny(*overrides), space=space))
    return str(tmp_path / "c.py")


@pytest.mark.parametrize(
    ("space", "args", "words"),
    [
        ("{'model.widht': choice(4, 8), 'optim.learning_rate': log(0.1, 1)}", [], ["model.widht", "'width'"]),
        ("{'model.width': choice(4, 8)}", ["--sampler", "gird"], ["sampler", "'gird'", "'grid'"]),
        ("{'model.width': choice(4, 8)}", ["--folds", "1", "--trials", "0"], ["folds", "trials", "at least"]),
        ("{'model.width': choice(4, 8)}", ["--executor", "slrum"], ["'slrum'", "'slurm'"]),
        ("{'model.width': choice(4, 8)}", ["--executor_option", "gracious=3"], ["executor.gracious", "'grace'"]),
        ("{'model.width': choice(4, 8)}", ["--executor_option", "grace"], ["KEY=VALUE"]),
        ("{'model.width': choice(4, 8)}", ["--executor_option", "grace=-1"], ["executor.grace", "got -1"]),
        ("{'model.width': integers(4, 8.5)}", [], ["whole"]),
    ],
)
def test_mistakes_are_code_2_and_nothing_runs(tmp_path, space, args, words):
    outcome = launch.main("sweep", "--config", config(tmp_path, space), "--workdir", tmp_path / "s", *args)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert not (tmp_path / "s").exists()


def test_the_command_says_what_happened(tmp_path, monkeypatch):
    """A line for each trial, the best, the report, and how to train it; a second time only what is known."""
    monkeypatch.setattr("seqjax.search.trials.command", fake.command)
    monkeypatch.setattr(Sweep.run, "__kwdefaults__", {**Sweep.run.__kwdefaults__, "command": fake.command})
    file = config(tmp_path, "{'optim.learning_rate': choice(0.1, 2.0, 0.01)}")
    args = ("sweep", "--config", file, "--workdir", tmp_path / "s", "--sampler", "grid", "--slots", "2")
    outcome = launch.main(*args)
    assert outcome.code == 0, outcome.err
    for words in ("3 trials", "trial 1  failed  DataError: no such thing  optim.learning_rate=2",
                  "best: trial 2, loss 0.25", "sweep.html",
                  f"seqjax train --config {tmp_path}/s/best.json"):  # fmt: skip
        assert words in outcome.out, outcome.out
    again = launch.main(*args)
    assert again.code == 0 and "3 of them already ended" in again.out and "trial 1" not in again.out
    assert {"sweep.html", "sweep.md", "trials.csv", "best.json"} <= {p.name for p in (tmp_path / "s").iterdir()}


def test_if_all_fail_so_does_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(Sweep.run, "__kwdefaults__", {**Sweep.run.__kwdefaults__, "command": fake.command})
    file = config(tmp_path, "{'optim.learning_rate': choice(2.0, 3.0)}")
    outcome = launch.main("sweep", "--config", file, "--workdir", tmp_path / "s", "--sampler", "grid")
    assert outcome.code == 1 and "no trial is done; the first error: DataError: no such thing" in outcome.err
    assert (tmp_path / "s" / "trials.csv").read_text().count("failed") == 2


@pytest.mark.slow
def test_real_runs_killed_and_resumed(tmp_path):
    """Two trials of the real thing: SIGKILL in the first, the same command again."""
    file = config(
        tmp_path, "{'optim.learning_rate': choice(0.01, 0.1)}", "train.steps=400", "train.checkpoint_every=20"
    )
    args = ("sweep", "--config", file, "--workdir", tmp_path / "s", "--sampler", "grid", "--config.train.eval_every=20")
    process = launch.start(*args)
    metrics = tmp_path / "s" / "trials" / "0000" / "metrics.jsonl"
    launch.until(lambda: metrics.exists() and metrics.read_text().count("validation") > 2, process)
    process.kill()
    process.communicate()
    outcome = launch.end(launch.start(*args), 300)
    assert outcome.code == 0, outcome
    starts = [json.loads((tmp_path / "s" / "trials" / f"000{i}" / "run.json").read_text())["starts"] for i in range(2)]
    assert [len(s) for s in starts] == [2, 1] and starts[0][1]["step"] >= 20
    assert launch.main("train", "--config", tmp_path / "s" / "best.json", "--workdir", tmp_path / "again").code == 0
