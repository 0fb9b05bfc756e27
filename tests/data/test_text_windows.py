"""Texts cut into windows: reference, text, tinyshakespeare."""

import collections
import gzip
import lzma
import math

import numpy as np
import pytest

from seqjax.data import reference, text, tinyshakespeare
from seqjax.types import DataError


def windows(source, split):
    return [source.example(split, i)["tokens"] for i in range(source.size(split))]


def joined(source, split):
    """The tokens of a finite split: the first of all, then what each window predicts."""
    found = windows(source, split)
    return np.concatenate([found[0][:1], *(w[1:] for w in found)])


@pytest.fixture
def path(tmp_path, fake_text):
    (tmp_path / "a.txt").write_bytes(fake_text.encode())
    return tmp_path / "a.txt"


@pytest.mark.parametrize("length", [1, 2, 7, 33, 99, 100, 101, 400])
@pytest.mark.parametrize("tokens", ["character", "byte"])
def test_each_token_but_the_first_is_predicted_exactly_once(path, fake_text, length, tokens):
    source = text.Source(path=str(path), length=length, tokenizer=tokens)
    for split, part in {"validation": fake_text[800:900], "test": fake_text[900:]}.items():
        np.testing.assert_array_equal(joined(source, split), source.encode(part))
        lengths = [len(w) for w in windows(source, split)]
        assert set(lengths[:-1]) <= {length + 1} and 2 <= lengths[-1] <= length + 1
        for left, right in zip(windows(source, split)[:-1], windows(source, split)[1:], strict=True):
            assert left[-1] == right[0]


def test_train_windows_begin_everywhere_in_train_and_nowhere_else(path, fake_text):
    source = text.Source(path=str(path), length=760)
    train = source.encode(fake_text[:800])
    places = {w.tobytes(): i for i, w in enumerate(np.lib.stride_tricks.sliding_window_view(train, 761))}
    seen = {places[source.example("train", i)["tokens"].tobytes()] for i in range(1000)}
    assert seen == set(range(40))


def test_the_whole_of_train_may_be_one_window(path):
    source = text.Source(path=str(path), length=799)
    assert len(source.example("train", 3)["tokens"]) == 800
    with pytest.raises(DataError, match=r"split 'train' has 800 characters .* wanted at least 801.*lower data.length"):
        text.Source(path=str(path), length=800)


def test_the_alphabet_has_every_character_of_the_file_sorted(path, fake_text):
    source = text.Source(path=str(path), length=8)
    assert source.decode(np.arange(source.spec.vocabulary)) == "".join(sorted(set(fake_text)))
    with pytest.raises(DataError, match=r"character 2 is 'z' \(U\+007A\).* 7 known .*tokenizer='byte'"):
        source.encode("abz")
    with pytest.raises(DataError, match=r"character 1 is the lone surrogate U\+D800"):
        source.encode("a\ud800")


def test_bytes_know_every_text(path):
    source = text.Source(path=str(path), length=8, tokenizer="byte")
    assert source.spec.vocabulary == 256 and source.spec.unit == "byte"
    np.testing.assert_array_equal(source.encode("aé€"), list("aé€".encode()))
    assert source.decode(source.encode("aé€🙂")) == "aé€🙂"
    assert source.decode(source.encode("é")[:1]) == "\ufffd"


@pytest.mark.parametrize("tokens", ["character", "byte"])
def test_baselines_are_what_a_loop_counts(path, fake_text, tokens):
    source = text.Source(path=str(path), length=8, tokenizer=tokens)
    part = fake_text[800:900].encode()
    items = part if tokens == "byte" else part.decode()
    entropy = -sum(n / len(items) * math.log2(n / len(items)) for n in collections.Counter(items).values())
    packed = lzma.compress(part, preset=9 | lzma.PRESET_EXTREME)
    baseline = source.baselines("validation")[f"bits_per_{tokens}"]
    assert baseline == pytest.approx({"unigram entropy": entropy, "lzma": 8 * len(packed) / len(items)})


def test_what_is_long_is_not_compressed(path, monkeypatch):
    monkeypatch.setattr("seqjax.data._text.COMPRESSED", 99)
    baseline = text.Source(path=str(path), length=8).baselines("validation")["bits_per_character"]
    assert list(baseline) == ["unigram entropy"]


def test_shares_are_contiguous_and_a_share_of_zero_is_no_split(path, fake_text):
    source = text.Source(path=str(path), length=8, validation=0.25, test=0.0)
    assert source.spec.splits == ("train", "validation")
    assert source.decode(joined(source, "validation")) == fake_text[750:]
    assert text.Source(path=str(path), length=8, validation=0.0, test=0.0).spec.splits == ("train",)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"validation": 0.5, "test": 0.5}, "validation=0.5 and test=0.5"),
        ({"validation": 1.0}, "validation: got 1.0, wanted float, at least 0 and below 1"),
        ({"length": 0}, "length: got 0, wanted int, at least 1"),
        ({"length": True}, "length: got True"),
        ({"tokens": "word"}, "tokens: got 'word', wanted one of 'character', 'byte'"),
    ],
)
def test_options_out_of_range(path, options, words):
    with pytest.raises(ValueError, match=words):
        text.Source(path=str(path), **options)


