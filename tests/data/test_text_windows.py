"""Texts cut into windows: reference, text, tinyshakespeare."""

import collections
import functools
import gzip
import lzma
import math

import jax
import launch
import numpy as np
import pytest
from built import logits

from seqjax.data import _counting, _files, documents, reference, text, tinyshakespeare
from seqjax.models.markov import Markov
from seqjax.ops import ngrams, smoothing
from seqjax.types import DataError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


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
        ({"validation": 1.0}, "validation: got 1.0, wanted a float of at least 0 and below 1"),
        ({"length": 0}, "length: got 0, wanted an int of at least 1"),
        ({"length": True}, "length: got True"),
        ({"tokenizer": 3}, "tokenizer: got 3, wanted Callable, or a str"),
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


@pytest.mark.parametrize("piece", [4, 5, 7])
def test_pieces_cut_no_character(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(_files, "PIECE", piece)
    content = "aé€🙂ß" * 9
    assert "".join(_files.pieces(content.encode())) == content
    source = text.Source(path=str(write(tmp_path / "a.txt", content)), length=3, validation=0.3, test=0.2)
    assert [source.decode(source.stream(s)["tokens"]) for s in source.spec.splits] == [
        content[:22], content[22:36], content[36:]
    ]  # fmt: skip
    for wrong in (b"\xff", b"\x80" * 5, "€".encode()[:2], b"\xc0\x80", b"\xed\xa0\x80"):
        for before in ("", "ab", "aé€🙂ß"):
            data = before.encode() + wrong + b"abcdefgh"
            with pytest.raises(UnicodeDecodeError) as whole:
                data.decode()
            with pytest.raises(DataError, match=f"byte offset {whole.value.start}: .* is not UTF-8"):
                _files.read_utf8(write(tmp_path / "b.txt", data))


def test_a_gz_that_unpacks_to_far_more_than_it_is(tmp_path, monkeypatch):
    """It is given up as soon as it does, whatever it says of its size."""
    packed = gzip.compress(bytes(10**6))
    path = write(tmp_path / "a.txt.gz", packed)
    monkeypatch.setattr(_files, "SMALL", 200_000)
    with pytest.raises(
        DataError, match=rf"{path} has {len(packed):,} bytes and unpacks to more than 200,000, .*gunzip"
    ):
        _files.read_bytes(path)
    monkeypatch.setattr(_files, "SMALL", 10**6)
    assert _files.read_bytes(path) == bytes(10**6)
    monkeypatch.setattr(_files, "memory", lambda: 600_000)
    with pytest.raises(DataError, match="unpacks to more than 300,000"):
        _files.read_bytes(path)
    with pytest.raises(DataError, match="has 400,000 bytes, wanted at most half the memory, 300,000"):
        _files.read_bytes(write(tmp_path / "b.txt", bytes(400_000)))


PEAK = """
import resource, sys
from seqjax.data.text import Source
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
Source(path=sys.argv[1], length=8)
before = peak()
source = Source(path=sys.argv[2], length=8)
source.example("train", 0), source.lengths("test")
print(peak() - before)
"""


def test_a_text_takes_at_most_three_times_its_size(tmp_path, path):
    """The worst case: one emoji makes a str four times as large as its bytes, many characters an id two bytes."""
    block = "".join(map(chr, range(0x4E00, 0x4E00 + 999))) + "🙂" + "to be, or not to be. " * 9999
    data = block.encode() * (2**24 // len(block.encode()))
    outcome = launch.end(launch.run("-c", PEAK, path, write(tmp_path / "big.txt", data)))
    assert outcome.code == 0, outcome.err
    assert int(outcome.out) < 3.3 * len(data)  # what does not grow with it, too


def test_characters_that_train_lacks_are_told(tmp_path):
    """Ids are of all splits, so that the loss counts them: it is said how many there are."""
    path = write(tmp_path / "a.txt", "ab" * 40 + "abcdcabaab" + "ba" * 5)
    (note,) = text.Source(path=str(path), length=3).notes
    assert note.startswith("3 of the 10 characters of validation (30.00%, 2 distinct) do not occur in train")
    assert text.Source(path=str(path), length=3, validation=0.0, test=0.05).notes == ()


def test_one_character_again_and_again_is_refused(tmp_path):
    path = write(tmp_path / "a.txt", bytes(100))
    with pytest.raises(DataError, match=rf"{path} repeats one single character"):
        text.Source(path=str(path), length=3)


def test_a_pattern_in_a_folder_with_brackets(tmp_path):
    for folder in ("data[1]", "data1", "da?a"):
        (tmp_path / folder).mkdir()
        for name in ("x1", "x2"):
            write(tmp_path / folder / f"{name}.txt", f"{folder}-{name} " * 9)
    source = text.Source(path=f"{tmp_path}/data[1]/x*.txt", length=3, validation=0.0, test=0.0)
    assert source.decode(source.stream("train")["tokens"]) == "data[1]-x1 " * 9 + "data[1]-x2 " * 9
    assert len(_files.matches(f"{tmp_path}/**/x*.txt")) == 6
    assert [f.parent.name for f in _files.matches(f"{tmp_path}/data[0-9]/x1.txt")] == ["data1"]
    with pytest.raises(DataError, match="no file matches"):
        _files.matches(f"{tmp_path}/data[1]/y*.txt")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~nobody-of-this-name/a.txt"])
def test_names_that_cannot_be(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        text.Source(path=name)
    with pytest.raises(DataError, match="no file matches"):
        _files.matches(f"{name}/*.txt")


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
    for split, files in parts.items():
        stream = source.stream(split)
        assert source.decode(stream["tokens"]) == "".join(files)
        begins = np.cumsum([0, *(len(source.encode(d)) for d in files)])[:-1]
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


def test_counting_is_the_baseline_of_a_text(tmp_path):
    """In windows as the Markov model of the same order reads them, and as one text; the order is best on validation."""
    words = ["".join(np.random.default_rng(i).choice(list("abcdefghijklmnop"), 1 + i % 5)) for i in range(60)]
    path, random = tmp_path / "a.txt", np.random.default_rng(0)
    path.write_text(" ".join(words[i % 60] for i in random.geometric(0.07, 800)))
    source = text.Source(path=str(path), length=8)
    V = source.spec.vocabulary
    (found,) = source.slow_baselines("test")
    order = int(found.name.removeprefix("Kneser-Ney, context "))
    model = Markov(inputs=source.spec, head=logits(V), order=order, documents=functools.partial(documents, source))
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8), np.int32))
    apply = jax.jit(lambda ids_1L, mask_1L: model.apply(params, ids_1L, mask_BL=mask_1L)[0][0])
    ids = source.stream("test")["tokens"].astype(np.int32)
    for length, prefix in ((8, ""), (len(ids), "full_context_")):
        log_p = []
        for begin in range(0, len(ids) - 1, length):
            window = ids[begin : begin + length + 1]
            pad = lambda a_L: np.pad(a_L, (0, length - len(a_L)))[None]  # noqa: B023
            logits_LV = np.asarray(apply(pad(window[:-1]), pad(np.ones(len(window) - 1, bool))))
            log_p += [logits_LV[t, v] for t, v in enumerate(window[1:])]
        bits = -np.mean(log_p) / math.log(2)
        assert found.metrics[f"{prefix}bits_per_character"] == pytest.approx(bits, rel=1e-5)
    assert found.parameters == sum(params["params"][name].size for name in ("unigram", "log_p"))
    assert order > 1 and found.seconds > 0
    losses = {}
    for k in range(1, order + 2):
        try:
            table = ngrams.table(ngrams.count(*documents(source)[:2], V, k), smoothing.kneser_ney(modified=True))
        except ValueError:
            break
        losses[k] = _counting.scores(table, source._text("validation"), 8)[0].mean()
    assert min(losses, key=losses.get) == order


def test_what_cannot_be_counted_has_no_such_baseline(path, monkeypatch):
    assert text.Source(path=str(path), length=8, validation=0.0).slow_baselines("test") == []
    monkeypatch.setattr(_counting, "LONGEST", 10)
    assert text.Source(path=str(path), length=8).slow_baselines("test") == []
