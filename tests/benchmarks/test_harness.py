"""The arithmetic of benchmarks, who has its turn when, and that results carry what they must. No speed is asserted."""

import itertools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import racers

from benchmarks import harness, ready, recurrence, results, session
from benchmarks.harness import Contender, Plan, Timing, Visit
from benchmarks.results import Target

ROOT = Path(__file__).parents[2]
BRIEF = Plan(rounds=4, seconds=0.005, budget=0, pin=True)


def timing(*ms, others=0.0, temp=None) -> Timing:
    return Timing([Visit(m / 1e3, 2 * m / 1e3, others) for m in ms], "keep", "cpu", 1.0, temp, 100.0)


def result(*rows) -> dict:
    hardware = {"device": "cpu", "cpu": "some", "cores": 2, "used": 1}
    return {"name": "test", "clock": "cpu", "hardware": hardware, "versions": {"jax": "1"}, "rows": list(rows)}


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


def test_turns_go_there_and_back():
    assert "".join(itertools.chain(*(harness.turns("ABC", r) for r in range(4)))) == "ABCCBAABCCBA"


@pytest.mark.parametrize("shared", [False, True])
def test_contenders_take_turns_across_processes(log, shared):
    plan = BRIEF._replace(budget=60, shared=shared)
    timings = harness.race([Contender(n, getattr(racers, n)) for n in "abc"], {"log": str(log)}, plan)
    assert {name: len(t.visits) for name, t in timings.items()} == dict.fromkeys("abc", plan.rounds)
    assert all(v.wall > 0 for t in timings.values() for v in t.visits)
    assert all((t.peak_mb is None) == shared for t in timings.values())
    runs = "".join(name for name, _ in itertools.groupby(log.read_text()))
    assert runs == "abc" + "abcbabcba"  # the first three find out how many calls a visit has


def test_the_budget_ends_a_race_after_enough_rounds(log):
    timings = harness.race([Contender("a", racers.a)], {"log": str(log)}, BRIEF)
    assert len(timings["a"].visits) == harness.ENOUGH


def test_who_is_left_out_has_no_visits_and_says_why(log):
    timings = harness.race([Contender("a", racers.a), Contender("late", racers.late)], {"log": str(log)}, BRIEF)
    assert {name: (len(t.visits), t.left_out) for name, t in timings.items()} == {
        "a": (harness.ENOUGH, None),
        "late": (0, "a year a call"),
    }
    assert not harness.race([Contender("late", racers.late)], {"log": str(log)}, BRIEF)["late"].visits


@pytest.mark.parametrize("name, words", [("broken", "broken.*no such cell"), ("dead", "died with code 3.*dead")])
def test_a_contender_that_fails_is_named(log, name, words):
    with pytest.raises(RuntimeError, match=f"(?s){words}"):
        harness.race([Contender("a", racers.a), Contender(name, getattr(racers, name))], {"log": str(log)}, BRIEF)


def test_contenders_must_be_comparable(log):
    a, d = Contender("a", racers.a), Contender("d", racers.elsewhere)
    with pytest.raises(ValueError, match="TPU v9"):
        harness.race([a, d], {"log": str(log)}, BRIEF)
    keep = Contender("b", racers.b, "keep")
    with pytest.raises(ValueError, match="b needs the allocator keep"):
        harness.race([a, keep], {"log": str(log)}, BRIEF._replace(shared=True))


def test_the_processes_of_a_benchmark_leave_a_gpu_to_each_other():
    key = "XLA_PYTHON_CLIENT_PREALLOCATE"
    environment = {name: value for name, value in os.environ.items() if name != key}
    code = f"import benchmarks, os; print(os.environ[{key!r}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "false\n", done


def test_a_visit_measures_what_the_call_does():
    calls = []
    seen = harness.visit(lambda: calls.append(sum(range(20_000))), 5)
    assert len(calls) == 6  # one to warm up
    assert seen.cpu > 0 and seen.wall > 0 and seen.others >= 0
    assert harness.calls_for(lambda: None, 0.0) == 1