def test_a_share_too_small_for_a_prediction(path):
    with pytest.raises(DataError, match=rf"{path}: split 'test' has 1 characters .* 1000 .* at least 2"):
        text.Source(path=str(path), length=8, test=0.001)


def test_gzip_and_byte_order_mark(tmp_path, fake_text, path):
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + fake_text.encode()))
    a, b = (text.Source(path=str(p), length=8) for p in (path, tmp_path / "b.txt.gz"))
    assert a.spec == b.spec
    np.testing.assert_array_equal(joined(a, "test"), joined(b, "test"))


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.txt", b"ab\ncd\nef\xffgh", "line 3, byte offset 8: byte 0xff is not UTF-8"),
        ("a.txt", b"ab\xc3", "line 1, byte offset 2: byte 0xc3 is not UTF-8"),
        ("a.txt", b"", "is empty, 0 bytes"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "is empty, 0 bytes"),
        ("a.txt.gz", b"plain text", "is not a whole gzip file"),
        ("a.txt.gz", gzip.compress(b"plain text", mtime=0)[:-9], "is not a whole gzip file"),
        ("a.txt", b"a", "split 'train' has 1 characters"),
    ],
)
def test_broken_files_are_named_with_the_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        text.Source(path=str(tmp_path / name), length=8)
    assert str(tmp_path / name) in str(error.value) and words in str(error.value)


def test_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{tmp_path}/nothing.txt does not exist"):
        text.Source(path="nothing.txt")
    with pytest.raises(DataError, match=f"{tmp_path} is a folder"):
        text.Source(path=str(tmp_path))


def test_reference_is_cut_at_80_and_90_percent():
    from pydoc_data.topics import topics

    source = reference.Source(length=1000)
    whole = "\n\n".join(topics[k] for k in sorted(topics))
    end = len(whole) * 9 // 10
    assert source.decode(joined(source, "validation")) == whole[len(whole) * 8 // 10 : end]
    assert source.decode(joined(source, "test")) == whole[end:]
    assert source.spec.vocabulary == len(set(whole))


def test_reference_without_pydoc_data(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="no module pydoc_data"):
        reference.Source()


def test_tinyshakespeare_holds_the_content_against_its_sum(tmp_path, fake_text, fake_text_sha256, write_shakespeare):
    path = write_shakespeare(tmp_path, fake_text)
    with pytest.raises(DataError) as error:
        tinyshakespeare.Source(dir=str(tmp_path))
    for part in (str(path), fake_text_sha256, tinyshakespeare.SHA256, "karpathy/char-rnn"):
        assert part in str(error.value)


def test_tinyshakespeare_splits(tmp_path, monkeypatch, fake_text, fake_text_sha256, write_shakespeare):
    write_shakespeare(tmp_path, fake_text)
    monkeypatch.setattr(tinyshakespeare, "SHA256", fake_text_sha256)
    monkeypatch.setenv("SEQJAX_DATA", str(tmp_path))
    source = tinyshakespeare.Source(length=10)
    assert source.spec.splits == ("train", "validation")
    assert source.decode(joined(source, "validation")) == fake_text[900:]


def test_real_tinyshakespeare(real_data):
    source = tinyshakespeare.Source(dir=str(real_data))
    assert source.spec.vocabulary == 65
    assert source.lengths("validation").sum() - source.size("validation") + 1 == 111_540
    assert source.example("train", 0)["tokens"].shape == (257,)
    baseline = source.baselines("validation")["bits_per_character"]
    assert 2.12 < baseline["lzma"] < baseline["unigram entropy"] < math.log2(65)


@pytest.fixture
def several(tmp_path):
    """Three files, of 6, 4 and 10 characters."""
    for name, content in {"b.txt": "ééab", "a.txt": "aébaéb", "c.txt": "ab" * 5}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return lambda **options: text.Source(path=f"{tmp_path}/*.txt", validation=0.4, test=0.1, **options)


@pytest.mark.parametrize("tokens", ["character", "byte"])
def test_each_of_several_files_is_a_document(several, tokens):
    """In the order of their names; a split may begin inside of one, and its first token begins what it has of it."""
    source = several(length=3, tokenizer=tokens)
    parts = {"train": ["aébaéb", "ééab"], "validation": ["abababab"], "test": ["ab"]}
    for split, documents in parts.items():
        stream = source.stream(split)
        assert source.decode(stream["tokens"]) == "".join(documents)
        begins = np.cumsum([0, *(len(source.encode(d)) for d in documents)])[:-1]
        assert np.flatnonzero(stream["reset"]).tolist() == begins.tolist()


def test_windows_carry_the_marks_of_documents(several, tmp_path):
    source = several(length=3)
    stream, seen = source.stream("train"), set()
    for index in range(100):
        window = source.example("train", index)
        (begin,) = (
            i for i in range(7)
            if all((array[i : i + 4] == window[key]).all() for key, array in stream.items())
        )  # fmt: skip
        seen.add(begin)
    assert seen == set(range(7))
    assert "reset" not in text.Source(path=f"{tmp_path}/c*.txt", length=3, test=0.2, validation=0.2).example("train", 0)


def test_a_pattern_that_nothing_matches(tmp_path):
    with pytest.raises(DataError, match=rf"no file matches {tmp_path}/\*\.md"):
        text.Source(path=f"{tmp_path}/*.md")
