"""Tokenizers: what each of them promises, and each beside a short loop."""

import collections
import dataclasses
import itertools
import json
import pickle
import random

import numpy as np
import pytest

from seqjax import lookup
from seqjax.tokenizers import SPECIAL, Tokenizer
from seqjax.tokenizers.bpe import FIRST, Bpe
from seqjax.tokenizers.unigram import Unigram
from seqjax.tokenizers.word import Word
from seqjax.tokenizers.wordpiece import WordPiece
from seqjax.types import ConfigError, DataError

NAMES = lookup.names("seqjax.tokenizers")
OPTIONS = {"bpe": {"vocabulary": 400}, "unigram": {"vocabulary": 330}, "wordpiece": {"vocabulary": 150}}
LEARNT = ["bpe", "unigram", "word", "wordpiece"]


def prose(seed: int, words: int = 3000) -> str:
    """Text of made-up words, some far more frequent than others."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    known = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(200)]
    found = draw.choices(known, weights=[1 / (i + 1) for i in range(200)], k=words)
    return "".join(word + draw.choice([" "] * 8 + [", ", ".\n"]) for word in found)


def wild(seed: int, characters: int) -> str:
    """Characters from all of Unicode, half of them ASCII."""
    draw = random.Random(seed)
    points = [
        draw.choice([draw.randrange(0x80), draw.randrange(0x3000), draw.randrange(0x110000)]) for _ in range(characters)
    ]
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


def made(name: str) -> Tokenizer:
    return lookup.find(name, "seqjax.tokenizers", "Tokenizer")(**OPTIONS.get(name, {}))


@pytest.fixture(scope="module")
def trained():
    """Name -> that tokenizer, trained on the same text."""
    return {name: made(name).train([prose(0), wild(0, 50)]) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_file_gives_the_same_ids_and_training_again_the_same_file(trained, name):
    first, text = trained[name], prose(1, 300)
    again, loaded = made(name).train([prose(0), wild(0, 50)]), made(name).load(first.content)
    assert again.content == first.content and loaded.content == first.content and len(first.name) == 16
    copies = [again, loaded, pickle.loads(pickle.dumps(first))]
    for other in copies:
        assert other.size == first.size and other.name == first.name
        np.testing.assert_array_equal(other.encode(text), first.encode(text))
    assert made(name).train([prose(2)]).name != first.name or not first.learnt


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_int32_and_below_the_size(trained, name):
    tokenizer = trained[name]
    for text in ("", "a", prose(3, 100)):
        ids_L = tokenizer.encode(text)
        assert ids_L.dtype == np.int32 and ids_L.ndim == 1
        assert not len(ids_L) or (ids_L.min() >= 0 and ids_L.max() < tokenizer.size)
    assert len(tokenizer.encode("")) == 0 and tokenizer.decode(np.zeros(0, int)) == ""
    for wrong in (-1, tokenizer.size):
        with pytest.raises(
            DataError, match=f"id {wrong} is not a token: this tokenizer has the ids 0 to {tokenizer.size - 1}"
        ):
            tokenizer.decode([0, wrong])


@pytest.mark.parametrize("name", NAMES)
def test_many_texts_at_once_are_each_by_itself(trained, name):
    texts = [prose(seed, 20) for seed in range(5)]
    for ids_L, text in zip(trained[name].encode_all(texts, texts), texts, strict=True):
        np.testing.assert_array_equal(ids_L, trained[name].encode(text))


@pytest.mark.parametrize("name", NAMES)
def test_spans_are_the_places_of_tokens_in_the_text(trained, name):
    tokenizer, text = trained[name], prose(4, 200)
    ids_L, spans_L2, words_L = tokenizer.align(text)
    np.testing.assert_array_equal(ids_L, tokenizer.encode(text))
    assert words_L is None and spans_L2.shape == (len(ids_L), 2)
    parts = [text[begin:end] for begin, end in spans_L2]
    if tokenizer.exact:  # nothing is lost between tokens
        assert "".join(parts) == text
    else:
        assert "".join(parts).split() == "".join(text.replace("\n", "\n" * (name == "word")).split(" ")).split()
    for token, part in zip(ids_L, parts, strict=True):
        assert token == SPECIAL["unk"] or tokenizer.decode([token]).removeprefix("##") == part


@pytest.mark.parametrize("name", [n for n in NAMES if lookup.find(n, "seqjax.tokenizers", "Tokenizer").exact])
def test_text_comes_back_unchanged(trained, name):
    texts = [prose(5, 50), " ba  bu\n\n,du "]
    if name != "character":  # which knows only the characters that it has seen
        texts += [wild(seed, 60) for seed in range(40)] + [
            "\0",
            "\ufeff",
            "e\u0301 \u00e9",
            "\u2581 _\u2581",
            "ﬁ",
            "🙂👩‍👩‍👧",
        ]
    for text in texts:
        assert trained[name].decode(trained[name].encode(text)) == text


@pytest.mark.parametrize("name", ["byte", "bpe", "unigram"])
def test_spans_of_parts_of_characters_are_the_whole_character(trained, name):
    for text in ("é€🙂", wild(7, 80)):
        ids_L, spans_L2, _ = trained[name].align(text)
        lengths = [len(bytes_of(trained[name], token)) for token in ids_L]
        ends = np.cumsum(lengths)
        byte_of = [0, *np.cumsum([len(c.encode()) for c in text])]  # where each character begins
        for (begin, end), last, length in zip(spans_L2, ends, lengths, strict=True):
            assert byte_of[begin] <= last - length < byte_of[begin + 1]  # the character of its first byte
            assert end == sum(at < last for at in byte_of[:-1])  # up to the character of its last byte


def bytes_of(tokenizer, token) -> bytes:
    return bytes([token]) if tokenizer.size == 256 else tokenizer._shown[token]


@pytest.mark.parametrize("name", LEARNT)
def test_special_tokens_are_fixed_and_cannot_be_written(trained, name):
    tokenizer = trained[name]
    assert tokenizer.special == {"pad": 0, "unk": 1, "bos": 2, "eos": 3, "mask": 4, "sep": 5}
    written = "<pad> <unk> <bos> <eos> <mask> <sep> <s> </s> [PAD] [UNK] [CLS] [MASK] <|endoftext|> <0x00> ##a"
    retrained = made(name).train([prose(0), written * 20])
    for one in (tokenizer, retrained):
        found = set(one.encode(written).tolist()) & set(SPECIAL.values())
        assert found <= ({SPECIAL["unk"]} if not one.exact else set())
    if tokenizer.exact:
        assert retrained.decode(retrained.encode(written)) == written
    assert tokenizer.decode([0, 4, 3]).replace(" ", "") == "<pad><mask><eos>"


@pytest.mark.parametrize("name", NAMES)
def test_words_that_are_given_keep_their_numbers(trained, name):
    tokenizer, words = trained[name], prose(8, 12).replace("\n", " ").split()
    ids_L, spans_L2, words_L = tokenizer.words(words)
    assert sorted(set(words_L.tolist())) == list(range(len(words))) and (np.diff(words_L) >= 0).all()
    joined = collections.defaultdict(str)
    for (begin, end), i in zip(spans_L2, words_L, strict=True):
        joined[i] += words[i][begin:end]
    assert [joined[i] for i in range(len(words))] == words
    if name in ("bpe", "unigram"):  # as in running text
        np.testing.assert_array_equal(ids_L, tokenizer.encode(" ".join(words)))
    with pytest.raises(DataError, match="these words: word 1 is empty"):
        tokenizer.words(["a", "", "b"])
    empty = tokenizer.words([])
    assert empty.ids_L.shape == (0,) and empty.spans_L2.shape == (0, 2)


def test_a_word_of_white_space_is_unknown(trained):
    assert trained["word"].words(["ba", "\u2003"]).ids_L[-1] == SPECIAL["unk"]


@pytest.mark.parametrize("name", NAMES)
def test_half_a_character_is_refused_with_its_place(trained, name):
    for encode in (trained[name].encode, trained[name].align):
        with pytest.raises(DataError, match=r"a\.txt: character 1 is the lone surrogate U\+D800"):
            encode("b\ud800", "a.txt")
    with pytest.raises(DataError, match=r"row 1: character 0 is the lone surrogate"):
        trained[name].encode_all(["b", "\udfff"], ["row 0", "row 1"])


def merges_by_counting(words: collections.Counter, merges: int) -> list[bytes]:
    """Byte-pair encoding, slowly: of equally frequent pairs the one whose parts came first into the vocabulary."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = visible + [byte for byte in range(256) if byte not in visible]  # of the bytes in the package
    rank = {bytes([byte]): i for i, byte in enumerate(order)}
    spelt = {word: [bytes([byte]) for byte in word] for word in words}
    found = []
    while len(found) < merges:
        pairs = collections.Counter()
        for word, parts in spelt.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        left, right = min(pairs, key=lambda pair: (-pairs[pair], rank[pair[0]], rank[pair[1]]))
        found.append(left + right)
        rank.setdefault(left + right, len(rank))
        for parts in spelt.values():
            i = 0
            while i < len(parts) - 1:
                if parts[i] == left and parts[i + 1] == right:
                    parts[i : i + 2] = [left + right]
                i += 1
    return found