def test_jitted_refuses_numbers_that_are_not_finite():
    built = ready.jitted(lambda x: {"y": 2 * x}, np.ones(3, np.float32))
    assert built.device == "cpu" and built.compile_s > 0 and built.temp_mb is not None
    np.testing.assert_array_equal(built.call()["y"], 2.0)
    with pytest.raises(ValueError, match=r"result\['y'\] has numbers that are not finite"):
        ready.jitted(lambda x: {"y": jnp.log(x)}, -np.ones(3, np.float32))


@pytest.mark.parametrize("values", [[3.0], [1.0, 2.0], [5.0, 1.0, 9.0, 2.0], list(range(11))])
def test_quartiles_are_numpys(values):
    np.testing.assert_allclose(results.quartiles(values), np.percentile(values, [25, 50, 75]))


def test_wall_time_counts_quiet_visits_and_cpu_time_all():
    visits = timing(1, 2, 3).visits + timing(100, 200, others=0.5).visits
    seen = Timing(visits, "keep", "cpu", 1.0, 2.0, 3.0)
    wall = results.summary(seen, "wall")
    assert (wall["ms"], wall["low_ms"], wall["high_ms"]) == (2, 1.5, 2.5)
    assert (wall["visits"], wall["counted"], wall["noisy"], wall["cpu_ms"]) == (5, 3, False, 4)
    assert results.summary(seen, "cpu")["ms"] == 6
    noisy = results.summary(timing(1, 2, 3, 4, others=0.5), "wall")
    assert (noisy["noisy"], noisy["ms"], noisy["counted"], noisy["others"]) == (True, 2.5, 4, 0.5)


def test_ratios_say_how_much_faster_we_are():
    timings = {"ours": timing(2, temp=3.0), "slow": timing(4, temp=12.0), "fast": timing(1)}
    targets = [Target("slow", least=1.9), Target("fast", least=0.6), Target("slow", most=0.2, of="memory")]
    row = results.row({"what": "x", "L": 3}, timings, "cpu", targets)
    found = {(r["against"], r["of"]): (r["ratio"], r["target"], r["met"]) for r in row["ratios"]}
    assert found == {
        ("slow", "time"): (2.0, "≥ 1.9", True),
        ("slow", "memory"): (0.25, "≤ 0.2", False),
        ("fast", "time"): (0.5, "≥ 0.6", False),
    }


def test_the_spread_of_a_ratio_holds_quartiles_against_quartiles():
    timings = {"ours": timing(1, 2, 3), "theirs": timing(4, 6, 8)}
    (ratio,) = results.row({}, timings, "wall", [])["ratios"]
    assert (ratio["low"], ratio["ratio"], ratio["high"]) == (5 / 2.5, 3, 7 / 1.5)
    assert (ratio["target"], ratio["met"]) == (None, None)


def test_tokens_are_counted_and_bytes_of_their_state_compared():
    held = {"ours": (timing(2, 2, 2), ready.Decoded(4, 8, 1000)), "short": (timing(1, 1, 1), ready.Decoded(4, 8, 250))}
    timings = {name: seen._replace(decoded=decoded) for name, (seen, decoded) in held.items()}
    row = results.row({"what": "x", "S": 3}, timings, "wall", [Target("short", least=0.6, of="byte")])
    mine = row["contenders"]["ours"]
    found = {key: mine[key] for key in ("us_token", "tokens_s", "ns_byte")}
    assert found == {"us_token": 500, "tokens_s": 16_000, "ns_byte": 500}
    assert mine["state_mb"] == pytest.approx(1000 / 2**20)
    assert {r["of"]: (r["ratio"], r["met"]) for r in row["ratios"]} == {"time": (0.5, None), "byte": (2.0, True)}
    tables = dict(results.tables([row]))
    assert tables["Time per byte of state: theirs / ours"][1] == ["x (3)", "2.00 ≥ 0.6 ✓"]
    head, first, _ = tables["Everyone"]
    assert dict(zip(head, first, strict=True)).items() >= {"µs / token": "500.0", "tokens / s": "16,000"}.items()


