"""Words and tags of a treebank."""

import pytest

from seqjax.data import ud
from seqjax.types import DataError


def test_words_characters_and_tags(tmp_path, write_treebank):
    write_treebank(tmp_path)
    source = ud.Source(dir=str(tmp_path), treebank="ud_toy", word_length=4)
    assert source.words == ("\N{REPLACEMENT CHARACTER}", "dog", "runs", "the")  # twice or more in train, in lower case
    assert source.classes == ("ADV", "DET", "NOUN", "VERB")
    example = source.example("validation", 0)  # the cat sees the dog
    assert source.decode(example["tokens"]) == "the \N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER} the dog"
    assert [source.classes[i] for i in example["tags"]] == ["DET", "NOUN", "VERB", "DET", "NOUN"]
    assert not example["unknown"].any()
    characters = lambda split, i: source.example(split, i)["characters"]
    assert (characters("train", 0)[0] == characters("train", 2)[0]).all() and characters("train", 0)[0, 3] == 0  # The
    long, runs = characters("train", 2)[3], characters("train", 0)[2]  # unbelievably: its first and its last half
    assert (long[:2] == runs[1:3]).all() and long[3] == source.spec.fields["characters"].size - 1  # y is rare
    assert len(characters("train", 0)) == 3 and source.spec.lengths == {"L": 5}


def test_a_word_that_train_lacks_is_unknown(tmp_path, write_treebank):
    write_treebank(tmp_path)
    source = ud.Source(dir=str(tmp_path), treebank="ud_toy")
    assert source.example("test", 0)["unknown"].tolist() == [False, False, False, True, False]
    # NOUN is the most frequent tag of train.
    assert source.baselines("test") == {
        "accuracy": {"most frequent tag": 1.0},
        "unknown_accuracy": {"most frequent tag": 1.0},
    }


def test_broken_files(tmp_path, write_treebank):
    build = lambda: ud.Source(dir=str(tmp_path), treebank="ud_toy")
    file = write_treebank(tmp_path) / "toy-ud-dev.conllu"
    text = file.read_text()
    for broken, words in (
        (text.replace("VERB", "AUX"), "line 5: validation has the tag 'AUX', which is not in train"),
        (text.replace("\tcat", " cat"), "line 4: got 9 columns, wanted the 10 of CoNLL-U"),
        (text.replace("NOUN", "_"), "line 4: the word 'cat' has no tag in column 3"),
        ("# nothing\n", "has no sentence"),
    ):
        file.write_text(broken)
        with pytest.raises(DataError, match=words):
            build()
    file.unlink()
    with pytest.raises(DataError, match="no file matches"):
        build()
