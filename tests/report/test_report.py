"""The written report: self-contained, whole, honest about its input, and the same every time."""

import html.parser
import json
import math
import re

import pytest

from seqjax import report
from seqjax.report import differences, runs, words
from seqjax.report.run import outcome

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect", "circle", "wbr"}


class Page(html.parser.HTMLParser):
    """Collects what a page holds, and fails on tags that do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_needs_nothing_from_elsewhere(written):
    text, *_ = written
    page = Page(text)
    assert not {"link", "script", "img", "iframe", "object", "embed", "image"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name.endswith(("href", "src")):
            assert value.startswith("#"), (name, value)
    assert "://" not in text and "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


def test_ids_are_unique_and_found(written):
    page = Page(written[0])
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = [v[1:] for n, v in page.attributes if n == "href"]
    used += [v[5:-1] for n, v in page.attributes if n == "clip-path"]
    assert used and set(used) <= set(ids)


def test_holds_what_was_asked_for(written):
    text, markdown, folders = written
    page = Page(text)
    for found in (page.text, markdown):
        for wanted in (
            "gru",
            "attention",
            "uniform",
            "5-gram",
            "most frequent",
            "123,456",
            "98,765",
            "2.25 s",
            "beaten by all",
        ):
            assert wanted in found, wanted
        assert "beaten only by gru" in found
        assert "2.5 GFLOP" in found and "0.10.2" in found and "train.steps" in found and "500 → 1000" in found
        assert "parameters of runs/before, step 7" in found
        assert f"seqjax train --config {folders[0]}/config.json --workdir NEW" in found
        assert "gru has the lowest test loss, 1.5500, ahead of attention with 1.7500." in found
    assert page.tags.count("svg") > 5 and "embedding/embedding" in page.text
    assert len(page.text) > 500 and "temperature 0.8, top-k 40, seed 3, step 1,000" in page.text


def test_config_shows_the_keys_that_differ_and_no_others(written):
    for text in (Page(written[0]).text, written[1].replace("\\", "")):
        assert "model.mixer.name" in text and "model.mixer.heads" in text
        assert "model.width" not in text and "optim.warmup_steps" not in text and "dilation" not in text


def test_words_agree_with_their_number(write_run, tmp_path):
    folders = [
        write_run(tmp_path / name, final=final) for name, final in (("a", 1.4), ("b", 1.4), ("c", 1.6), ("d", 9))
    ]
    of = lambda *which: outcome.notes([runs.read_all(folders)[i] for i in which])[0]
    assert of(0) == "a beats every baseline on test; the nearest is 5-gram (1.7000)."
    assert of(0, 1) == "a and b beat every baseline on test; the nearest is 5-gram (1.7000)."
    assert of(2) == "c does not beat every baseline on test: 5-gram (1.7000) is no worse."
    assert of(3) == "d does not beat every baseline on test: 5-gram (1.7000) and uniform (4.2000) are no worse."
    assert [words.counted(n, "seed") for n in (0, 1, 1200)] == ["0 seeds", "1 seed", "1,200 seeds"]


def test_a_wide_table_shows_that_there_is_more_of_it(written):
    """By a shadow that the content covers at either end, which a script is not needed for."""
    text = written[0]
    assert text.count("<table") == text.count('<div class="scroll" tabindex="0"') > 3
    rule = re.search(r"\.scroll \{(.*?)\}", text, re.DOTALL)[1]
    assert "overflow-x: auto" in rule and rule.count("local") == 2 and rule.count("--shade") == 2


def test_of_what_only_some_configs_have_those_at_their_default_are_left_out():
    mixers = {
        "gru": {"zoneout": 0.0, "dtype": "float32"},
        "attention": {"heads": 4, "window": 8, "dtype": "bfloat16"},
        "my.own:Mixer": {"size": 3},
    }
    config = lambda name: {"seed": 0, "model": {"name": "stack", "mixer": {"name": name, **mixers[name]}}}
    few, more = (differences.paths([config(name) for name in list(mixers)[:n]]) for n in (2, 3))
    assert few == [f"model.mixer.{key}" for key in ("name", "dtype", "window")]
    assert more == [*few, "model.mixer.size"]  # nobody here knows the default of one's own
    heads = [{"seed": 0, "model": {"name": "stack", "mixer": {"name": "attention", "heads": n}}} for n in (4, 2)]
    assert differences.paths([config("gru"), *heads]) == ["model.mixer.name", "model.mixer.heads"]


def test_text_of_users_is_escaped(write_run, pages, tmp_path):
    folder = write_run(tmp_path / "a <b>&'$x$ `c` | d")
    write_run(tmp_path / "font-family: x")
    Page(report.figure([tmp_path / "font-family: x"], tmp_path / "g.svg").read_text())
    rewrite(folder / "run.json", git="<img src=x onerror=alert(1)>")
    rewrite(folder / "status.json", status="failed", error="<script>bad</script>")
    text, markdown = pages([folder], tmp_path / "out")
    assert "<script" not in text and "<img" not in text and "a <b>" not in text
    assert "alert('x')" in Page(text).text
    assert r"a \<b\>&amp;'\$x\$ \`c\` \| d" in markdown
    widths = {line.replace("\\|", "").count("|") for line in markdown.split("\n## ")[0].split("\n") if line[:1] == "|"}
    assert len(widths) == 1
    Page(report.figure([folder], tmp_path / "f.svg").read_text())


def test_samples_stay_in_their_block(write_run, pages, tmp_path):
    folder = write_run(tmp_path / "run")
    samples = [{"prompt": "x", "text": "\n```\n# not a heading\0\ud800"}]
    (folder / "samples.json").write_text(json.dumps(samples))
    text, markdown = pages([folder], tmp_path / "out")
    assert "````text\nx\n```\n# not a heading\ufffd\ufffd\n````" in markdown
    assert "<b>x</b>\n```" in text and "\0" not in text


def test_same_folders_give_the_same_bytes(two, pages, tmp_path):
    first = [*pages(two, tmp_path / "a"), report.figure(two, tmp_path / "a.svg").read_text()]
    second = [*pages(two, tmp_path / "b"), report.figure(two, tmp_path / "b.svg").read_text()]
    assert first == second


def test_one_run_shows_its_whole_config(write_run, pages, tmp_path):
    text, markdown = pages([write_run(tmp_path / "alone")], tmp_path / "out")
    assert '"warmup_steps": 100' in Page(text).text and '"warmup_steps": 100' in markdown
    assert "alone reaches a test loss of 1.5500." in text


def test_only_config_and_metrics_are_needed(two, pages, tmp_path):
    for folder in two:
        for name in ("run.json", "status.json", "results.json", "samples.json"):
            (folder / name).unlink()
    page = Page(pages(two, tmp_path / "out")[0])
    assert "gru has the lowest validation loss" in page.text and "Samples" not in page.text


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_finite(write_run, pages, tmp_path):
    rows = [
        {"step": 1, "split": "train", "loss": 1.0, "grad_norm": 0.0, "seconds": 0.0, "tokens_per_s": math.inf},
        {"step": 2, "split": "train", "loss": math.inf, "grad_norm": math.nan, "seconds": 2.0},
        {"step": 3, "split": "train", "loss": math.nan, "grad_norm": -math.inf, "seconds": None},
        {"step": 2, "split": "validation", "loss": math.nan, "seconds": 2.0},
        {"step": 3, "split": "validation", "loss": -math.inf, "seconds": math.nan},
    ]
    text, _ = pages([write_run(tmp_path / "a", rows=rows), write_run(tmp_path / "b")], tmp_path / "out")
    assert "a: 2 of 3 train values of loss are not finite, first at step 2." in Page(text).text
    (tmp_path / "a" / "results.json").unlink()
    text, _ = pages([tmp_path / "a"], tmp_path / "out")
    assert "No finite validation loss yet." in Page(text).text
    report.figure([tmp_path / "a"], tmp_path / "f.svg")


def test_a_single_line_is_enough(write_run, pages, tmp_path):
    folder = write_run(tmp_path / "a", rows=[{"step": 1, "split": "train", "loss": 2.0}])
    Page(pages([folder], tmp_path / "out")[0])


def test_torn_last_line_is_left_out_and_said(write_run, pages, tmp_path):
    folder = write_run(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1100, "split": "tr')
    run = runs.read_all([folder])[0]
    assert run.torn and run.step == 1000
    assert "incomplete and was left out" in pages([folder], tmp_path / "out")[0]


def test_a_resumed_run_counts_each_step_once(write_run, tmp_path):
    rows = [{"step": s, "split": "train", "loss": float(i), "seconds": i} for i, s in enumerate([1, 2, 3, 4, 2, 3])]
    run = runs.read_all([write_run(tmp_path / "a", rows=rows)])[0]
    assert run.series("train", "loss", "step") == ([1, 2, 3], [0.0, 4.0, 5.0])


def test_higher_is_better_where_it_is(write_run, tmp_path):
    task = {"name": "next_token", "monitor": "accuracy"}
    folders = []
    for name, accuracy in (("low", 0.3), ("high", 0.6)):
        rows = [{"step": s, "split": "validation", "accuracy": accuracy - s / 100, "seconds": s} for s in (1, 2)]
        folders.append(write_run(tmp_path / name, rows=rows, task=task))
        (folders[-1] / "results.json").unlink()
    both = runs.read_all(folders)
    assert both[1].best["step"] == 1
    assert outcome.headline(both) == "high has the highest validation accuracy, 0.5900, ahead of low with 0.2900."
    assert "beats every baseline" in outcome.notes(both)[0]


def test_runs_of_other_problems_are_not_compared(write_run, two, pages, tmp_path):
    other = write_run(tmp_path / "other", final=0.1, data={"name": "copy"})
    page = Page(pages([*two, other], tmp_path / "out")[0])
    assert "gru has the lowest test loss" in page.text and "other reaches a test loss of 0.2500" in page.text
    assert report.figure([*two, other], tmp_path / "f.svg").read_text().count("clipPath") > 4


def test_notes_say_what_limits_the_outcome(write_run, two, tmp_path):
    assert any("more seeds" in note for note in outcome.notes(runs.read_all(two)))
    seeds = [write_run(tmp_path / f"seed{i}", seed=i) for i in range(2)]
    assert not any("more seeds" in note for note in outcome.notes(runs.read_all(seeds)))
    other, again = write_run(tmp_path / "other", name="lstm"), write_run(tmp_path / "again", name="lstm")
    notes = outcome.notes(runs.read_all([*seeds, other, again]))  # the same seed twice is one
    assert any(note.startswith("Only one seed of other and again: only more seeds") for note in notes)
    longer = write_run(tmp_path / "longer", data={"name": "shakespeare", "length": 256})
    (longer / "results.json").unlink()
    notes = " ".join(outcome.notes(runs.read_all([seeds[0], longer])))
    assert "data.length" in notes and "longer has no test result" in notes


def test_results_of_another_step_than_the_best_do_not_decide(write_run, tmp_path):
    """As after more training: what `evaluate` found before is shown, with its step, and said to be old."""
    old, new = (write_run(tmp_path / name, final=final) for name, final in (("old", 1.4), ("new", 1.3)))
    assert outcome.judged_on(runs.read_all([old, new])) == "test"
    rewrite(old / "results.json", test={"step": 500, "metrics": {"loss": 0.1}})
    both = runs.read_all([old, new])
    assert outcome.judged_on(both) == "validation" and outcome.headline(both).startswith("new has the lowest")
    (note,) = (note for note in outcome.notes(both) if "evaluate" in note)
    assert note.startswith("old: the test result is of step 500, but the best checkpoint is of step 1,000: ")


def test_a_metric_that_no_task_declared_has_no_winner(write_run, tmp_path):
    folders = [write_run(tmp_path / name) for name in ("a", "b")]
    for folder, coverage in zip(folders, (0.9, 0.1), strict=True):
        rewrite(folder / "results.json", test={"step": 1000, "metrics": {"loss": 1.0, "coverage": coverage}})
        known = json.loads((folder / "run.json").read_text())["baselines"]
        known["test"]["coverage"] = {"chance": 0.5}
        rewrite(folder / "run.json", baselines=known)
    both = runs.read_all(folders)
    assert outcome.winners(both, "test", "coverage") == [] and not any(
        outcome.beats(run, "test", "coverage", 0.5) for run in both
    )
    assert words.metric("my_score", None) == "my score" and words.metric("my_score", "more") == "my score\u00a0↑"
    table = report.run.tables.results(both)
    (column,) = (i for i, c in enumerate(table.columns) if c.name == "coverage")
    assert [row.cells[column].mark for row in table.rows if row.cells[column].text] == ["", "", ""]
    for folder in folders:
        rewrite(folder / "run.json", metrics={"loss": "less", "coverage": "more"})
    both = runs.read_all(folders)
    assert outcome.winners(both, "test", "coverage") == both[:1]
    assert [outcome.beats(run, "test", "coverage", 0.5) for run in both] == [True, False]


def test_names_stand_in_figures_as_they_are(write_run, tmp_path):
    folder = write_run(tmp_path / "a")
    text = report.figure([folder], tmp_path / "a.svg").read_text()
    ugly = tmp_path / f"b{report.canvas.INK}\ufffe"
    folder.rename(ugly)
    named = report.figure([ugly], tmp_path / "b.svg").read_text()
    html.parser.HTMLParser().feed(named)
    assert report.canvas.INK in named and report.canvas.INK not in text and "\ufffe" not in named
    assert words.clean("a\r\nb\rc") == "a\nb\ufffdc"


def test_names_tell_folders_apart(write_run, tmp_path):
    folders = [write_run(tmp_path / seed / "gru") for seed in ("0", "1")]
    assert [run.name for run in runs.read_all(folders)] == ["0/gru", "1/gru"]


def test_figure_reads_on_white_and_on_dark(two, tmp_path):
    text = report.figure(two, tmp_path / "deep" / "main.svg").read_text()
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>") and "metadata" not in text
    assert "currentColor" not in text and "gru" in text and ">5-gram<" in text

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in {*re.findall("#[0-9a-f]{6}", text), *report.canvas.COLOURS}:
        light = luminance(colour) + 0.05
        assert 1.05 / light >= 3 and light / (luminance("#0d1117") + 0.05) >= 3, colour


def test_long_series_are_drawn_as_means(write_run, tmp_path):
    rows = [{"step": s, "split": "train", "loss": s % 2, "seconds": s} for s in range(10 * report.run.figures.POINTS)]
    run = runs.read_all([write_run(tmp_path / "a", rows=rows)])[0]
    x, y = report.run.figures._points(run, "train", "loss", "step")
    assert len(x) == report.run.figures.POINTS and x[0] == 4.5 and set(y) == {0.5}


def test_styles_of_runs_differ():
    assert len({report.canvas.style(i) for i in range(24)}) == 24


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.5, "1.5000"), (1e-5, "1e-05"), (123456.0, "1.23e+05"), (math.nan, "NaN"), (-math.inf, "−∞")],
)
def test_numbers(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(59.4, "59.4 s"), (125, "2 min 05 s"), (7260, "2 h 01 min")])
def test_durations(value, text):
    assert words.seconds(value) == text
