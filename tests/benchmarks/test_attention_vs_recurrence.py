"""Attention against recurrence: who is as large as whom, what the machine could do, and where curves cross."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _curves, _layers, _programs, _roofline, attention_vs_recurrence, harness, ready, report, session
from benchmarks.decoding import STEPS
from benchmarks.harness import Timing, Visit
from benchmarks.ready import Work

ROOT = Path(__file__).parents[2]
LIMITS = _programs.Limits(seconds=60.0, flops=1e12)
RATES = _roofline.Rates(flops=100.0, bytes=10.0)


# ---- Equal size.


def test_all_causal_mixers_are_asked_and_the_others_named():
    names, absent = _layers.names()
    assert names[:2] == ["attention", "attention_window"]
    assert {"lstm", "rg_lru", "linear_attention", "gla", "stacked", "conv_lstm"} <= set(names)
    assert {"bidirectional": "it sees the future", "cross_attention": "it reads a second sequence"}.items() <= (
        absent.items()
    )
    assert not set(names) & set(absent)


@pytest.mark.parametrize("name", ["attention_window", "lstm", "gru", "rnn", "lru", "rg_lru", "linear_attention"])
def test_layers_have_the_parameters_of_attention(name):
    width = _layers.width_like(name, 128)
    found = _layers.parameters(_layers.mixer(name, width, "float32", 8))
    assert abs(found / (4 * 128**2) - 1) <= 0.02


def test_of_near_widths_the_roundest_is_taken(monkeypatch):
    monkeypatch.setattr(_layers, "parameters", lambda width: width**2)
    assert _layers.equal_width(lambda width: width, 250**2) == 248  # 256 would be 5 % too many

    def heads(width):
        if width % 5 and width % 16:
            raise ValueError("5 heads")
        return width

    assert _layers.equal_width(heads, 251**2) == 250

    def few(width):
        if width % 16 and width != 254:
            raise ValueError("127 heads")
        return width

    assert _layers.equal_width(few, 250**2) == 254  # 3.2 % more, and no other is nearer
    with pytest.raises(ValueError, match=r"no width near 6 has 40 parameters within 4%"):
        _layers.equal_width(lambda width: width, 40)


# ---- What a layer asks of a machine.


def test_the_share_is_that_of_the_nearer_roof():
    work = Work(width=1, parameters=1, tokens=1, flops=50.0, moved=20, held=0, peak=0)
    assert _roofline.share(work, 4.0, RATES) == (0.5, "bytes")
    assert _roofline.share(work._replace(flops=300.0), 4.0, RATES) == (0.75, "products")


@pytest.mark.parametrize("what", ["prefill", "training"])
@pytest.mark.parametrize("name, seen", [("attention", 300 * 301 / 2), ("attention_window", 300 * 256 - 255 * 256 / 2)])
def test_attention_is_counted_by_the_pairs_that_see_each_other(name, seen, what):
    B, L, D = 2, 300, 16
    wanted = 2 * B * (4 * L * D * D + 2 * seen * D)  # projections, scores and values
    passes = 3 if what == "training" else 1  # each product has two of its size on the way back
    found = _roofline.flops(_layers.mixer(name, D, "float32", L), what, B, L)
    assert found == pytest.approx(passes * wanted, rel=0.01)


def test_a_recurrent_layer_is_counted_token_by_token():
    layer = _layers.mixer("lstm", 8, "float32", 1)
    assert _roofline.flops(layer, "prefill", 3, 7) == 2 * 3 * 7 * 8 * 8**2
    assert _roofline.flops(layer, "decode", 3, 7) == 2 * 3 * STEPS * 8 * 8**2


def test_copies_count_what_is_read_and_written(monkeypatch):
    monkeypatch.setattr(_roofline, "COPIED", 2**10)
    built = _roofline.copy("bfloat16")
    assert built.work.moved == 2 * _roofline.COPIED
    assert built.call().nbytes == _roofline.COPIED


# ---- The programs.


@pytest.mark.usefixtures("compile_once")
@pytest.mark.slow  # a program for each, as in every race
@pytest.mark.parametrize("what", attention_vs_recurrence.WHAT)
@pytest.mark.parametrize("name", ["attention", "rnn"])
def test_programs_say_what_they_take(name, what):
    B, L = 2, 12
    built = _programs.build(name, 32, "float32", LIMITS, what, B, L)
    out, work = built.call(), built.work
    D, x = work.width, 4 * B * L * work.width
    assert work.tokens == B * (STEPS if what == "decode" else L)
    room = L + STEPS * (what == "decode")  # keys, values and places; and how many there are
    assert work.held == {"attention": 4 * (room * (2 * D + 1) + 1), "rnn": 4 * D}[name]
    wanted = {
        "training": 2 * 4 * work.parameters + 3 * x + 4,
        "prefill": 4 * work.parameters + 2 * x + B * work.held,
        "decode": STEPS * (4 * work.parameters + B * work.held + 2 * 4 * B * D),
    }
    assert work.moved == wanted[what]
    assert work.peak >= 4 * work.parameters + B * work.held * (what != "training")
    assert len(jax.tree.leaves(out)) > 0


@pytest.mark.usefixtures("compile_once")
def test_tokens_are_decoded_behind_a_state_of_so_many():
    layer = _layers.mixer("attention", 8, "float32", 6 + STEPS)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 1, 8)))
    state = _programs.filled(layer, params, lambda *shape: jnp.ones(shape), 6)
    assert state.count_B.tolist() == [6]
    np.testing.assert_array_equal(state.position_BW[0], [*range(6), *[-1] * STEPS])
    rewind = _programs.rewinding(state)
    _, after = jax.jit(lambda *args: layer.apply(*args, method="step"))(params, jnp.ones((1, 8)), state)
    again = rewind(after)
    assert after.count_B.tolist() == [7] and again.count_B.tolist() == [6]
    np.testing.assert_array_equal(again.k_BHKW, after.k_BHKW)


def test_what_is_too_much_is_left_out_with_its_reason(monkeypatch):
    build = lambda **change: _programs.build("attention", 16, "float32", LIMITS._replace(**change), "prefill", 2, 8)
    assert "s a call at least" in build(flops=1.0).left_out
    assert "no width near" in _programs.build("lstm", 8, "float32", LIMITS, "prefill", 2, 8).left_out
    monkeypatch.setattr(ready, "free_mb", lambda: 0.0)
    assert "MB of state" in build().left_out
    built = ready.jitted(lambda x: jnp.sort(x @ x) @ x, jnp.ones((64, 64)), most_mb=0.0)
    assert built.call is None and "of temporaries, 0 are free" in built.left_out


def test_long_calls_are_foreseen():
    expected = attention_vs_recurrence.expected
    assert expected([], 100, 8) == 0
    assert expected([(4, 1.0)], 100, 8) == 200  # one point: as attention would
    assert expected([(2, 1.0), (4, 1.0)], 100, 8) == 100  # flat
    assert expected([(2, 1.0), (4, 2.0)], 100, 16) == pytest.approx(800)
    assert expected([(2, 1.0), (4, 9.0)], 100, 8) == 1800  # no more than the length


# ---- Curves.


def test_straight_lines_cross_where_they_do():
    lengths = [128, 512, 2048, 8192]
    rival, mine = {L: 0.01 * L for L in lengths}, dict.fromkeys(lengths, 7.0)
    at, words = _curves.crossover(mine, rival)
    assert at == pytest.approx(700) and words == "700"
    assert _curves.between(rival, at) == pytest.approx(7.0)
    steep, gentle = ({L: a * L**power for L in lengths} for a, power in ((1e-5, 1.5), (1e-2, 0.5)))
    assert _curves.crossover(gentle, steep)[0] == pytest.approx(1000)
    assert _curves.crossover(mine, dict.fromkeys(lengths, 7.0)) == (None, "not up to 8,192")


def test_curves_that_do_not_cross_say_so():
    up, down = {128: 1.0, 512: 2.0}, {128: 3.0, 512: 4.0}
    assert _curves.crossover(up, down) == (None, "at every length")
    assert _curves.crossover(down, up) == (None, "not up to 512")
    assert _curves.crossover({128: 1.0}, {512: 1.0}) == (None, "not measured")
    assert _curves.crossover({**up, 2048: 9.0}, down) == (None, "at every length")  # up to the longest of both


def test_the_last_crossing_counts():
    mine, rival = {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}, {1: 0.5, 2: 2.0, 4: 0.5, 8: 4.0}
    assert _curves.crossover(mine, rival)[0] == pytest.approx(4 * 2 ** (1 / 3))


# ---- Results.


def figures(us: float, noisy=False) -> dict:
    """Of a layer."""
    visits = [Visit(wall=us * 1e-4, cpu=us * 1e-4, others=float(noisy))] * 3
    work = Work(width=32, parameters=4096, tokens=100, flops=2e3, moved=10, held=64, peak=2**20)
    timing = Timing(visits, "keep", "cpu", 1.0, 1.0, None, work=work)
    return attention_vs_recurrence.figures(timing, "wall", _roofline.Rates(1e7, 1e7))


def run(device: str, attention: dict[int, float], rnn: dict[int, float]) -> dict:
    """A result of two layers: length -> µs per token."""
    rows = []
    for L in attention:
        found = {"attention": figures(attention[L], noisy=device != "cpu")}
        found |= {"rnn": figures(rnn[L])} if L in rnn else {}
        left = {} if L in rnn else {"rnn": "about 9 s a call"}
        rows.append({"case": {"what": "training", "B": 1, "L": L}, "contenders": found, "left_out": left})
    layer = {"dtype": "float32", "width of attention": 32}
    return {
        "name": report.NAME,
        "clock": "wall",
        "hardware": {"device": device, "cpu": "AMD EPYC"},
        "layer": layer,
        "date": "a day",
        "rows": rows,
    }


def test_figures_are_per_token():
    found = figures(4.0)
    assert (found["us_token"], found["tokens_s"]) == (pytest.approx(4.0), pytest.approx(250_000))
    assert (found["peak_mb"], found["state_bytes"], found["width"], found["parameters"]) == (1, 64, 32, 4096)
    assert (found["share"], found["bound"]) == (pytest.approx(0.5), "products")  # 2e3 in 4e-4 s, of 1e7 a second


def test_tables_show_everything_and_what_is_not_there():
    runs = [run("cpu", {128: 1.0, 512: 4.0}, {128: 2.0}), run("GPU", {128: 1.0}, {128: 3.0})]
    alone, both = dict(_curves.tables(runs[:1])), dict(_curves.tables(runs))
    assert alone["Crossover with attention: tokens"] == [
        ["faster than attention from", "training"],
        ["rnn", "not up to 128"],
    ]
    assert alone["Tokens per second: training"] == [
        ["", "128", "512"],
        ["attention", "1,000,000", "250,000"],
        ["rnn", "500,000", "left out: about 9 s a call"],
    ]
    assert both["Tokens per second: training"][0] == ["", "AMD EPYC: 128", "AMD EPYC: 512", "GPU: 128"]
    assert both["Tokens per second: training"][1][-1] == "~1,000,000"
    assert alone["Layers"][2] == ["rnn", "32", "4,096", "64", ""]


def test_the_report_has_all_machines(tmp_path):
    runs = [run("cpu", {1: 1.0, 4: 4.0}, {1: 2.0, 4: 2.0}), run("GPU", {1: 1.0}, {1: 3.0})]
    for result in runs:
        (tmp_path / f"{session.stem(result)}.json").write_text(json.dumps(result))
    report.main(["--out", str(tmp_path)])
    text, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    for shown in (text, page):
        assert "a day" in shown and "GPU: training" in shown and "not up to 1" in shown
    assert "| rnn | 2 | not up to 1 |" in text
    assert page.count("<svg") == 2 and "<script" not in page
    with pytest.raises(SystemExit):
        report.main(["--out", str(tmp_path / "nothing")])


def here(contenders, case, plan):
    """A race without processes."""
    timings = {}
    for contender in contenders:
        built = contender.build(**case)
        visits = [] if built.left_out else [harness.visit(built.call, 1)] * 3
        timings[contender.name] = Timing(
            visits, "keep", "cpu", 1.0, 1.0, None, work=built.work, left_out=built.left_out
        )
    return timings


@pytest.mark.usefixtures("compile_once")
@pytest.mark.slow
def test_all_lengths_are_timed_and_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "race", here)
    monkeypatch.setattr(_roofline, "SIZE", {"cpu": 8})
    monkeypatch.setattr(_roofline, "COPIED", 2**10)
    monkeypatch.setattr(attention_vs_recurrence, "TOKENS", 32)
    words = "--quick --what prefill --lengths 16 8 --width 32 --mixers attention"
    attention_vs_recurrence.main([*words.split(), "gla", "--out", str(tmp_path)])
    stem = next(tmp_path.glob("attention_vs_recurrence-*.json")).with_suffix("")
    asked = []
    monkeypatch.setattr(harness, "race", lambda who, *given: asked.append([c.name for c in who]) or here(who, *given))
    more = ["rnn", "gla", "--out", str(tmp_path), "--resume", f"{stem}.json"]
    attention_vs_recurrence.main([*words.split(), *more])  # and those that are new
    assert asked == [["rnn"], ["rnn"]]
    saved = json.loads(stem.with_suffix(".json").read_text())
    assert [row["case"] for row in saved["rows"]] == [{"what": "prefill", "B": 32 // L, "L": L} for L in (8, 16)]
    for row in saved["rows"]:
        assert set(row["contenders"]) == {"attention", "rnn"}  # no GLA is near enough
        assert "no width near 29" in row["left_out"]["gla"]
    assert "bidirectional" in saved["not asked"] and saved["roofline"]["GFLOP/s"] > 0
    text = stem.with_suffix(".md").read_text()
    assert "Crossover with attention" in text and "left out: no width near 29" in text
    assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "Crossover with attention" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        attention_vs_recurrence.main(["--lengths", "1"])
    assert "got 1, wanted at least 2" in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_its_files(tmp_path):
    words = "--quick --pin --what prefill --mixers attention rnn --lengths 16 8 --width 32"
    command = [sys.executable, "-m", "benchmarks.attention_vs_recurrence", *words.split()]
    done = subprocess.run([*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = {p.suffix: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(text) == {".json", ".md", ".png"}
    saved = json.loads(text[".json"])
    assert {p.stem for p in tmp_path.iterdir()} == {session.stem(saved)}
    assert [row["case"] for row in saved["rows"]] == [{"what": "prefill", "B": 4096 // L, "L": L} for L in (8, 16)]
    assert all(set(row["contenders"]) == {"attention", "rnn"} and not row["left_out"] for row in saved["rows"])
    assert saved["roofline"]["GFLOP/s"] > 0 and str(tmp_path) not in text[".json"].decode()
    assert b"Crossover with attention" in text[".md"]
