"""`seqjax laws`: what it prints, its exit codes, and what training is told of a mixer that it has never seen pass."""

import launch
import pytest

from seqjax.testing import record
from seqjax.training.experiment import resolve

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "folder", lambda: tmp_path / "laws")
    return tmp_path / "laws"


def passes(folder):
    return sorted(file.read_text() for file in folder.glob("*"))


def told(caplog, *models):
    caplog.clear()
    record.warn(models)
    return [entry.getMessage() for entry in caplog.records if entry.name == record.__name__]


def model(**mixer):
    return resolve(launch.tiny() | {"model": {**launch.TINY["model"], "mixer": mixer}})["model"]


def test_what_breaks_a_law_ends_with_1_and_a_report(folder):
    outcome = launch.main("laws", "mistakes:Deaf", "--width", "4")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == "seqjax: mistakes:Deaf breaks 1 of 17 laws: resets."
    for words in ("  BROKEN          resets  ", "  held            padding  ", "  not checked     packing  ",
                  "row 11  xxRxRx\n                ^^^^   first at token 2, feature ", "- reset_BL is not read",
                  "R real, a new document starts here"):  # fmt: skip
        assert words in outcome.out, words
    assert passes(folder) == []


def test_what_holds_them_ends_with_0_and_is_remembered(folder, caplog, tmp_path):
    right = model(name="mistakes:Right", dropout=0.25)
    (line,) = told(caplog, right, right)
    command = "seqjax laws mistakes:Right --config.model.mixer.dropout=0.25"
    assert line.startswith("mistakes:Right was never held against the laws") and line.endswith(f"run {command}")
    outcome = launch.main(*command.split()[1:], "--width", "4")
    assert outcome.code == 0 and not outcome.err
    assert "mistakes:Right holds all 17 laws that apply to it" in outcome.out
    assert "does not apply  full-cache     its state holds any number of tokens" in outcome.out
    assert passes(folder) == [f"{command}\n"] and told(caplog, right) == []
    assert len(told(caplog, right, model(name="mistakes:Right"))) == 1, "of another form nothing is known"


def test_training_says_it_once_and_goes_on(caplog, tmp_path):
    file = launch.write(tmp_path / "c.json", launch.tiny("model.mixer=mistakes:Right", "train.steps=1"))
    outcome = launch.main("train", "--config", file, "--workdir", tmp_path / "run")
    said = [entry for entry in caplog.records if "was never held against the laws" in entry.getMessage()]
    assert outcome.code == 0 and len(said) == 1 and said[0].levelname == "WARNING"


def test_no_word_of_mixers_of_seqjax_and_one_of_those_within_them(caplog):
    assert told(caplog, model(name="gru"), model(name="stacked", mixer="lstm")) == []
    (line,) = told(caplog, model(name="stacked", mixer={"name": "mistakes:Right"}))
    assert line.endswith("run seqjax laws mistakes:Right")


def test_another_source_is_another_form(caplog, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "forms_of_mine.py"
    file.write_text("from seqjax.mixers.gru import GRU\n\nclass Mine(GRU):\n    pass\n")
    mine = model(name="forms_of_mine:Mine")
    record.remember(mine["mixer"])
    assert told(caplog, mine) == []
    file.write_text(file.read_text() + "\n# changed\n")
    assert len(told(caplog, mine)) == 1
    file.unlink()
    assert len(told(caplog, mine)) == 1, "what cannot be read is not known"
    record.remember(mine["mixer"])
    assert len(told(caplog, mine)) == 1


def test_a_folder_that_cannot_be_written_is_no_error(caplog, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(record, "folder", lambda: tmp_path / "file" / "laws")
    record.remember(record.resolve("mistakes:Right"))
    assert "cannot write to" in caplog.text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("gruu",), "Did you mean 'gru'?"),
        (("mistakes:Rihgt",), "Did you mean 'Right'?"),
        (("gru", "--config.model.mixer.heads=2"), "model.mixer.heads is not a key."),
        (("gru", "--config.optim.learning_rate=1"), "optim is not a key."),
        (("gru", "--heads", "2"), "Did you mean --config.model.mixer.heads=2?"),
        (("attention", "--config.model.mixer.heads=3"), "heads=3 does not divide model.width=8"),
        (("attention", "--config.model.mixer.heads=3"), "The laws build it with width 8: see --width."),
        (("gru", "--dtype", "float64"), "got 'float64', wanted one of 'float32'"),
        ((), "the following arguments are required: NAME"),
    ],
)
def test_what_cannot_be_held_is_a_sentence(words, hint):
    outcome = launch.main("laws", *words)
    assert outcome.code == 2 and hint in outcome.err, outcome


def test_an_error_of_the_mixer_ends_with_1_and_its_code():
    outcome = launch.main("laws", "mistakes:Raising")
    assert outcome.code == 1 and outcome.err.splitlines()[-1].startswith("seqjax: mistakes:Raising breaks 1 of ")
    assert "it raised KeyError: 'no mask, please'" in outcome.out and "mistakes.py" in outcome.out
