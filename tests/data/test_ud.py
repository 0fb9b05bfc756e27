"""Words and tags of a treebank."""

import pytest

from seqjax.data import ud
from seqjax.data._vocabulary import RARE, Vocabulary, signatures
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


def test_rare_words_are_read_as_signatures(tmp_path, write_treebank):
    write_treebank(tmp_path)
    source = ud.Source(dir=str(tmp_path), treebank="ud_toy", signatures=True)
    assert source.words == (RARE, "The", "dog", "runs", "the", f"{RARE}x:")  # the: thrice, whatever its case
    read = lambda text: source.decode(source.encode(text)).split()
    assert read("The the THE Dog") == ["The", "the", "the", "dog"]
    assert read("cat birds Cat 9  ") == [f"{RARE}x:", f"{RARE}x:", RARE, RARE, RARE, RARE]
    assert source.decode(source.example("validation", 0)["tokens"]).split() == read("the cat sees the dog")


def test_a_signature_is_as_specific_as_train_allows():
    train = ["walking", "talking", "singing", "Bonn", "Bern", "IBM", "X-9", "is", "is"]
    known = Vocabulary(train, min_count=2, signed=True)
    assert known.words == (RARE, "is", *(f"{RARE}{name}" for name in ("Xx:n", "x:ing", "x:king")))
    read = {"asking": "x:king", "ring": "x:ing", "Dan": "Xx:n", "Is": "is", "run": "", "IBM": "", "iPad": ""}
    assert {word: known.words[known[word]].removeprefix(RARE) for word in read} == read
    assert [len(signatures(word)) for word in ("walking", "is", "")] == [5, 3, 1]
    kinds = {"IBM": "X", "Bonn": "Xx", "is": "x", "iPad": "xX", "X-9": "X9-", "mp3": "x9", "...": ""}
    assert {word: signatures(word)[-1] for word in kinds} == {word: f"{RARE}{kind}:" for word, kind in kinds.items()}


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
