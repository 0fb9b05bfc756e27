"""What `seqjax generate` begins with."""

import pytest

from seqjax.data import copy, table, text
from seqjax.decoding.show import opening


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


def test_what_is_no_text_is_left_to_say_so():
    assert opening(copy.Source()) == "\n"
