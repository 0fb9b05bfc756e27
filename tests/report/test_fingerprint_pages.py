"""The pages of fingerprints: self-contained, whole, honest about what is missing, and the same every time."""

import re
import shlex

import launch
import pytest
from test_report import Page

from seqjax import cli
from seqjax.report import fingerprint, style
from seqjax.report.fingerprint import measured as fingerprint_measured
from seqjax.report.fingerprint import sentences as fingerprint_words
from seqjax.report.fingerprint import tables as fingerprint_tables
from seqjax.search.fingerprint.tiers import TIERS
from seqjax.types import WorkdirError

TIER = TIERS["cpu"]


def tree(mixer, accuracy=0.75, seeds=1, **changes):
    """A fingerprint in which every probe scores the same, and one seed a little more than the other."""
    probes = {}
    for probe in TIER.probes:
        scores = [
            {
                "factor": factor,
                "length": probe.length(factor),
                "accuracy": [accuracy / factor + 0.01 * seed for seed in range(seeds)],
                "exact_match": [0.5] * seeds,
                "chance": 0.25,
                "tokens": 40 * factor,
            }
            for factor in probe.factors
        ]
        probes[probe.name] = {
            "about": probe.about,
            "data": probe.data,
            "steps": probe.steps,
            "seeds": seeds,
            "peak": 3e-3,
            "config": launch.tiny(),
            "rates": {"0.003": accuracy, "0.01": None},
            "runs": [f"{probe.name}/peak-0.003-seed-{seed}" for seed in range(seeds)],
            "diverged": 0,
            "scores": scores,
        }
    cost = {"train_s": 2e-3, "prefill_s": 5e-4, "decode_s": 3e-5, "train_bytes": 3 * 2**20, "prefill_bytes": 2**18}
    return {
        "name": mixer,
        "mixer": mixer,
        "overrides": [],
        "tier": "cpu",
        "model": {"name": "stack", "layers": 2, "width": 64, "mixer": {"name": mixer}},
        "parameters": 123_456,
        "rows": 1,
        "hardware": {"platform": "cpu", "device_kind": "cpu"},
        "versions": {"jax": "0.10.2"},
        "git": "abc",
        "probes": probes,
        "costs": {str(length): {**cost, "state_bytes": length} for length in TIER.lengths},
    } | changes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of two mixers' pages."""
    folder = tmp_path_factory.mktemp("pages")
    path = fingerprint.write(folder, [tree("gru", 0.98, seeds=2), tree("attention")])
    assert path == folder / "index.html"
    return folder


def test_pages_need_nothing_from_elsewhere(written):
    assert sorted(f.name for f in written.iterdir()) == [
        f"{name}.{kind}" for name in ("attention", "gru", "index") for kind in ("html", "md")
    ]
    for file in written.glob("*.html"):
        text = file.read_text()
        page = Page(text)
        assert not {"link", "script", "img", "iframe", "object", "embed", "image"} & set(page.tags)
        assert "://" not in text and "@import" not in text
        ids = [value for name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        used = [v[1:] for n, v in page.attributes if n == "href"] + [
            v[5:-1] for n, v in page.attributes if n == "clip-path"
        ]
        assert used and set(used) <= set(ids)


def test_the_page_of_a_mixer_holds_what_was_measured(written):
    text, markdown = (written / "gru.html").read_text(), (written / "gru.md").read_text()
    for found in (Page(text).text, markdown):
        for wanted in ("selective copy", "0.2500", "0.9850", "0.980 to 0.990", "0.98", "3 MiB", "30 µs", "4,096"):
            assert wanted in found, wanted
        assert "seqjax train --config gru/parity/peak-0.003-seed-1/config.json --workdir NEW" in found
        assert "gru solves recall, copy, selective copy, parity, modular addition, s5 and dyck." in found
    assert text.count("<svg") >= 4 and '"mixer"' in Page(text).text


def test_all_stand_side_by_side(written):
    text, markdown = (written / "index.html").read_text(), (written / "index.md").read_text()
    page = Page(text)
    for found in (page.text, markdown):
        for wanted in ("gru", "attention", "modular addition", "0.7500", "0.9850", "times the trained length"):
            assert wanted in found, wanted
    assert "heat10" in text and "heat7" in text
    small = sum(len(probe.factors) > 1 for probe in TIER.probes)
    panels = [value for name, value in page.attributes if name == "aria-label" and "against length" in value]
    assert len(panels) == small + len(fingerprint_tables.COSTS)
    assert all("attention and gru" in label for label in panels)


def test_the_same_fingerprints_give_the_same_bytes(written, tmp_path):
    fingerprint.write(tmp_path, [tree("attention"), tree("gru", 0.98, seeds=2)])
    for file in written.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("accuracy", "chance", "skill"), [(1, 0.25, 1), (0.25, 0.25, 0), (0.625, 0.25, 0.5), (0, 0.5, -1), (1, 1, None)]
)
def test_skill_is_what_is_left_above_chance(accuracy, chance, skill):
    found = tree("gru", accuracy)
    for record in found["probes"].values():
        for score in record["scores"]:
            score["chance"] = chance
    (mark,) = fingerprint_measured.read([found])
    assert mark.skill("parity") == skill


def test_commands_can_be_typed():
    found = tree("gru", name="a b", overrides=["model.mixer.reset_after=false"])
    (mark,) = fingerprint_measured.read([found])
    first, *runs = (shlex.split(line) for line in fingerprint_words.commands(mark))
    args, rest = cli._parser().parse_known_args(first[1:])
    assert args.mixer == ["gru"] and args.name == "a b" and args.tier == "cpu" and args.seeds == 1
    assert rest == ["--config.model.mixer.reset_after=false"]
    assert [run[3] for run in runs] == [f"a b/{p.name}/peak-0.003-seed-0/config.json" for p in TIER.probes]


def test_what_is_missing_is_shown_as_missing(tmp_path):
    found = tree("gru", name="a <b>&'$x$ | d")
    found["probes"]["parity"] |= {"peak": None, "scores": [], "runs": [], "diverged": 1}
    found["probes"]["copy"]["scores"][1] |= {"accuracy": [], "error": "positions <end>"}
    found["costs"] = {}
    fingerprint.write(tmp_path, [found, tree("lstm", tier="gpu", hardware={"platform": "gpu", "device_kind": "X"})])
    text = (tmp_path / "index.html").read_text()
    assert "<b>" not in text and "the probes are not the same" in text and "The hardware differs" in text
    (name,) = (f for f in tmp_path.glob("a*.html"))
    page = Page(name.read_text())
    assert "does not learn parity" in page.text and "positions <end>" in page.text
    assert "1 of 1 seeds diverged" in page.text and "no score" in page.text


def test_half_a_fingerprint_is_refused(tmp_path):
    found = tree("gru")
    del found["costs"]
    with pytest.raises(WorkdirError, match=r"lacks costs: .*measure it again"):
        fingerprint.write(tmp_path, [found])


def test_shades_are_legible_on_white_and_on_black():
    shades = re.findall(r"\.heat\d+ \{ background: rgb\(11 122 209 / ([\d.]+)\)", style.STYLE)
    assert len(shades) == 10 and [float(s) for s in shades] == sorted(map(float, shades)) and float(shades[-1]) <= 0.5
