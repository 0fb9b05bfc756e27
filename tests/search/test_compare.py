"""Comparisons: the file is checked as a whole, everything is done once, choices are made on validation alone."""

import copy
import json
import re
import signal
from pathlib import Path

import launch
import pytest
from inline import made_up

from seqjax import config
from seqjax.search import compare as compare_lib
from seqjax.search import match, plan, sizes, stages
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, Preempted, SeqjaxError

BASE = {k: v for k, v in launch.tiny().items() if k != "optim"} | {"optim": {"warmup_steps": 1}}
FILE = {
    "base": BASE,
    "contenders": {"gru": {}, "lstm": {"model.mixer": "lstm"}},
    "match": "state_bytes",
    "target": "lstm",
    "metric": "accuracy",
    "learning_rates": [0.001, 0.01, 0.1],
    "seeds": [0, 1, 2],
    "extrapolate": {"data.length": [3, 6]},
}

SETTINGS = {"short": {"data.length": 3}, "long": {"data.length": 6}}


def read(**changes):
    tree = copy.deepcopy(FILE) | changes
    return plan.resolve({k: v for k, v in tree.items() if v is not ...})


def problems(**changes):
    with pytest.raises(ConfigError) as error:
        read(**changes)
    return str(error.value)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Sizes without compiling."""
    size = dict(width=8, parameters=10, flops=1e6, tokens=9, state_bytes=32, temporary_bytes=2**20, step_seconds=0.1)
    measure = lambda tree, matched=None: sizes.Size(**size | {"width": tree["model"]["width"]}, matched=matched)
    monkeypatch.setattr(sizes, "measure", measure)
    double = lambda tree, *_: ({**tree, "model": {**tree["model"], "width": 16}}, 1.01)
    monkeypatch.setattr(sizes, "solve", double)


def run(folder, comparison=None, **options):
    """A comparison with made-up runs: -> findings, the commands that were run."""
    with made_up.MadeUp(**options) as executor:
        workdir = Workdir(folder).lock()
        try:
            found = compare_lib.compare(comparison or read(), workdir, executor)
        except BaseException as error:
            error.commands = executor.commands
            raise
        finally:
            workdir.unlock()
    return found, executor.commands


def folders(commands, kind="train"):
    return [c[c.index("--workdir") + 1].partition("/runs/")[2] for c in commands if c[0] == kind]


# The file.


def test_the_defaults():
    c = read(match=..., target=..., extrapolate=..., metric=..., seeds=...)
    assert (c.seeds, c.learning_rate_seeds, c.tolerance, c.match, c.axis, c.values) == (
        [0, 1, 2],
        [0],
        0.02,
        None,
        None,
        [None],
    )
    assert c.executor().slots == 1 and c.grid("gru") == [0.001, 0.01, 0.1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(learning_rates=..., seed=3), ["seed is not a key", "learning_rates is required"]),
        (dict(contenders={"gru": {}}), ["got 1, wanted at least two"]),
        (dict(contenders={"gru": {}, "a/b": {}}), ["'a/b' also names a folder"]),
        (dict(contenders={"gru": {}, "lstm": 3}), ["contenders.lstm: got 3"]),
        (dict(seeds=[0, 1]), ["seeds: got [0, 1], wanted at least 3"]),
        (dict(seeds=[0, 1, 1]), ["wanted at least 3 different"]),
        (dict(learning_rate_seeds=[]), ["learning_rate_seeds: got []"]),
        (dict(learning_rates=[0.1]), ["learning_rates: got [0.1], wanted at least two"]),
        (dict(learning_rates=[0.1, -1]), ["above 0"]),
        (dict(learning_rates={"gru": [1, 2]}), ["one for each of gru, lstm"]),
        (dict(target=...), ["match='state_bytes' and target=None: set both"]),
        (dict(target="lstn"), ["Did you mean 'lstm'?"]),
        (dict(match="bytes"), ["match: got 'bytes'"]),
        (dict(vary={"data.length": []}), ["vary: got"]),
        (dict(vary={"data.length": [3], "seed": [1]}), ["wanted one key"]),
        (dict(extrapolate={"model.width": [3]}), ["wanted a key of data"]),
        (
            dict(contenders={"gru": {"optim.learning_rate": 1}, "lstm": {}}),
            ["contenders.gru sets optim.learning_rate, but the comparison sets it from learning_rates"],
        ),
        (dict(base=BASE | {"seed": 1}), ["base sets seed, but the comparison sets it from seeds"]),
        (
            dict(base=BASE | {"optim.learning_rate": 1}),
            ["base sets optim.learning_rate, but the comparison sets it from learning_rates"],
        ),
        (dict(vary={"seed": [3, 4]}), ["vary sets seed, but the comparison sets it from seeds"]),
        (
            dict(contenders={"gru": {"optim": {"learning_rate": 1}}, "lstm": {}}),
            ["contenders.gru sets optim.learning_rate, but the comparison sets it from learning_rates"],
        ),
        (dict(contenders={"gru": {"data.length": 9}, "lstm": {}}), ["contenders.gru sets keys of data, which must"]),
        (  # so a log-density never stands beside bits
            dict(contenders={"gru": {"task": {"name": "density"}}, "lstm": {}}),
            ["contenders.gru sets keys of task, which must be equal for all contenders"],
        ),
        (
            dict(contenders={"gru": {}, "lstm": {"loader": {"batch_size": 9}}}),
            ["contenders.lstm sets keys of loader, which"],
        ),
        (
            dict(vary={"model.width": [8, 9]}, contenders={"gru": {"model": {"width": 7}}, "lstm": {}}),
            ["contenders.gru sets model.width, but vary sets"],
        ),
        (dict(vary={"model.mixer": [{"name": "gru"}]}), ["wanted one key and a list of different numbers or words"]),
        (dict(extrapolate={"data.pairs": [[1], [2]]}), ["extrapolate: got {'data.pairs': [[1], [2]]}, wanted one key"]),
        (dict(vary={"data.path": ["a/b", "a-b"]}), ["vary: got"]),
        (dict(vary=SETTINGS | {"a/b": {}}), ["vary: 'a/b' also names a folder"]),
        (dict(vary=SETTINGS | {"third": {"seed": 1}}, extrapolate=...), ["vary.third sets seed, but the comparison"]),
        (dict(vary=SETTINGS), ["extrapolate.data.length is not a setting of vary. Choose one of short, long."]),
        (dict(vary=SETTINGS, extrapolate={"lnog": {"data.length": [3]}}), ["Did you mean 'long'?"]),
        (dict(vary=SETTINGS, extrapolate={"long": [3]}), ["extrapolate.long: got [3], wanted one key"]),
        (dict(vary=SETTINGS, extrapolate={"long": {"loader.batch_size": [3]}}), ["wanted a key of data"]),
        (
            dict(vary=SETTINGS, extrapolate=..., contenders={"gru": {"data": {"length": 7}}, "lstm": {}}),
            ["contenders.gru sets data.length, but vary sets"],
        ),
        (dict(learning_rates=[0.1, 0.10000001]), ["differ in six digits"]),
        (dict(learning_rates=["0.1", 0.2]), ["learning_rates: got"]),
        (dict(learning_rates={"gru": [1, 2], "lstm": 3}), ["learning_rates: got 3"]),
        (dict(contenders={"gru": {}, "..": {}}), ["'..' also names a folder"]),
        (dict(contenders={"gru": {}, "lstm": {"model.mixer": "lstn"}}), ["contenders.lstm: 1 problem", "'lstm'?"]),
        (dict(executor="locl"), ["Did you mean 'local'?"]),
        (dict(seeds=[0], learning_rates=[1], target=3), ["seeds: got [0]", "learning_rates: got [1]", "2 problems"]),
    ],
)
def test_problems_are_said(changes, said):
    text = problems(**changes)
    assert all(part in text for part in said), text


def test_a_comparison_needs_validation_and_test(tmp_path):
    (tmp_path / "a.txt").write_text("to be or not to be " * 20)
    data = {"name": "text", "path": str(tmp_path / "a.txt"), "length": 4, "test": 0.0}
    assert "no test split" in problems(base=BASE | {"data": data}, extrapolate=..., match=..., target=...)


def test_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="metric='accurate' is not a metric; this task has accuracy, bits_per_token"):
        run(tmp_path, read(metric="accurate"))


# The runs.


def test_everything_is_run_once(tmp_path):
    found, commands = run(tmp_path)
    trained, judged = folders(commands), folders(commands, "evaluate")
    assert len(trained) == len(set(trained)) and len(judged) == len(set(judged)) == 6
    gru, lstm = found.founds
    assert (gru.rate, gru.edge, list(gru.rates)) == (0.01, "", [0.001, 0.01, 0.1])
    # The LSTM is best at 10^-1.25, so the edge at 0.1 is looked beyond, where it diverges.
    assert (lstm.rate, lstm.edge) == (0.1, "") and lstm.rates[1.0] == [None] and len(lstm.rates) == 4
    assert set(trained) == {
        *(f"gru/rate-{r}/seed-0" for r in ("0.001", "0.01", "0.1")),
        *(f"lstm/rate-{r}/seed-0" for r in ("0.001", "0.01", "0.1", "1")),
        *(f"{c}/seed-{s}" for c in ("gru/rate-0.01", "lstm/rate-0.1") for s in (1, 2)),
    }
    assert set(judged) == {f"{c}/seed-{s}" for c in ("gru/rate-0.01", "lstm/rate-0.1") for s in (0, 1, 2)}
    again, commands = run(tmp_path)
    assert not commands and again.founds == found.founds


@pytest.mark.parametrize("last", range(0, 17, 2))
def test_killed_anywhere_it_goes_on(tmp_path, last):
    with pytest.raises(KeyboardInterrupt) as killed:
        run(tmp_path / "a", last=last)
    found, rest = run(tmp_path / "a")
    straight, whole = run(tmp_path / "b")
    assert len(killed.value.commands) == last and len(rest) == len(whole) - last
    done = [*killed.value.commands, *rest]
    assert [folders([c], c[0]) for c in done] == [folders([c], c[0]) for c in whole]
    assert found.pairs() == straight.pairs()


def test_more_seeds_and_rates_go_on_from_what_is_there(tmp_path):
    run(tmp_path)
    found, commands = run(tmp_path, read(seeds=[0, 1, 2, 3], learning_rates=[0.001, 0.01, 0.03, 0.1]))
    trained = folders(commands)
    assert {"gru/rate-0.01/seed-3", "gru/rate-0.03/seed-0", "lstm/rate-0.03/seed-0"} <= set(trained)
    assert not any(f.startswith("gru/rate-0.01/seed-") and f != "gru/rate-0.01/seed-3" for f in trained)
    assert [len(x.runs) for x in found.founds] == [4, 4]


def test_pairs_share_their_seeds_and_differ_in_nothing_else(tmp_path):
    found, _ = run(tmp_path)
    for seed in (0, 1, 2):
        gru, lstm = (x.trial(seed).config for x in found.founds)
        assert gru["seed"] == lstm["seed"] == seed
        different = {key.partition(".")[0] for key in config.differences(gru, lstm)}
        assert different == {"model", "optim"}
        assert set(config.differences(gru["optim"], lstm["optim"])) == {"learning_rate"}


def test_what_is_matched_is_trained(tmp_path):
    found, _ = run(tmp_path)
    assert [x.size.matched for x in found.founds] == [1.01, 1.0]
    assert [x.trial(0).config["model"]["width"] for x in found.founds] == [16, 8]


def test_sizes_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    workdir = Workdir(tmp_path).lock()
    first = sizes.sizes(read(), workdir)
    monkeypatch.setattr(sizes, "measure", None)
    assert sizes.sizes(read(learning_rates=[1, 2]), workdir) == first
    with pytest.raises(TypeError):
        sizes.sizes(read(base=BASE | {"loader": {"batch_size": 2}}), workdir)


def test_all_widths_are_solved_before_anything_is_measured(tmp_path, monkeypatch):
    """And all that cannot be is told at once; nothing is compiled, timed or trained for it."""
    monkeypatch.setattr(sizes, "solve", match.solve)
    monkeypatch.setattr(sizes, "measure", lambda *_: pytest.fail("measured"))
    attention = lambda heads: {"model.mixer": {"name": "attention", "heads": heads}}
    contenders = {"lstm": {"model.mixer": "lstm"}, "gru": {}, "two": attention(2), "five": attention(5)}
    comparison = read(contenders=contenders, match="params", tolerance=1e-4)
    with pytest.raises(ConfigError) as error:
        run(tmp_path, comparison)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["contenders.gru", "contenders.two", "contenders.five"]
    assert all("Nearest: width" in line and "set tolerance=" in line for line in lines) and not error.value.commands


def test_the_test_split_chooses_nothing(tmp_path, monkeypatch):
    """On test, a smaller rate would look better: it is not looked at."""
    worse = lambda folder, at: made_up.train and _flipped(folder, at)
    monkeypatch.setattr(made_up, "evaluate", worse)
    found, commands = run(tmp_path)
    assert found.founds[0].rate == 0.01
    assert all("--split test" in " ".join(c) for c in commands if c[0] == "evaluate")


def _flipped(folder, at):
    peak = json.loads((folder / "config.json").read_text())["optim"]["learning_rate"]
    results = {n: {"metrics": {"accuracy": -peak, "loss": peak}} for n in ("test", *(f"test at {a}" for a in at))}
    (folder / "results.json").write_text(json.dumps(results))
    return 0


def test_an_edge_is_looked_beyond_twice_and_then_admitted(tmp_path):
    found, _ = run(
        tmp_path, read(contenders={"gru": {}, "rnn": {"model.mixer": "rnn"}}, learning_rates=[1e-5, 1e-4], target="gru")
    )
    rnn = found.founds[1]
    assert list(rnn.rates) == [1e-5, 1e-4, 1e-3, 1e-2] and (rnn.rate, rnn.edge) == (0.01, "highest")


def test_a_learner_without_an_optimiser_is_trained_once_per_seed(tmp_path):
    """It has no learning rate to search for, and none in its config."""
    fixed = {"learner": "fixed", "optim": {}}
    found, commands = run(tmp_path, read(contenders={"gru": {}, "still": fixed}, target="gru"))
    assert [f for f in folders(commands) if f.startswith("still")] == [f"still/rate-0/seed-{s}" for s in (0, 1, 2)]
    still = found.founds[1]
    assert (still.rate, still.edge, list(still.rates)) == (plan.NONE, "", [plan.NONE]) and len(found.scores(still)) == 3
    assert still.trial(0).config["optim"] == still.cell.config["optim"]


def test_where_nothing_trains_the_rest_goes_on(tmp_path):
    found, _ = run(tmp_path, read(learning_rates={"gru": [0.01, 0.1], "lstm": [2e4, 1e6]}))
    lstm = found.founds[1]
    assert lstm.rate is None and lstm.runs == {} and len(lstm.rates) == 4 and min(lstm.rates) == 8
    assert [x.cell.name for x in found.ranked(None)] == ["gru"] and found.pairs() == []


def test_a_rate_that_diverges_in_the_end_is_not_chosen(tmp_path, monkeypatch):
    train = made_up.train

    def fragile(tree, folder):
        code = train(tree, folder)
        if tree["optim"]["learning_rate"] == 0.01:  # of a GRU the best, while it lasted
            status = {"status": "failed", "step": 4, "error": "NumericsError: not finite"}
            (folder / "status.json").write_text(json.dumps(status))
        return code

    monkeypatch.setattr(made_up, "train", fragile)
    found, _ = run(tmp_path)
    gru = found.founds[0]
    assert gru.rates[0.01] == [None] and gru.rate in (0.001, 0.1) and len(found.scores(gru)) == 3


def test_a_run_whose_metric_was_never_finite_is_done_and_not_chosen(tmp_path, monkeypatch):
    train = made_up.train

    def blind(tree, folder):
        code = train(tree, folder)
        if tree["optim"]["learning_rate"] == 0.01:
            rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            rows = [{k: v if k in ("step", "split") else None for k, v in row.items()} for row in rows]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return code

    monkeypatch.setattr(made_up, "train", blind)
    found, _ = run(tmp_path)
    gru = found.founds[0]
    assert gru.rates[0.01] == [None] and gru.rate in (0.001, 0.1) and len(found.scores(gru)) == 3


def test_a_run_that_fails_is_said_and_tried_again(tmp_path, monkeypatch):
    train = made_up.train

    def broken(tree, folder):
        if tree["seed"] == 2:
            folder.mkdir(parents=True)
            (folder / "status.json").write_text(json.dumps({"status": "failed", "step": 0, "error": "DataError: gone"}))
            return 3
        return train(tree, folder)

    monkeypatch.setattr(made_up, "train", broken)
    with pytest.raises(SeqjaxError, match=r"(?s)2 of 4 runs failed; .*gru/rate-0.01/seed-2: DataError: gone"):
        run(tmp_path)
    monkeypatch.setattr(
        made_up, "train", lambda tree, folder: [f.unlink() for f in folder.iterdir()] and train(tree, folder)
    )
    monkeypatch.setattr(Path, "mkdir", _lenient(Path.mkdir))
    found, commands = run(tmp_path)
    assert folders(commands) == ["gru/rate-0.01/seed-2", "lstm/rate-0.1/seed-2"]
    assert len(found.scores(found.founds[0])) == 3


def _lenient(mkdir):
    return lambda self, mode=0o777, parents=False, exist_ok=False: mkdir(self, mode, parents, True)


def test_what_varies_has_runs_of_its_own(tmp_path):
    found, _ = run(tmp_path, read(vary={"data.length": [3, 6]}, extrapolate=...))
    assert [x.cell.folder for x in found.founds] == [
        Path(f"{name}/length-{n}") for n in (3, 6) for name in ("gru", "lstm")
    ]
    assert {x.trial(0).config["data"]["length"] for x in found.at(6)} == {6}
    assert len(found.pairs()) == 2


def test_a_setting_has_its_own_runs_and_other_data(tmp_path):
    found, commands = run(tmp_path, read(vary=SETTINGS, extrapolate={"long": {"data.length": [3, 6, 9]}}))
    assert [x.cell.folder for x in found.founds] == [
        Path(f"{name}/setting-{setting}") for setting in SETTINGS for name in ("gru", "lstm")
    ]
    assert [x.trial(0).config["data"]["length"] for x in found.founds] == [3, 3, 6, 6]
    at = {c[c.index("--workdir") + 1].split("/")[-3]: c[c.index("test") + 1 :] for c in commands if c[0] == "evaluate"}
    assert at == {"setting-short": [], "setting-long": ["--at", "data.length=3", "--at", "data.length=9"]}


def test_settings_choose_by_one_metric(tmp_path):
    other = {"task.monitor": "accuracy"}
    with pytest.raises(ConfigError, match=r"chosen by accuracy, loss: set one task\.monitor in base"):
        run(tmp_path, read(vary=SETTINGS | {"other": other}, extrapolate=...))


def test_other_data_are_judged_where_they_are_others(tmp_path):
    found, commands = run(tmp_path)
    assert all(c[c.index("--at") :] == ["--at", "data.length=6"] for c in commands if c[0] == "evaluate")
    gru = found.founds[0]
    assert found.scores(gru, "data.length=6")[1] == pytest.approx(found.scores(gru)[1] - 0.1)


def test_a_place_where_a_model_does_not_fit_is_left_out(tmp_path):
    learned = {"name": "attention", "heads": 2, "positions": "learned"}
    contenders = {"attention": {"model.mixer": learned}, "lstm": {"model.mixer": "lstm"}}
    found, _ = run(tmp_path, read(contenders=contenders))
    assert [key for key in found.impossible] == [("attention", None, "data.length=6")]
    assert found.summary(found.founds[0], "data.length=6") is None and found.summary(found.founds[0])


def test_a_folder_of_another_comparison_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ConfigError, match=r"holds the run of another config, train\.steps is 4 there and 5 here"):
        run(tmp_path, read(base=BASE | {"train": {"steps": 5, "log_every": 1}}))


# What may be said.


@pytest.mark.parametrize(
    ("rates", "best", "following"),
    [
        ({0.1: [3.0], 1.0: [1.0], 10.0: [2.0]}, 1.0, None),
        ({0.1: [3.0], 1.0: [2.0], 10.0: [1.0]}, 10.0, 100.0),
        ({0.1: [1.0], 1.0: [2.0]}, 0.1, 0.01),
        ({0.1: [3.0], 1.0: [1.0, None]}, 0.1, 0.01),
        ({0.1: [None], 1.0: [None]}, None, 0.01),
        ({0.1: [2.0, 4.0], 1.0: [3.0, 3.5]}, 0.1, 0.01),
        ({plan.NONE: [2.0, 4.0]}, plan.NONE, None),
        ({plan.NONE: [None]}, None, None),
    ],
)
def test_the_choice_of_a_rate(rates, best, following):
    assert stages.best_rate(rates, "loss") == best and stages.beyond(rates, best) == following


def test_pairs_by_hand(tmp_path):
    found, _ = run(tmp_path)
    (pair,) = found.pairs()
    gru, lstm = (list(found.scores(x).values()) for x in found.founds)
    assert gru == [1 / (1 + s / 100) for s in range(3)]
    assert (pair.first, pair.second, pair.n, pair.agree, pair.wins) == ("gru", "lstm", 3, 3, 1.0)
    assert pair.ahead == pytest.approx(sum(gru) / 3 - sum(lstm) / 3)
    assert pair.p == pair.adjusted == pair.floor == 0.25


def test_lower_is_better_where_it_is(tmp_path):
    found, _ = run(tmp_path, read(metric="loss"))
    (pair,) = found.pairs()
    assert (pair.first, pair.wins) == ("gru", 1.0) and pair.ahead > 0


# The command.


def test_the_command_writes_everything_and_says_where(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(f"def get_comparison():\n    return {FILE!r}\n")
    args = ("compare", "--config", file, "--config.seeds=[0,1,2,3]", "--executor", "inline.made_up", "--slots", 2)
    planned = launch.main(*args, "--dry_run")
    assert planned.code == 0 and "12 runs" in planned.out and "gru" in planned.out, planned
    assert [p.name for p in tmp_path.iterdir()] == ["c.py"]
    done = launch.main(*args, "--workdir", tmp_path / "w")
    assert done.code == 0 and done.out.endswith(f"report: {tmp_path}/w/report.html\n"), done
    assert "the grid of learning rates is extended to 1" in done.out and "seeds 6/6" in done.out
    written = json.loads((tmp_path / "w" / "comparison.json").read_text())
    assert written["seeds"] == [0, 1, 2, 3] and written["executor"] == {"name": "inline.made_up", "slots": 2}
    again = launch.main("compare", "--config", tmp_path / "w" / "comparison.json", "--workdir", tmp_path / "w")
    assert again.code == 0 and "seeds" not in again.out and "inline.made_up --slots 2" not in again.out


def test_the_command_wants_a_workdir_and_a_comparison(tmp_path):
    file = launch.write(tmp_path / "c.json", FILE)
    assert launch.main("compare", "--config", file).code == 2
    plain = tmp_path / "c.py"
    plain.write_text("def get_config():\n    return {}\n")
    refused = launch.main("compare", "--config", plain, "--dry_run")
    assert refused.code == 2 and "get_comparison" in refused.err


def test_an_option_that_the_executor_refuses_is_one_sentence_and_leaves_no_folder(tmp_path):
    file = launch.write(tmp_path / "c.json", FILE | {"executor": {"name": "slurm", "options": ["constraint"]}})
    refused = launch.main("compare", "--config", file, "--workdir", tmp_path / "w")
    assert refused.code == 2 and not (tmp_path / "w").exists(), refused
    assert refused.err == (
        "seqjax: executor: options has 'constraint', wanted KEY=VALUE, which becomes --KEY=VALUE of sbatch.\n"
    )


# The same checkpoint on other data.


def test_evaluate_at_other_data(tmp_path):
    file = launch.write(tmp_path / "c.json", launch.tiny("train.steps=1", "model.mixer.name=attention"))
    assert launch.main("train", "--config", file, "--workdir", tmp_path / "w", "--quiet").code == 0
    here = ("evaluate", "--workdir", tmp_path / "w", "--checkpoint", "latest", "--split", "test")
    done = launch.main(*here, "--at", "data.length=6", "--at", "data.examples=3")
    assert done.code == 0, done.err
    results = Workdir(tmp_path / "w").read("results.json")
    assert list(results) == ["test", "test at data.length=6", "test at data.examples=3"]
    assert [r["examples"] for r in results.values()] == [10, 10, 3]
    assert results["test"]["metrics"] != results["test at data.length=6"]["metrics"]
    before = launch.tree_of(tmp_path / "w")
    refused = launch.main(*here, "--at", "data.length=6", "--at", "model.width=6")  # before anything is evaluated
    assert launch.tree_of(tmp_path / "w") == before
    assert refused.code == 2 and "got model.width=6, wanted a key of data" in refused.err


# Killed for real.


@pytest.mark.slow
@pytest.mark.parametrize("name", [signal.SIGKILL, signal.SIGTERM])
def test_the_command_goes_on_where_it_was_killed(tmp_path, name):
    file = tmp_path / "c.json"
    tree = copy.deepcopy(FILE) | {"match": "params", "learning_rates": [0.003, 0.01], "tolerance": 0.2}
    file.write_text(json.dumps(tree))
    args = ("compare", "--config", file, "--workdir", tmp_path / "w", "--slots", 2)
    first = launch.start(*args)
    done = lambda: [p for p in (tmp_path / "w").rglob("status.json") if json.loads(p.read_text())["status"] == "done"]
    launch.until(lambda: len(done()) >= 3, first, timeout=600)
    first.send_signal(name)
    ended = launch.end(first)
    assert ended.code == (-9 if name == signal.SIGKILL else Preempted.exit_code), ended
    before = {p: p.stat().st_mtime_ns for p in done()}
    again = launch.end(launch.start(*args), timeout=1200)
    assert again.code == 0, again.err
    assert before and all(p.stat().st_mtime_ns == t for p, t in before.items())
    starts = {p.parent: len(json.loads(p.read_text())["starts"]) for p in (tmp_path / "w").rglob("run.json")}
    assert all(starts[p.parent] == 1 for p in before)
    for written in ("report.html", "report.md", "results.csv", "comparison.json"):
        assert (tmp_path / "w" / written).stat().st_size
    third = launch.end(launch.start(*args))
    assert third.code == 0 and not re.search(r"(learning rates|seeds|test) 1/", third.out)
