"""The page about a comparison: whole, self-contained, with every number that was found and careful words."""

import csv
import dataclasses
import json

import launch
import pytest
from inline import made_up
from test_report import Page

from seqjax.report import canvas
from seqjax.report import compare as page
from seqjax.report import words as report_words
from seqjax.report.compare import figures as compare_figures
from seqjax.report.compare import sentences as compare_words
from seqjax.report.compare import tables as compare_tables
from seqjax.report.document import Figure, Section
from seqjax.search import compare as compare_lib
from seqjax.search import plan, sizes, statistics
from seqjax.search.findings import Pair
from seqjax.training.workdir import Workdir

BASE = {k: v for k, v in launch.tiny().items() if k != "optim"}
COSTS = {"gru": (300, 3e6, 64, 0.3), "lstm": (200, 2e6, 64, 0.2), "rnn": (100, 1e6, 64, 0.1)}
FILE = {
    "base": BASE,
    "contenders": {"gru": {}, "lstm": {"model.mixer": "lstm"}, "rnn": {"model.mixer": "rnn"}},
    "match": "state_bytes",
    "target": "gru",
    "metric": "accuracy",
    "learning_rates": [0.001, 0.01, 0.1],
    "extrapolate": {"data.length": [3, 6]},
}


def measure(tree, matched=None):
    parameters, flops, state, seconds = COSTS[tree["model"]["mixer"]["name"]]
    return sizes.Size(8, parameters, flops, 9, state, 2**20, seconds, matched)


def findings(out, monkeypatch, **changes):
    """Those of a comparison of made-up runs."""
    monkeypatch.setattr(sizes, "measure", measure)
    monkeypatch.setattr(sizes, "solve", lambda tree, *_: (tree, 1.01))
    tree = {k: v for k, v in (FILE | changes).items() if v is not ...}
    workdir = Workdir(out).lock()
    with made_up.MadeUp() as executor:
        found = compare_lib.compare(plan.resolve(tree), workdir, executor)
    workdir.unlock()
    return found


def compared(out, monkeypatch, **changes):
    """A comparison of made-up runs, and its report: -> findings, html, markdown, rows of results.csv."""
    found = findings(out, monkeypatch, **changes)
    assert page.write(found, out, "recall", "seqjax compare --config x.py") == out / "report.html"
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return found, (out / "report.html").read_text(), (out / "report.md").read_text(), rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def written(folder):
    with pytest.MonkeyPatch.context() as patch:
        yield compared(folder, patch)


def test_needs_nothing_from_elsewhere_and_its_tags_match(written):
    _, text, *_ = written
    parsed = Page(text)
    assert not {"link", "script", "img", "iframe", "object", "embed"} & set(parsed.tags)
    assert "://" not in text and "@import" not in text
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert "mathdefault" not in text  # ticks are text
    assert parsed.tags.count("svg") > 8


def test_says_who_is_first_and_how_sure_that_is(written):
    _, text, markdown, _ = written
    for shown in (Page(text).text, markdown.replace("\\", "")):
        assert "At equal state bytes (64), gru has the highest mean test accuracy, 0.9902" in shown
        assert "gru is ahead with 3 of 3 seeds, but this may be chance: with 3 seeds, the p of a" in shown
        assert "paired permutation test is never below 0.25; a significant p needs at least 7 seeds (Holm's" in shown
        assert "ahead of lstm with" in shown and "beaten by gru and lstm" in shown
        assert "rnn: its best learning rate, 10, is the highest" not in shown  # it diverges at 1
        assert "seqjax compare --config x.py" in shown and "matched within 1.00%" in shown
        for wanted in (
            "tokens per second, alone",
            *(f"{9 / seconds:,.0f}" for *_, seconds in COSTS.values()),
            "75 %",
            "Learning rates",
            "diverged",
            "Score against length",
            "P(better)",
        ):
            assert wanted in shown, wanted


def test_every_point_has_its_config_and_its_command(written):
    found, text, markdown, _ = written
    shown = Page(text).text
    for x in found.founds:
        for seed in (0, 1, 2):
            where = f"runs/{x.cell.name}/rate-{x.rate:g}/seed-{seed}/config.json"
            assert where in shown and where in markdown
    assert shown.count('"warmup_steps"') == 3