def test_a_ratio_with_a_noisy_side_says_so():
    timings = {"ours": timing(1, 1, 1), "theirs": timing(2, 2, 2, others=1.0)}
    targets = [Target("theirs", least=1.5)]
    shown = {clock: results.cell(results.row({}, timings, clock, targets)["ratios"][0]) for clock in ("wall", "cpu")}
    assert shown == {"wall": "~2.00 ≥ 1.5 ?", "cpu": "2.00 ≥ 1.5 ✓"}


def test_saved_results_come_back_and_show_every_ratio(tmp_path):
    timings = {"ours": timing(2, 2.5, 3, temp=1.0), "a": timing(5, 6, 7, temp=8.0), "b": timing(1, 2, 3)}
    rows = [results.row({"what": w, "L": 3}, timings, "cpu", [Target("a", least=1.5)]) for w in ("one", "two")]
    whole = result(*rows)
    results.save(whole, tmp_path / "folder" / "test-cpu")
    assert json.loads((tmp_path / "folder" / "test-cpu.json").read_text()) == whole
    assert (tmp_path / "folder" / "test-cpu.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "folder" / "test-cpu.md").read_text().splitlines()
    for row in rows:
        shown = " ".join(line for line in lines if line.startswith(f"| {results.title(row['case'])} "))
        for ratio in row["ratios"]:
            assert f"| {results.cell(ratio)} |" in shown
    assert results.cell(rows[0]["ratios"][0]) == "2.40 (2.00–2.89) ≥ 1.5 ✓"


def test_the_column_of_who_is_not_installed_says_so_unless_he_was_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session, "PACKAGES", ("nowhere",))
    monkeypatch.setattr(harness, "race", lambda contenders, *_: {c.name: timing(1, 1, 1) for c in contenders})
    opponents = {"scan": None, "nowhere": None}
    parser = session.parser("test", "", opponents, "L")

    def run(*words):
        args = session.parse(parser, ["--out", str(tmp_path), *words])
        contenders, cases = session.contenders(args, None, opponents, ()), [{"kind": "x", "L": L} for L in (1, 2)]
        return session.run(
            args, cases, contenders, lambda **case: [], lambda name, case: name == "ours" or case["L"] == 1
        )

    result = run()
    assert [set(row["contenders"]) for row in result["rows"]] == [{"ours", "scan"}, {"ours"}]
    assert dict(results.tables(result["rows"]))["Speed: their time / ours"] == [
        ["case", "nowhere", "scan"], ["x (1)", "not installed", "1.00"], ["x (2)", "", ""]]  # fmt: skip
    with pytest.raises(SystemExit, match=r"nowhere not found: pip install"):
        run("--opponents", "nowhere")


def test_a_race_goes_on_where_earlier_results_end(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        harness, "race", lambda who, case, _: asked.append(case["L"]) or {c.name: timing(case["L"]) for c in who}
    )
    parser = session.parser("test", "", {"scan": None}, "L")

    def run(*words, lengths=(1, 2)):
        args = session.parse(parser, ["--out", str(tmp_path), *words])
        cases = [{"kind": "x", "L": L} for L in lengths]
        return session.run(args, cases, session.contenders(args, None, {"scan": None}, ()), lambda **case: [])

    run("--pin", "--opponents", "scan", lengths=(2,))
    path = next(tmp_path.glob("*.json"))
    result = run("--pin", "--resume", str(path))
    assert asked == [2, 1] and [row["case"]["L"] for row in result["rows"]] == [2, 1]
    assert json.loads(path.read_text())["rows"] == json.loads(json.dumps(result["rows"]))
    assert result["command"] == "python -m benchmarks.test --pin --opponents scan; python -m benchmarks.test --pin"
    with pytest.raises(SystemExit, match=r"--resume .*: its clock is cpu, wanted wall: leave out --resume\."):
        run("--resume", str(path))
    assert session.plan_of(session.parse(parser, ["--pin", "--rounds", "3"])).rounds == 3
    with pytest.raises(SystemExit):
        session.parse(parser, ["--rounds", "2"])