def test_bpe_merges_the_most_frequent_pair_again_and_again():
    text = "low low low lower lower newest newest newest newest widest widest naïve naïve naïve"
    words = collections.Counter(word.encode() for word in text.replace(" ", "\n ").split("\n"))
    wanted = merges_by_counting(words, 20)
    tokenizer = Bpe(vocabulary=FIRST + 256 + 20).train([text])
    assert [tokenizer._shown[i] for i in range(FIRST + 256, tokenizer.size)] == wanted
    assert [tokenizer._shown[i] for i in range(FIRST, FIRST + 256)] == [bytes([byte]) for byte in range(256)]
    # Encoding applies the merges in their order.
    for word in (" lowest", "slower", "widen", "naïf"):
        parts = [bytes([byte]) for byte in word.encode()]
        for merged in wanted:
            i = 0
            while i < len(parts) - 1:
                if parts[i] + parts[i + 1] == merged:
                    parts[i : i + 2] = [merged]
                i += 1
        assert [tokenizer._shown[i] for i in tokenizer.encode(word)] == parts


def test_bpe_of_words_is_bpe_of_the_text(trained, monkeypatch):
    """The package reads the text as a whole; the tokenizer asks it for each word once."""
    monkeypatch.setattr("seqjax.tokenizers.bpe.KNOWN", 100)
    blanks = "".join(random.Random(3).choices(" \n\t\r\x0b\x1c\x1f\x85\u00a0\u2003\u3000\u200b'a1,ſ", k=3000))
    for text in (
        prose(11, 500),
        blanks,
        "it's  you'll\n 'tis 3rd",
        "x" * 500,
        *(wild(seed, 300) for seed in range(20, 30)),
    ):
        whole = trained["bpe"]._inner.encode(text, add_special_tokens=False).ids
        for _ in range(2):  # also from memory
            np.testing.assert_array_equal(trained["bpe"].encode(text), np.array(whole, int) + FIRST)
    assert max(map(len, trained["bpe"]._known)) <= 64