def test_the_table_holds_every_run_once(written):
    found, *_, rows = written
    test = [r for r in rows if r["split"] == "test" and r["metric"] == "accuracy"]
    assert {(r["contender"], r["seed"]) for r in test} == {(c, str(s)) for c in COSTS for s in range(3)}
    for row in test:
        x = next(x for x in found.founds if x.cell.name == row["contender"])
        assert float(row["score"]) == x.judged(int(row["seed"])).metrics["accuracy"] and row["chosen"] == "True"
    tried = [r for r in rows if r["split"] == "validation"]
    assert len(tried) == sum(len(x.rates) for x in found.founds)
    assert len({tuple(r.values()) for r in rows}) == len(rows)


def test_parquet_holds_what_csv_holds(written, folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    *_, rows = written
    columns = parquet.read_table(folder / "results.parquet").to_pylist()
    assert len(columns) == len(rows)
    assert [r["score"] for r in columns] == [float(r["score"]) if r["score"] else None for r in rows]


def test_the_same_findings_give_the_same_bytes(written, folder, monkeypatch):
    _, *again = compared(folder, monkeypatch)
    assert again == list(written[1:])


def test_what_varies_has_a_verdict_each(tmp_path, monkeypatch):
    vary, seeds = {"data.length": [3, 6]}, list(range(7))
    changes = dict(contenders={k: v for k, v in FILE["contenders"].items() if k != "rnn"}, seeds=seeds)
    found, text, *_ = compared(tmp_path, monkeypatch, vary=vary, **changes)
    shown = Page(text).text
    first = (
        "First in mean test accuracy: gru at length 3 and 6; at length 3 and 6 the lead over the second is significant"
    )
    assert first in shown
    for value in (3, 6):
        assert f"At equal state bytes (64) and length {value}, gru has the highest" in shown
    assert (
        "The difference is significant in a paired permutation test, p = 0.031 (Holm's correction over 2 pairs)"
        in shown
    )
    assert "; gru is ahead with 7 of 7 seeds" in shown
    assert len(compare_figures.curves(found)) == 4 and len(compare_figures.lengths(found)) == 3


def test_settings_stand_side_by_side(tmp_path, monkeypatch):
    """One row per contender, one column per setting and other data; the best of each is marked."""
    vary = {"short": {"data.length": 3}, "long": {"data.length": 6}}
    found, text, *_ = compared(tmp_path, monkeypatch, vary=vary, extrapolate={"long": {"data.length": [9]}})
    table = compare_tables.atlas(found, [("guessing", "long", 0.25, {})])
    assert [(c.group, c.name) for c in table.columns[1:]] == [
        ("short", "as trained"),
        ("long", "as trained"),
        ("long", "length 9"),
    ]
    for k, (value, at) in enumerate([("short", None), ("long", None), ("long", "data.length=9")], start=1):
        means = {x.cell.name: found.summary(x, at).mean for x in found.at(value)}
        cells = {row.cells[0].text: row.cells[k] for row in table.rows if row.run is not None}
        assert [name for name, cell in cells.items() if cell.mark] == [max(means, key=means.get)]
        assert all(cell.text.startswith(report_words.number(means[name])) for name, cell in cells.items())
    assert [cell.text for cell in table.rows[-1].cells] == ["guessing", "", "0.2500", ""]
    assert "Score against other data" in Page(text).text


def test_without_a_match_nothing_is_said_to_be_equal(tmp_path, monkeypatch):
    _, text, *_ = compared(tmp_path, monkeypatch, match=..., target=..., extrapolate=...)
    shown = Page(text).text
    assert "As configured, gru has" in shown and "At equal" not in shown and "Score against length" not in shown


def test_runs_that_diverged_are_named(tmp_path, monkeypatch):
    train = made_up.train

    def fragile(tree, folder):
        code = train(tree, folder)
        if tree["seed"] == 2 and tree["model"]["mixer"]["name"] == "lstm":
            status = {"status": "failed", "step": 1, "error": "NumericsError: not finite"}
            (folder / "status.json").write_text(json.dumps(status))
        return code

    monkeypatch.setattr(made_up, "train", fragile)
    found, text, *_ = compared(tmp_path, monkeypatch)
    assert "lstm: seed 2 diverged at the chosen learning rate and is left out of all means." in Page(text).text
    assert found.summary(found.founds[1]).n == 2


def scored(monkeypatch, scores):
    """Made-up evaluations: contender -> accuracy of each seed on test."""

    def evaluate(folder, at):
        tree = json.loads((folder / "config.json").read_text())
        metrics = {"loss": 1.0, "accuracy": scores[tree["model"]["mixer"]["name"]][tree["seed"]]}
        result = {"step": 4, "examples": 10, "metrics": metrics}
        (folder / "results.json").write_text(
            json.dumps({name: result for name in ("test", *(f"test at {a}" for a in at))})
        )
        return 0

    monkeypatch.setattr(made_up, "evaluate", evaluate)


def test_equals_share_the_first_place(tmp_path, monkeypatch):
    scored(monkeypatch, {"gru": [0.9, 0.7, 0.8], "lstm": [0.7, 0.8, 0.9], "rnn": [0.1] * 3})
    found, text, markdown, _ = compared(tmp_path, monkeypatch)
    assert "gru and lstm share the highest mean test accuracy, 0.8000." in Page(text).text
    assert [x.cell.name for x in found.winners(None)] == ["gru", "lstm"] and markdown.count("**0.8000") == 2


def test_a_pair_is_ordered_by_the_seeds_that_both_have(tmp_path, monkeypatch):
    few = [0.6, 0.61, 0.62]
    scored(monkeypatch, {"gru": [*few, 0.99], "lstm": [x + 0.03 for x in few] + [None], "rnn": [0.1] * 4})
    found, text, *_ = compared(tmp_path, monkeypatch, seeds=[0, 1, 2, 3])
    shown, first = Page(text).text, found.pairs()[0]
    assert (first.first, first.second, first.n, first.agree) == ("lstm", "gru", 3, 3) and first.ahead > 0.029
    assert "gru has the highest mean test accuracy" in shown and "lstm is ahead with 3 of 3 seeds" in shown
    assert "lstm: seed 3 has no finite test accuracy and is left out of this mean." in shown
    assert "lstm: seed 3 has no finite test accuracy at data.length=6 and is left out of this mean." in shown


def test_a_learner_without_an_optimiser_has_no_learning_rate(tmp_path, monkeypatch):
    contenders = {"gru": {}, "still": {"learner": "fixed", "optim": {}}}
    found, text, _, rows = compared(tmp_path, monkeypatch, contenders=contenders, match=..., target=...)
    names = [column.name for column in compare_tables.rates(found).columns]
    assert names == ["contender", "none", "0.001", "0.01", "0.1"] and "inf" not in Page(text).text.split()
    assert {float(row["rate"]) for row in rows if row["contender"] == "still"} == {plan.NONE}
    assert not any("still" in note for note in compare_words.notes(found))


def test_what_diverged_takes_no_time(tmp_path, monkeypatch):
    train = made_up.train

    def fragile(tree, folder):
        code = train(tree, folder)
        if tree["seed"] == 2:
            rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
            (folder / "metrics.jsonl").write_text(rows[0])
            (folder / "status.json").write_text(
                json.dumps({"status": "failed", "step": 1, "error": "NumericsError: not finite"})
            )
        return code

    monkeypatch.setattr(made_up, "train", fragile)
    found = findings(tmp_path, monkeypatch)
    assert found.founds[0].seconds() == [2.0, 2.0] and compare_tables.total_flops(found.founds[0]) == 4 * 3e6


def test_a_contender_that_never_trained_has_no_score(tmp_path, monkeypatch):
    _, text, *_ = compared(
        tmp_path, monkeypatch, learning_rates={"gru": [0.01, 0.1], "lstm": [1e5, 1e6], "rnn": [1e5, 1e6]}
    )
    shown = Page(text).text
    assert "lstm: no learning rate from 1000 to 1e+06 trained" in shown and "no other contender has a score" in shown


def pair(**changes):
    fields = dict(first="a", second="b", value=None, n=8, ahead=0.1, low=0.0, high=0.2)
    return Pair(**fields | dict(p=0.5, adjusted=0.5, floor=2**-7, wins=0.7, agree=6) | changes)


def test_words_about_chance():
    assert compare_words.chance(pair(), 1).startswith(
        "The difference is not significant in a paired permutation test, p = 0.5;"
    )
    assert compare_words.chance(pair(adjusted=0.02), 2).startswith(
        "The difference is significant in a paired permutation test"
    )
    assert "but this may be chance" in compare_words.chance(pair(floor=0.25), 1)
    assert "but this may be chance" in compare_words.chance(pair(floor=0.04), 2)  # after Holm it cannot


def test_how_many_seeds_it_takes():
    assert compare_words.enough(1) == 6 and compare_words.enough(6) == 8
    for pairs in range(1, 20):
        n = compare_words.enough(pairs)
        assert statistics.smallest_p(n) * pairs <= 0.05 < statistics.smallest_p(n - 1) * pairs


def test_curves_end_where_the_first_seed_was_stopped(tmp_path, monkeypatch):
    train = made_up.train

    def patient(tree, folder):
        code = train(tree, folder)
        if tree["seed"] == 2:
            file = folder / "metrics.jsonl"
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            last = rows[-1]["step"]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] < last))
        return code

    monkeypatch.setattr(made_up, "train", patient)
    found = findings(tmp_path, monkeypatch)
    _, (axes,) = canvas.figure(1)
    ends = {row["step"] for run in found.founds[0].runs.values() for row in run.rows[-1:]}
    assert len(ends) == 2 and compare_figures._curve(axes, found, found.founds[0], "step")[-1] == min(ends)


