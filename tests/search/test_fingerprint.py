"""Fingerprints: what is trained, chosen and scored, and that a second call goes on where the first one stopped."""

import json
import signal
from pathlib import Path

import launch
import numpy as np
import pytest
from inline import Instant

from seqjax import lookup
from seqjax.search import fingerprint, trials
from seqjax.search.fingerprint import FILE, Fingerprint, cost
from seqjax.search.fingerprint.tiers import TIERS, Probe
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, SeqjaxError

TINY = TIERS["tiny"]
pytestmark = pytest.mark.usefixtures("compile_once")


class Here(Instant):
    """Runs commands in this process, and remembers what it trained."""

    def __post_init__(self):
        super().__post_init__()
        self.folders = []

    def _run(self, job):
        words = job.command[3:]  # python -m seqjax
        if words[0] == "train":
            self.folders.append("/".join(Path(words[words.index("--workdir") + 1]).parts[-2:]))
        return launch.main(*words).code


class Broken(Here):
    """Runs nothing; every command fails."""

    def _run(self, job):
        return 1


class Never(Here):
    """Nothing may be run."""

    def _run(self, job):
        raise AssertionError(job.command)


@pytest.fixture(scope="module", autouse=True)
def timed_once():
    """One call of each is enough here: nobody looks at the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "SECONDS", 0)
        patch.setattr(cost, "REPEATS", 1)
        yield


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """The folder of a tiny fingerprint, what it holds, and which runs it took."""
    folder, executor = tmp_path_factory.mktemp("prints"), Here()
    return folder, Fingerprint("gru", folder, tier="tiny").run(executor), executor.folders


def validation(folder):
    return [row["loss"] for row in launch.rows(folder) if row["split"] == "validation"]


def test_every_probe_is_trained_at_every_rate(taken):
    _, _, runs = taken
    assert sorted(runs) == sorted(f"{p.name}/peak-{peak:g}-seed-0" for p in TINY.probes for peak in TINY.peaks)


def test_the_rate_is_the_best_on_validation(taken):
    folder, found, _ = taken
    for name, record in found["probes"].items():
        best = {peak: min(validation(folder / "gru" / name / f"peak-{peak:g}-seed-0")) for peak in TINY.peaks}
        assert record["rates"] == {f"{peak:g}": value for peak, value in best.items()}
        assert best[record["peak"]] == min(best.values())
        assert record["runs"] == [f"{name}/peak-{record['peak']:g}-seed-0"]


def test_scores_are_those_of_evaluate_on_test(taken):
    folder, found, _ = taken
    for name, record in found["probes"].items():
        run = folder / "gru" / record["runs"][0]
        results = json.loads((run / "results.json").read_text())
        for found_here in record["scores"]:
            key = "test" if found_here["factor"] == 1 else f"test at data.length={found_here['length']}"
            assert results[key]["metrics"]["accuracy"] == found_here["accuracy"][0]
            assert results[key]["metrics"]["exact_match"] == found_here["exact_match"][0]
        assert [s["factor"] for s in record["scores"]] == list(next(p for p in TINY.probes if p.name == name).factors)
    at = ("--split", "test", "--at", "data.length=8")
    outcome = launch.main("evaluate", "--workdir", folder / "gru" / found["probes"]["parity"]["runs"][0], *at)
    assert outcome.code == 0
    again = json.loads((folder / "gru" / found["probes"]["parity"]["runs"][0] / "results.json").read_text())
    assert (
        again["test at data.length=8"]["metrics"]["accuracy"] == found["probes"]["parity"]["scores"][1]["accuracy"][0]
    )


def test_chance_is_the_best_baseline_of_the_test_split(taken):
    _, found, _ = taken
    assert [s["chance"] for s in found["probes"]["parity"]["scores"]] == [0.5, 0.5]
    source = lookup.find("recall", "seqjax.data", "Source")(pairs=2, keys=4, values=4, examples=TINY.examples)
    values = source.baselines("test")["accuracy"].values()
    assert found["probes"]["recall"]["scores"][0]["chance"] == max(values)


def test_a_finished_fingerprint_is_left_alone(taken):
    folder, found, _ = taken
    before = launch.tree_of(folder)
    assert Fingerprint("gru", folder, tier="tiny").run(Never()) == found
    assert fingerprint.read(folder) == ([found], [])
    after = launch.tree_of(folder)
    written = [name for name, (_, content) in after.items() if before[name][1] != content]
    assert before.keys() == after.keys() and all(name.endswith(".lock") for name in written)


def test_what_is_missing_is_taken_again_and_nothing_else(taken, tmp_path):
    folder, found, _ = taken
    file = folder / "gru" / FILE
    tree = Workdir(file.parent).read(FILE)
    del tree["probes"]["parity"], tree["costs"]["16"]
    file.write_text(json.dumps(tree))
    again = Fingerprint("gru", folder, tier="tiny").run(Never())
    assert again["probes"] == found["probes"]
    assert again["costs"]["8"] == found["costs"]["8"] and again["costs"]["16"].keys() == found["costs"]["16"].keys()
    file.write_text(json.dumps(found))


@pytest.mark.slow  # two more runs
def test_more_seeds_train_at_the_chosen_rate_alone(taken):
    folder, found, _ = taken
    executor = Here()
    more = Fingerprint("gru", folder, tier="tiny", seeds=2).run(executor)
    assert sorted(executor.folders) == sorted(f"{n}/peak-{r['peak']:g}-seed-1" for n, r in found["probes"].items())
    for name, record in more["probes"].items():
        one, two = found["probes"][name]["scores"], record["scores"]
        assert [s["accuracy"][0] for s in two] == [s["accuracy"][0] for s in one]
        assert {len(s["accuracy"]) for s in two} == {2}


def test_runs_that_fail_end_it_and_are_tried_again(tmp_path):
    with pytest.raises(
        SeqjaxError,
        match=r"4 of 4 runs failed; the same command tries them again:\n  recall/peak-0.01-seed-0: ended with code 1",
    ):
        Fingerprint("gru", tmp_path, tier="tiny").run(Broken())
    assert json.loads((tmp_path / "gru" / FILE).read_text())["probes"] == {}
    assert fingerprint.read(tmp_path) == ([], ["gru"])
    with pytest.raises(AssertionError, match=r"peak-0\.01-seed-0"):
        Fingerprint("gru", tmp_path, tier="tiny").run(Never())


def test_a_folder_keeps_one_fingerprint(taken):
    folder, *_ = taken
    other = Fingerprint("gru", folder, tier="tiny", overrides=["model.width=16"])
    with pytest.raises(ConfigError, match=r"holds another fingerprint, model\.width is 8 there and 16 here.*--name"):
        other.run(Never())
    with pytest.raises(ConfigError, match="holds another fingerprint, tier is 'tiny' there and 'cpu' here"):
        Fingerprint("gru", folder).run(Never())


@pytest.mark.parametrize(
    ("mixer", "options", "words"),
    [
        (
            "bidirectional",
            {},
            "bidirectional has no fingerprint: bidirectional sees the tokens that it has to",
        ),
        ("attention", {"overrides": ["model.mixer.causal=false"]}, "attention sees the tokens"),
        ("cross_attention", {}, "cross_attention reads a memory sequence, but the probes have only one sequence"),
        ("atention", {}, "Did you mean 'attention'"),
        ("gru", {"tier": "tpu"}, "--tier tpu: choose from cpu, gpu, tiny"),
        ("gru", {"seeds": 0}, "got 0 seeds and 1 slots"),
        ("gru", {"name": "a/b"}, "--name a/b"),
        (
            "gru",
            {"overrides": ["optim.learning_rate=1"]},
            "--config.optim.learning_rate=1: the tier sets .*optim.learning_rate",
        ),
        ("gru", {"overrides": ["data.length=3"]}, "--config.data.length=3"),
        ("gru", {"overrides": ["model.mixer=lstm"]}, "changes the mixer from gru: name the fingerprint with --name"),
        ("attention", {"overrides": ["model.mixer.heads=3"]}, "heads"),
        ("gru", {"name": ".."}, "cannot be the name of a folder"),
    ],
)
def test_what_has_no_fingerprint_is_a_sentence(tmp_path, mixer, options, words):
    with pytest.raises(ConfigError, match=words):
        Fingerprint(mixer, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_all_are_those_that_are_causal_and_alone():
    found = fingerprint.causal()
    assert {"gru", "attention", "rg_lru", "linear_attention"} <= set(found)
    assert not {"bidirectional", "cross_attention", "interactive", "attention_rnn"} & set(found)


@pytest.mark.parametrize("tier", TIERS)
def test_every_probe_of_every_tier_is_a_config_at_every_length(tier):
    tier = TIERS[tier]
    for probe in tier.probes:
        vocabularies = set()
        for factor in probe.factors:
            longer = {} if factor == 1 else {"length": probe.length(factor)}
            at = Probe({**probe.data, **longer}, probe.steps)
            e = Experiment(tier.tree(at, "gru", 1e-3, 0, ["data.examples=2"]))
            vocabularies.add(e.source.spec.vocabulary)
            assert "accuracy" in e.source.baselines("test")
        assert len(vocabularies) == 1 and e.train.steps == probe.steps
        assert probe.steps % tier.evaluations == 0


@pytest.mark.slow
def test_learned_positions_end_where_they_end(tmp_path):
    probe = TINY.probes[1]
    options = ["model.mixer.positions=learned", "model.mixer.max_length=5"]
    tree = TINY.tree(probe, "attention", 1e-2, 0, options)
    trial = trials.Trial(tmp_path / "run", tree)
    file = launch.write(tmp_path / "c.json", tree)
    assert launch.main("train", "--config", file, "--workdir", trial.folder, "--quiet").code == 0
    assert launch.main("evaluate", "--workdir", trial.folder, "--split", "test").code == 0
    outcomes = [trials.outcome(trial)]
    assert len(fingerprint.score(probe, tree, 1, outcomes)["accuracy"]) == 1
    further = fingerprint.score(probe, tree, 2, outcomes)
    assert further["accuracy"] == [] and "places" in further["error"]


@pytest.mark.slow  # four models, each compiled at two lengths
def test_costs_grow_as_they_must():
    def measured(mixer, length):
        tree = TINY.tree(TINY.probes[0], mixer, 1e-3, 0, ["model.width=16"])
        tree["data"], tree["loader"]["batch_size"] = {"name": "copy", "length": length // 2}, 2
        if mixer == "attention":
            tree["model"]["mixer"]["max_length"] = length + cost.TOKENS
        return cost.measure(Experiment(resolve(tree)))

    gru, attention = ([measured(mixer, length) for length in (8, 32)] for mixer in ("gru", "attention"))
    assert gru[0]["state_bytes"] == gru[1]["state_bytes"] == 4 * 16
    per_token = (attention[1]["state_bytes"] - attention[0]["state_bytes"]) / 24
    assert per_token >= 2 * 4 * 16
    for found in (*gru, *attention):
        assert all(np.isfinite(value) and value > 0 for value in found.values())
    assert gru[1]["train_bytes"] > gru[0]["train_bytes"]


def test_the_command_says_what_it_would_do(tmp_path):
    outcome = launch.main("fingerprint", "--mixer", "gru", "--tier", "tiny", "--dry_run", "--workdir", tmp_path)
    assert outcome.code == 0 and not outcome.err
    for words in ("recall", "pairs=2", "parity", "scored at 1x, 2x", "8, 16 tokens", "4 runs"):
        assert words in outcome.out, words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "got neither"),
        (("--all", "--mixer", "gru"), "got both"),
        (("--mixer", "gru,lstm", "--name", "x"), "--name x is for one mixer, got 2"),
        (("--mixer", "gru", "--mixer", "bidirectional"), "bidirectional has no fingerprint"),
    ],
)
def test_what_the_command_refuses(args, words, tmp_path):
    outcome = launch.main("fingerprint", *args, "--workdir", tmp_path)
    assert outcome.code == 2 and words in outcome.err and len(outcome.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_command_goes_on_and_writes_the_pages(tmp_path):
    args = ("fingerprint", "--mixer", "gru", "--tier", "tiny", "--slots", 2, "--workdir", tmp_path)
    first = tmp_path / "gru" / "recall" / "peak-0.01-seed-0"
    done = lambda: (first / "status.json").exists() and json.loads((first / "status.json").read_text())["step"] == 2
    process = launch.start(*args)
    launch.until(done, process, timeout=600)
    process.send_signal(signal.SIGTERM)
    outcome = launch.end(process, timeout=600)
    assert outcome.code == 75 and "run the same command again" in outcome.err
    assert not list(tmp_path.glob("*.html")) and fingerprint.read(tmp_path)[0] == []
    before = (first / "metrics.jsonl").stat().st_mtime_ns

    outcome = launch.end(launch.start(*args), timeout=900)
    assert outcome.code == 0, outcome
    assert (first / "metrics.jsonl").stat().st_mtime_ns == before
    assert sorted(f.name for f in tmp_path.glob("*.*")) == ["gru.html", "gru.md", "index.html", "index.md"]
    assert "| gru " in (tmp_path / "index.md").read_text()