def test_unigram_chooses_the_likeliest_pieces(trained):
    tokenizer = trained["unigram"]
    score = {
        tokenizer._shown[i].decode(errors="ignore"): tokenizer._inner.get_score(i) for i in range(FIRST + 256, 330)
    }
    for word in prose(9, 30).replace("\n", " ").split():
        best = [0.0] + [-np.inf] * len(word)
        for end in range(1, len(word) + 1):
            best[end] = max(best[begin] + score.get(word[begin:end], -np.inf) for begin in range(end))
        found = sum(score[tokenizer.decode([i])] for i in tokenizer.encode(word))
        assert found == pytest.approx(best[-1], rel=1e-5)


def test_words_are_sorted_by_count_and_rare_ones_are_unknown():
    tokenizer = Word(min_count=2).train(["b a b\n", "a b, c"])
    assert tokenizer._shown[len(SPECIAL) :] == ["b", "a"]
    assert tokenizer.encode("a c b").tolist() == [7, 1, 6] and tokenizer.decode([7, 1, 6]) == "a <unk> b"
    assert Word(min_count=1, vocabulary=8).train(["b a b a c"]).size == 8
    cut = Word(min_count=1, punctuation=False).train(["it 's <unk> .\nyes"])
    assert cut.decode(cut.encode("it 's <unk> .\nyes")) == "it 's <unk> .\nyes"
    with pytest.raises(DataError, match="keeps none of the 3 words of the training split: lower min_count"):
        Word(min_count=9).train(["a b c"])