def test_a_front_is_named_where_one_is_drawn(written, folder):
    """Where all cost the same it is a point; where a worse one costs less, a line."""
    found, text, *_ = written
    assert not compare_figures.fronts(found) and "Pareto" not in text
    cheap = [dataclasses.replace(x.size, state_bytes=10 - i) for i, x in enumerate(found.founds)]
    founds = [dataclasses.replace(x, size=size) for x, size in zip(found.founds, cheap, strict=True)]
    other = dataclasses.replace(found, founds=founds)
    assert compare_figures.fronts(other)
    sections = [part for part in page.page(other, folder, "recall", "seqjax compare") if isinstance(part, Section)]
    shown = [element for section in sections for element in section.elements if isinstance(element, Figure)]
    assert any("Dashed: the Pareto front." in figure.caption for figure in shown)


def test_other_data_whose_values_are_words_have_a_table_and_no_figure(written, folder):
    found, *_ = written
    values = [found.founds[0].cell.get("data.name"), "other"]
    words = dataclasses.replace(found.comparison, extrapolate={"data.name": values})
    elements = page.page(dataclasses.replace(found, comparison=words), folder, "recall", "seqjax compare")
    (section,) = (part for part in elements if isinstance(part, Section) and part.title == "Score against name")
    table, figure = section.elements
    assert [row.cells[-1].text for row in table.rows] == ["–"] * 3 and "–" not in {r.cells[-2].text for r in table.rows}
    assert figure.panels == []


