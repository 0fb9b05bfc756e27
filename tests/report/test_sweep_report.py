"""The report of a sweep: the same content as page, markdown and csv; errors shown; the same trials, the same bytes."""

import csv
import dataclasses
import html.parser
import re
import xml.etree.ElementTree as ET

import pytest

from seqjax.report import canvas, sweep
from seqjax.report.html import Html
from seqjax.search._records import Record, Summary

BAD = "model: <heads=3> does not | divide `width`"


def record(number, peak, status="done", value=None, **more) -> Record:
    params = {
        "optim.learning_rate": peak,
        "model.mixer": ["gru", "attention"][number % 2],
        "model.layers": 1 + number % 3,
    }
    if number % 2:
        params["model.mixer(attention).heads"] = 2
    return Record(number, status, params, value, seconds=60.0 + number, **more)


@pytest.fixture
def summary(tmp_path):
    records = [
        record(0, 0.1, value=1.5, curve={10: 2.0, 20: 1.5}),
        record(1, 0.01, value=0.75, parts=[0.5, 1.0], curve={10: 1.0, 20: 0.75}),
        record(2, 0.5, "failed", error=BAD),
        record(3, 0.9, "pruned", curve={10: 9.0}),
        record(4, 0.02, value=0.8),
        record(5, 0.03, "running"),
    ]
    shares = {"optim.learning_rate": 0.8, "model.layers": 0.2}
    problem = "next_token on <b>copy</b>, judged by loss"
    return Summary(
        tmp_path, problem, "loss", "less", "sampler tpe, pruner none", records, shares, {"optim.learning_rate"}
    )


class Page(html.parser.HTMLParser):
    """Every tag that is opened is closed; keeps the text and what hangs from attributes."""

    VOID = {"meta", "path", "circle", "use", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.stack, self.text, self.cells = [], "", []
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.stack.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        assert not [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.stack.pop() == tag, tag

    def handle_data(self, data):
        self.text += data
        if self.stack and {"td", "th"} & set(self.stack):
            self.cells[-1] += data


def test_the_page_is_whole_and_says_it_all(summary):
    path = sweep.write(summary)
    assert path == summary.folder / "sweep.html"
    page = Page(path.read_text())
    best = (
        "Trial 1 has the lowest validation loss, 0.7500 ± 0.3536: optim.learning_rate = 0.01, model.mixer = attention"
    )
    assert best in page.text.replace("\u00a0", " ")
    for words in ("6 trials: 3 done, 1 pruned, 1 failed, 1 running", "next_token on <b>copy</b>", BAD, "fANOVA",
                  "best.json", "judge it on the test split"):  # fmt: skip
        assert words in page.text, words
    assert page.cells.count("0.7500± 0.3536") == 1 and page.cells.count(BAD) == 1
    pictures = re.findall(r"<svg role=.*?</svg>", path.read_text(), re.DOTALL)
    labels = [ET.fromstring(p.replace(" href=", " data-href=")).attrib["aria-label"] for p in pictures]
    assert labels == [
        "loss of every trial, and the best so far",
        "loss of every trial while it trained",
        "Importance of each parameter",
        *(f"loss against {name}" for name in summary.params),
    ]


def test_numbers_are_as_short_as_they_are_read(summary):
    """Ticks are text, also on logarithmic axes of little range; a value in the headline has four digits."""
    values = ((0, 0.0145344867321581, 40.0), (1, 0.012, 0.5), (2, 0.013, 1.0))
    records = [record(number, peak, value=value) for number, peak, value in values]
    text = Html().join(sweep.page(dataclasses.replace(summary, records=records)))
    ticks = set(re.findall(r"<text[^>]*>([^<]*)</text>", text))
    assert "mathdefault" not in text and {"1", "10", "0.012", "0.013"} <= ticks
    best = dataclasses.replace(summary, records=[record(0, 0.0145344867321581, value=1.0)])
    assert "optim.learning_rate\u00a0=\u00a00.01453, " in sweep.headline(best)
    assert sweep.notes(best)[0].startswith("1 trial: 1 done. ") and "Marks at the edge" not in Html().join(
        sweep.page(best)
    )
    assert "Marks at the edge: pruned (|) and failed (x)." in Html().join(sweep.page(summary))


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1.0), (2e-3, 9e-2), (2e-3, 9e-3), (0.0115, 0.0132), (3.0, 3.1)])
def test_a_logarithmic_axis_has_ticks_to_read(low, high):
    with canvas.drawing("test"):
        _, (axes,) = canvas.figure(1)
        axes.plot([low, high], [low, high])
        for which in ("x", "y"):
            canvas.logarithmic(axes, which)
            axis, (left, right) = getattr(axes, f"{which}axis"), getattr(axes, f"get_{which}lim")()
            ticks = [t for t in axis.get_majorticklocs() if left <= t <= right]
            assert 2 <= len(ticks) <= 12, ticks
            labels = axis.get_major_formatter().format_ticks(ticks)
            assert [float(label) for label in labels] == pytest.approx(ticks)
            assert not any(axis.get_minor_formatter().format_ticks(axis.get_minorticklocs()))


def test_markdown_has_a_row_for_each_trial(summary):
    sweep.write(summary)
    text = (summary.folder / "sweep.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in lines[-8:]}
    assert len(widths) == 1 and len(lines) == 2 + 2 + 2 + 6
    assert "**0.7500** (± 0.3536)" in text and r"\<heads=3\> does not \| divide \`width\`" in text


def test_csv_reads_back(summary):
    sweep.write(summary)
    rows = list(csv.DictReader((summary.folder / "trials.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == [r.status for r in summary.records]
    assert float(rows[1]["value"]) == 0.75 and float(rows[1]["spread"]) == summary.records[1].spread
    assert rows[2]["error"] == BAD and rows[2]["value"] == "" and rows[0]["model.mixer(attention).heads"] == ""
    assert [float(row["optim.learning_rate"]) for row in rows] == [
        r.params["optim.learning_rate"] for r in summary.records
    ]


def test_the_same_trials_give_the_same_bytes(summary):
    read = lambda: [(summary.folder / name).read_bytes() for name in ("sweep.html", "sweep.md", "trials.csv")]
    sweep.write(summary)
    first = read()
    sweep.write(summary)
    assert read() == first


@pytest.mark.parametrize("count", [0, 1])
def test_a_sweep_with_little_to_show(summary, count):
    """No trial, or only one that failed: no figures, and no best."""
    few = dataclasses.replace(summary, records=summary.records[2 : 2 + count], importances={})
    page = Page(sweep.write(few).read_text())
    assert "No trial is done yet." in page.text and "Train the best" not in page.text
    assert (BAD in page.text) == bool(count)


def test_higher_is_better_where_it_is(summary):
    up = dataclasses.replace(summary, monitor="accuracy", way="more")
    assert sweep.headline(up).startswith("Trial 0 has the highest validation accuracy, 1.5000:")
