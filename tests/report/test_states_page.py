"""The hidden states of a run in its report, in both renderers."""

import json
import re
import xml.etree.ElementTree as xml

import launch
import pytest
from test_report import Page

from seqjax.report import canvas


def states(K=3, name="", **changes):
    """A chain that moves on; it reads letters."""
    stay = [0.75, 0.5, 1.0, *[0.9] * K][:K]
    moves = [[p if j == k else (1 - p if j == (k + 1) % K else 0.0) for j in range(K)] for k, p in enumerate(stay)]
    entry = dict(
        name=name,
        states=[f"s{k}" for k in range(K)],
        emits=[f"e<{k}> {k + 10}%" for k in range(K)],
        total=K,
        split="validation",
        step=1000,
        unit="letter",
        start=[1.0, *[0.0] * (K - 1)],
        transition=moves,
        share=[0.125] * K,
        visits=[[0, 2, 2], [4, 0, 0], *[[0, 0, 0]] * (K - 2)],
        posterior=[[1.0, 0.96, 0.3, 0.0], [0.0, 0.04, 0.7, 1.0], *[[0.0] * 4] * (K - 2)],
        path=[0, 0, 1, -1],
        tokens=["a", "</svg>", "' '", "b"],
    )
    return entry | changes


def page(write_run, pages, folder, *entries):
    run = write_run(folder / "run")
    (run / "states.json").write_text(json.dumps(entries))
    html, markdown = pages([run], folder / "out")
    return html, html[html.index("<h2>Hidden states of run") : html.index("<h2>Samples")], markdown


def test_few_states_are_tables_of_numbers_and_figures(write_run, pages, tmp_path):
    whole, html, markdown = page(write_run, pages, tmp_path, states())
    text = Page(whole).text
    assert "At step 1,000. Shares, visits and examples are those of the most probable paths in validation." in text
    for row in ("s0 12.5% 2.5 4 e<0> 10%", "s1 12.5% 1 2 e<1> 11%", "s2 12.5% – ∞ e<2> 12%"):
        assert row in text, row
        assert "| " + " | ".join(row.split(" ", 4)).replace("<", r"\<").replace(">", r"\>") + " |" in markdown
    for row in ("start | 1.00 |  |  |", "s0 | 0.75 | 0.25 |  |", "s2 |  |  | 1.00 |"):
        assert f"| {row}" in markdown
    assert re.search(r'<td class="[^"]*heat8[^"]*">0.75</td>', html)
    assert html.count("<svg") == 2 and "svg" not in markdown
    labels = re.findall(r'<svg role="img" aria-label="([^"]*)"', html)
    assert labels == ["Lengths of visits", "Posterior of the states in an example"]
    assert "&lt;/svg&gt;" in html and "beneath: the letters" in html


def test_many_states_are_an_image_and_classes_fold(write_run, pages, tmp_path):
    frames = dict(tokens=[], frames=[[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    _, html, markdown = page(write_run, pages, tmp_path, states(12, "yes", total=1024), states(12, "no", **frames))
    assert html.count("<svg") == 6 and "p(next state | state), class yes" in html and ">start<" not in html
    assert "The most frequent 12 of 1,024 states" in html
    assert "<h3>Class yes</h3>" in html and "<summary>Class no</summary>" in html and "### Class yes" in markdown
    first, second = html.split("<summary>Class no</summary>")
    assert canvas.COLOURS[1] not in first and canvas.COLOURS[1] in second and "beneath: the features, blue" in second


def test_a_mixture_has_no_moves(write_run, pages, tmp_path):
    plain = {key: states(1)[key] for key in ("name", "states", "emits", "total", "split", "step", "unit")}
    _, html, markdown = page(write_run, pages, tmp_path, plain)
    assert "<svg" not in html and "share" not in html and r"| s0 | e\<0\> 10% |" in markdown


def test_cells_are_where_values_are():
    """Each rectangle of a figure with a scale of one: where it begins, how wide it is, and how dark."""
    drawn = []

    class Axes:
        add_patch = drawn.append
        grid = staticmethod(bool)

    canvas.cells(Axes, [[0.0, 0.51, 0.49, 1.0], [-2.0, 0.04, 0.0, 0.0]], x=0, y=0, height=2)
    found = {}
    for patch in drawn:
        corners = patch.get_path().vertices.reshape(-1, 5, 2)
        for (left, top), right in zip(corners[:, 0], corners[:, 1, 0], strict=True):
            found[left, top] = (right - left, patch.get_alpha(), patch.get_facecolor()[:3])
    blue, orange = ((11 / 255, 122 / 255, 209 / 255), (213 / 255, 94 / 255, 0))
    assert found == {
        (1.0, 0.0): (2.0, 0.5, pytest.approx(blue)),
        (3.0, 0.0): (1.0, 1.0, pytest.approx(blue)),
        (0.0, 2.0): (1.0, 1.0, pytest.approx(orange)),
    }


def test_the_report_of_a_run_shows_its_states(tmp_path):
    """From the command to the page."""
    tree = launch.tiny("train.steps=2", "loader.batch_size=8") | {"optim": {}, "learner": "em", "evaluators": "states"}
    tree["model"] = {"name": "hmm", "states": 3}
    config = launch.write(tmp_path / "c.json", tree)
    assert launch.main("train", "--config", config, "--workdir", tmp_path / "run").code == 0
    assert launch.main("report", tmp_path / "run").code == 0
    html = (tmp_path / "run" / "report.html").read_text()
    section = html[html.index("<h2>Hidden states of run") :]
    for svg in re.findall(r"<svg.*?</svg>", section, flags=re.DOTALL):
        xml.fromstring(re.sub(r"<svg ", '<svg xmlns:xlink="x" ', svg))
    assert "Posterior of the states" in section and "Hidden states of run" in (tmp_path / "run/report.md").read_text()