def test_what_is_not_equal_is_not_called_so(written):
    found, *_ = written
    loose = [dataclasses.replace(x, size=dataclasses.replace(x.size, matched=1.446)) for x in found.founds]
    said = compare_words.headline(dataclasses.replace(found, founds=loose))
    assert said.startswith("At state bytes within 45% of 64, gru has the highest mean test accuracy")


def test_words_agree_with_their_number(written):
    found, *_ = written
    of = lambda lost: compare_words._of(
        found, dataclasses.replace(found.founds[0], runs=without(found.founds[0], lost))
    )
    assert of([2]) == ["seed 2 diverged at the chosen learning rate and is left out of all means."]
    assert of([0, 2]) == ["seeds 0 and 2 diverged at the chosen learning rate and are left out of all means."]


def without(found, lost):
    """The runs of a contender, of which some have diverged."""
    failed = lambda run: dataclasses.replace(run, status="failed", results={})
    return {seed: failed(run) if seed in lost else run for seed, run in found.runs.items()}


def test_the_front_is_what_nobody_beats_in_both():
    points = [(1, 0.2), (2, 0.1), (2, 0.5), (3, 0.5), (4, 0.9)]
    assert compare_figures.front(points, 1) == [(1, 0.2), (2, 0.5), (4, 0.9)]
    assert compare_figures.front(points, -1) == [(1, 0.2), (2, 0.1)]
    for x, y in points:
        beaten = any((a <= x and b >= y and (a, b) != (x, y)) for a, b in points)
        assert ((x, y) in compare_figures.front(points, 1)) == (not beaten)
