"""What `seqjax generate` begins with."""

import types

import pytest

from seqjax.data import Loader, copy, reverse, table, text
from seqjax.decoding.sample import Sample
from seqjax.samples import answers, opening, texts
from seqjax.tasks.next_token import NextToken
from seqjax.types import ConfigError


@pytest.mark.parametrize(("words", "prompt"), [("ab\nc" * 20, "\n"), ("cab" * 20, "c")])
@pytest.mark.parametrize("kind", ["text", "table"])
def test_a_text_without_new_lines_begins_as_its_training_does(tmp_path, kind, words, prompt):
    file = tmp_path / "a.csv"
    if kind == "text":
        file.write_text(words)
        source = text.Source(path=str(file), length=4, validation=0.0, test=0.0)
        first = source.decode(source.example("train", 0)["tokens"])[0]
    else:
        file.write_text(f'words\n"{words}"\n')
        source, first = table.Source(train=str(file), text="words"), words[0]
    assert opening(source) == (first if prompt != "\n" else "\n")
    source.encode(opening(source))


def test_more_answers_than_examples_are_refused():
    """Before a batch of them is made."""
    source = reverse.Source(examples=5)
    parts = dict(
        source=source, loader=Loader(), task=NextToken(spec=source.spec), model=types.SimpleNamespace(step=None)
    )
    trained = types.SimpleNamespace(experiment=types.SimpleNamespace(**parts), layout=None)
    with pytest.raises(ConfigError, match=r"'validation' has 5 examples, asked for 2,000,000,000:"):
        answers(trained, Sample, tokens=None, samples=2 * 10**9, seed=0)


def test_a_broken_model_is_not_taken_for_a_source_without_text(tmp_path):
    def init_state(rows):
        raise NotImplementedError("later")

    (tmp_path / "a.txt").write_text("ab" * 20)
    source = text.Source(path=str(tmp_path / "a.txt"), length=4, validation=0.0, test=0.0)
    experiment = types.SimpleNamespace(source=source, model=types.SimpleNamespace(init_state=init_state, step=None))
    with pytest.raises(NotImplementedError, match="later"):
        texts(types.SimpleNamespace(experiment=experiment), Sample, "a")


def test_what_is_no_text_is_left_to_say_so():
    assert opening(copy.Source()) == "\n"