def test_wordpiece_takes_the_longest_piece_from_the_left(trained):
    tokenizer = trained["wordpiece"]
    pieces = set(tokenizer._shown[len(SPECIAL) :])
    for word in set(prose(10, 100).replace(",", " ").replace(".", " ").split()):
        begin, wanted = 0, []
        while begin < len(word):
            more = "##" if begin else ""
            end = max(e for e in range(begin + 1, len(word) + 1) if more + word[begin:e] in pieces)
            wanted.append(more + word[begin:end])
            begin = end
        assert [tokenizer._shown[i] for i in tokenizer.encode(word)] == wanted
        assert tokenizer.decode(tokenizer.encode(word)) == word
    assert tokenizer.encode("baQ").tolist() == [SPECIAL["unk"]] and tokenizer.encode("ba" * 51).tolist() == [1]
    assert tokenizer.decode(tokenizer.encode("naïve ba").tolist()).startswith("<unk> ")


@pytest.mark.parametrize("kind", [Bpe, Unigram, WordPiece])
def test_a_vocabulary_too_large_for_the_text_is_refused_with_the_largest(kind):
    with pytest.raises(
        DataError, match=r"data.tokenizer.vocabulary=5,000, but the training split has only .* set it to"
    ) as e:
        kind(vocabulary=5000).train([prose(0, 200)])
    most = int(str(e.value).partition("set it to ")[2].partition(",")[0])
    assert kind(vocabulary=most).train([prose(0, 200)]).size == most


def test_a_vocabulary_too_small_for_the_characters_is_refused():
    with pytest.raises(DataError, match=r"has so many characters that it needs \d+ tokens"):
        WordPiece(vocabulary=10).train([prose(0, 200)])
    with pytest.raises(DataError, match=r"vocabulary=263: sentencepiece says: .*required_chars"):
        Unigram(vocabulary=263).train([prose(0, 200)])
    with pytest.raises(ValueError, match="vocabulary: got 262, wanted an int of at least 263"):
        Bpe(vocabulary=262)


@pytest.mark.parametrize("name", LEARNT)
def test_nothing_to_train_on_is_refused(name):
    for texts in ([], [""], [" \t"]):
        with pytest.raises(DataError):
            made(name).train(texts)


def test_another_tokenizer_is_refused_with_one_sentence(trained):
    content = trained["bpe"].content
    with pytest.raises(ConfigError) as error:
        Bpe(vocabulary=500).load(content, "tokenizer-1.json")
    assert str(error.value) == (
        "tokenizer-1.json holds seqjax.tokenizers.bpe.Bpe(min_count=2, vocabulary=400), but the config asks for "
        "seqjax.tokenizers.bpe.Bpe(vocabulary=500, min_count=2): one model reads one tokenizer, so set data.tokenizer "
        "to that of the file, or train another run."
    )
    with pytest.raises(ConfigError, match="holds seqjax"):
        Unigram().load(content)
    for wrong in (b"", b"\xff", b"[]", b"{}", content[:-5], json.dumps({"format": 2, "state": 1}).encode()):
        with pytest.raises(ConfigError, match="is not a tokenizer of seqjax: restore it from a copy"):
            Bpe(vocabulary=400).load(wrong)


@pytest.mark.parametrize(
    "name, package", [("bpe", "tokenizers"), ("unigram", "sentencepiece"), ("wordpiece", "tokenizers")]
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=rf"data.tokenizer.name='{name}' needs {package}, .*seqjax\[text\]"):
        made(name).train([prose(0, 10)])


def test_every_tokenizer_is_a_dataclass_of_its_options():
    for name in NAMES:
        assert {field.name for field in dataclasses.fields(made(name))} <= {"vocabulary", "min_count", "punctuation"}
