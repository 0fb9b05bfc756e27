"""Small made-up data in the shape of the real ones, and the real ones where they are."""

import gzip
import hashlib
import os
import wave
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def fake_text():
    letters = np.random.Generator(np.random.Philox(key=0)).choice(list("abcdé\n "), 1000)
    return "".join(letters)


@pytest.fixture(scope="session")
def fake_text_sha256(fake_text):
    return hashlib.sha256(fake_text.encode()).hexdigest()


@pytest.fixture(scope="session")
def write_shakespeare():
    def write(folder: Path, text: str):
        path = folder / "tinyshakespeare" / "input.txt.gz"
        path.parent.mkdir()
        path.write_bytes(gzip.compress(text.encode()))
        return path

    return write


@pytest.fixture(scope="session")
def write_names():
    def write(folder: Path):
        """Two languages that share a name; repeats in Upper; letters that only validation and test have."""
        path = folder / "names"
        path.mkdir()
        (path / "Lower.txt").write_text("".join(f"name{chr(97 + i)}\n" for i in range(10)) + "öx\n", encoding="utf-8")
        (path / "Upper.txt").write_text("Aa\nBb\nAa\nCc\nnamec\nBb\n")
        return path

    return write


@pytest.fixture(scope="session")
def write_ett():
    def write(folder: Path, hours: int = 14_500):
        """Two columns of noise with a daily rhythm, of other sizes."""
        path = folder / "ett" / "ETTh1.csv.gz"
        path.parent.mkdir()
        time, draw = np.arange(hours), np.random.default_rng(0)
        columns = [scale * (np.sin(time / 24 * 2 * np.pi) + draw.normal(size=hours)) for scale in (1, 30)]
        lines = ["date,A,B", *(f"hour {t},{a:.3f},{b:.3f}" for t, a, b in zip(time, *columns, strict=True))]
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        return path

    return write


@pytest.fixture(scope="session")
def write_treebank():
    def write(folder: Path):
        """A treebank whose test split has a word that train lacks."""
        path = folder / "ud_toy"
        path.mkdir()
        tags = {"the": "DET DT", "The": "DET DT", "dog": "NOUN NN", "runs": "VERB VBZ", "unbelievably": "ADV RB"}
        tags |= {"cat": "NOUN NN", "sees": "VERB VBZ", "bird": "NOUN NN"}
        texts = {
            "train": "The dog runs|dog sees the dog|The cat runs unbelievably",
            "dev": "the cat sees the dog",
            "test": "The unbelievably dog bird runs",
        }
        for split, text in texts.items():
            lines = []
            for sentence in text.split("|"):
                lines += ["# text", "1-2\tboth\t" + "\t".join("_" * 8)]
                for i, word in enumerate(sentence.split(), start=1):
                    upos, xpos = tags[word].split()
                    lines.append("\t".join([str(i), word, "_", upos, xpos, *"_____"]))
                lines.append("")
            (path / f"toy-ud-{split}.conllu").write_text("\n".join(lines))
        return path

    return write


@pytest.fixture(scope="session")
def write_wav():
    def write(path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1):
        """A wav file of int16, or of another dtype."""
        with wave.open(str(path), "wb") as file:
            file.setparams((channels, samples.dtype.itemsize, rate, 0, "NONE", "not compressed"))
            file.writeframes(samples.tobytes())

    return write


@pytest.fixture(scope="session")
def write_fsdd(write_wav):
    def write(folder: Path):
        """Two digits, said 12 times by each of two speakers: tones in noise, of a pitch for each digit and speaker."""
        path = folder / "fsdd" / "recordings"
        path.mkdir(parents=True)
        draw = np.random.default_rng(0)
        for pitch, name in zip((300, 400, 900, 1200), ("0_ann", "0_bob", "1_ann", "1_bob"), strict=True):
            for take in range(12):
                tone = np.sin(2 * np.pi * pitch / 8000 * np.arange(400 + 40 * take))
                samples = 8000 * tone + 1000 * draw.normal(size=tone.shape)
                write_wav(path / f"{name}_{take}.wav", samples.astype(np.int16))
        return path

    return write


@pytest.fixture(scope="session")
def write_texts():
    def write(folder: Path):
        """The data sets of classified texts, each split with other texts, of words that its train has."""

        def put(name: str, lines: list[str]):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))

        text = lambda split, i, word="good": " ".join(
            [*[word] * (i + 1), *["bad"] * ("train", "dev", "test").index(split)]
        )
        for split in ("train", "dev", "test"):
            n = 12 if split == "train" else 4
            put(f"sst2/{split}.tsv.gz", [f"{text(split, i)}\t{i % 2}" for i in range(n)])
            sets = ("0", "2", "0,2", "1")
            put(f"goemotions/{split}.tsv.gz", [f"{text(split, i)}\t{sets[i % 4]}\tname{i}" for i in range(n)])
            for subset in ("all_combined", "original"):
                kinds = ("neutral", "entailment", "contradiction")
                rows = [f"{text(split, i, 'bad')}\t{text(split, i)}\t{kinds[i % 3]}" for i in range(n)]
                put(f"cad_nli/{subset}.{split}.tsv.gz", ["sentence1\tsentence2\tgold_label", *rows])
        (folder / "goemotions/labels.txt").write_text("joy\nfear\nawe\n")
        for split in ("train", "test"):
            rows = [f'"{text(split, i)}, good",{"abc"[i % 3]}' for i in range(24 if split == "train" else 4)]
            put(f"banking77/{split}.csv.gz", ["text,category", *rows])
        put("ag_news/train_subset.csv.gz", [f'"good bad {i} {i}",{i % 4}' for i in range(4503)])
        put("ag_news/test.csv.gz", [f'"{i % 4 + 1}","good","bad test {i}"' for i in range(5)])

    return write


@pytest.fixture(scope="session")
def real_data():
    """The folder of real datasets: SEQJAX_DATA, or shared/data next to the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SEQJAX_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set SEQJAX_DATA")
    return folder