def test_files_are_named_after_the_device():
    def named(device, clock, cpu):
        return session.stem({"name": "n", "clock": clock, "hardware": {"device": device, "cpu": cpu}})

    assert named("cpu", "wall", "AMD EPYC") == "n-amd-epyc"
    assert named("cpu", "cpu", "Intel(R) Xeon(R) Processor") == "n-intel-xeon-pinned"
    assert named("cpu", "cpu", "Intel(R) Core(TM) i7-9 CPU @ 2.6GHz") == "n-intel-core-i7-9-2-6ghz-pinned"
    assert named("NVIDIA H200", "wall", "AMD EPYC") == "n-nvidia-h200"


@pytest.mark.parametrize("text", ["1,2", "1,2,x", "1,0,3", ""])
def test_sizes_are_refused_with_an_example(text, capsys):
    parser = session.parser("recurrence", "", {}, "B,L,D")
    assert parser.parse_args(["--shapes", "4,5,6"]).shapes == [(4, 5, 6)]
    with pytest.raises(SystemExit):
        parser.parse_args(["--shapes", text])
    assert "wanted B,L,D" in capsys.readouterr().err


def test_importing_a_benchmark_leaves_jax_and_torch_alone():
    look = "import sys, benchmarks.recurrence; sys.exit(bool({'jax', 'torch', 'flax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT).returncode == 0


def test_targets_belong_to_standard_shapes():
    assert all(len(v) <= len(recurrence.SHAPES[what]) for (what, _, _), v in recurrence.TARGETS.items())
    found = recurrence.targets("training", "lstm", 16, 512, 128)
    assert {(t.against, t.of, str(t)) for t in found} == {
        ("masked", "time", "≤ 1.1"),
        ("linen", "memory", "≤ 0.4"),
        ("linen", "time", "≥ 2.1"),
        ("torch", "time", "≥ 1.2"),
    }
    assert [t.against for t in recurrence.targets("training", "gru", 1, 2, 3)] == ["masked"]


@pytest.mark.slow  # two programs for each cell and shape
@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("cell", recurrence.CELLS)
@pytest.mark.parametrize("what", list(recurrence.SHAPES))
def test_the_plain_opponent_computes_what_we_do(what, cell):
    mine, theirs = (build(what, cell, 2, 5, 3).call() for build in (recurrence.ours, recurrence.plain))
    jax.tree.map(lambda m, t: np.testing.assert_allclose(m, t, atol=1e-5), mine, theirs)


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_its_files(tmp_path):
    words = "--quick --pin --what training --cells elman --opponents linen --shapes 2,4,3"
    command = [sys.executable, "-m", "benchmarks.recurrence", *words.split()]
    done = subprocess.run([*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    text = {p.suffix: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(text) == {".json", ".md", ".png"}
    saved = json.loads(text[".json"])
    assert {p.stem for p in tmp_path.iterdir()} == {session.stem(saved)}
    assert saved["command"] == f"python -m benchmarks.recurrence {words}"
    assert saved["rows"][0]["case"] == {"what": "training", "cell": "elman", "B": 2, "L": 4, "D": 3}
    assert set(saved["rows"][0]["contenders"]) == {"ours", "linen"}
    assert saved["allocators"] == {"ours": "keep", "linen": "default"}
    written = (text[".json"] + text[".md"]).decode()
    for private in (str(tmp_path), str(ROOT), platform.node()):
        assert private not in written
    assert "training elman (2, 4, 3)" in done.stdout


@pytest.mark.parametrize("name", ["torch", "keras"])
@pytest.mark.parametrize("what", list(recurrence.SHAPES))
def test_guests_give_outputs_of_our_shape(name, what, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # or it looks for another one when it is imported
    pytest.importorskip(name)
    with jax.numpy_rank_promotion("allow"):  # keras adds vectors to matrices
        out = getattr(recurrence, name)(what, "gru", 2, 4, 3).call()
    x = {"torch": lambda: out[0], "keras": lambda: out[1][1]}[name]() if what == "training" else out
    y = x[0] if isinstance(x, tuple) else x
    assert tuple(y.shape) == (2, 4, 3)
