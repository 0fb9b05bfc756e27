"""Spoken digits."""

import dataclasses
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np

from seqjax import lookup, spec
from seqjax.data import _files, _wav
from seqjax.data._stored import Stored
from seqjax.embed.log_mel import LogMel
from seqjax.embed.mfcc import Mfcc
from seqjax.types import DataError, Part

RATE = 8000  # samples per second
ARRAYS = ("audio", "offsets", "label", "speaker", "take", "rate")  # of the file that holds all recordings
SPLITS = ("train", "validation", "test")


class Recording(NamedTuple):
    """One digit, said once."""

    digit: str
    speaker: str
    take: int
    samples: np.ndarray  # int16 (T,)


@dataclasses.dataclass(kw_only=True)
class FSDD(Stored):
    """Free Spoken Digit Dataset: English digits, each said 50 times by each of six people, 8,000 samples per second.

        features  (L, 39)    frames: `features` names an embedding that makes them, by default `mfcc`; or
                  (L, 1)     with features=None, the waveform, in [-1, 1)
        label                the digit, or with label="speaker" the person

    The official split: takes 0 to 4 are test (300 recordings), takes 5 to 9 validation (300), the others train (2,400).
    It is easy, since every voice of test is in train. With `held_out`, the name of a speaker, all takes of this person
    are test (500), takes 5 to 9 of the others validation (250), and the rest of theirs train (2,250). Then the voice of
    test is in neither, but the voices of validation are in train, too.

    The frames are those that the embedding makes on the device, without its linear map, computed once with numpy.

    Reads `<dir>/fsdd/fsdd.npz` if it exists, with the arrays audio (int16, all recordings end to end), offsets, label,
    speaker, take and rate; else `<dir>/fsdd/recordings/<digit>_<speaker>_<take>.wav`, the folder of the repository.
    `dir`: the folder of datasets; by default, the environment variable SEQJAX_DATA.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, the folder has no recordings, one of them is damaged, has another
        name or other samples than 8,000 per second of 16 bits in one channel; a split has no recordings.
      ValueError: `held_out` is not a speaker, or the label is the speaker; `features` does not make frames of 8,000
        samples per second.

    Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset at 26eb9aa. Licence: CC BY-SA 4.0.
    """

    dir: str | None = None
    label: Literal["digit", "speaker"] = "digit"
    held_out: str | None = None
    features: Annotated[Callable | None, Part("seqjax.embed", "Embed")] = Mfcc

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "fsdd")
        whole = folder / "fsdd.npz"
        every = _packed(whole) if whole.exists() else _wavs(folder)
        if self.held_out is not None:
            self._check_held_out({r.speaker for r in every})
        self._recordings = {split: [r for r in every if self._split(r) == split] for split in SPLITS}
        for split, found in self._recordings.items():
            if not found:
                raise DataError(f"{folder}: no recording for split {split!r}, wanted takes 0 ... 49 of each digit.")
        self.classes = tuple(sorted({getattr(r, self.label) for r in every}))
        labels = {s: [self.classes.index(getattr(r, self.label)) for r in rs] for s, rs in self._recordings.items()}
        make = (lambda x_T: x_T[:, None]) if self.features is None else _framer(self.features)
        arrays = {split: [make(_waveform(r)) for r in found] for split, found in self._recordings.items()}
        unit = "sample" if self.features is None else "frame"
        self.keep("features", arrays["train"][0].shape[-1], arrays, labels, unit=unit)

    def _check_held_out(self, speakers: set[str]):
        if self.label == "speaker":
            raise ValueError("held_out with label='speaker': nobody can be recognised unheard, remove one of them.")
        if self.held_out not in speakers:
            near = lookup.nearest(self.held_out, speakers)
            raise ValueError(
                f"held_out={self.held_out!r} is no speaker.{near} There are {', '.join(sorted(speakers))}."
            )

    def _split(self, recording: Recording) -> str:
        if recording.speaker == self.held_out:
            return "test"
        if 5 <= recording.take < 10:
            return "validation"
        return "test" if recording.take < 5 and self.held_out is None else "train"

    def baselines(self, split):
        """Also: the class with the nearest mean of MFCCs, averaged over each third of a recording.

        Each of these 39 numbers is divided by its standard deviation within the classes of train.
        """
        frames = _framer(lambda **given: Mfcc(normalise="none", deltas=0, **given))
        pieces = lambda r: np.split(
            np.repeat(frames(_waveform(r)), 3, axis=0), 3
        )  # repeated: one frame has thirds, too
        thirds = lambda r: np.concatenate([piece.mean(axis=0) for piece in pieces(r)])
        x_NF, y_NF = (np.array([thirds(r) for r in self._recordings[s]], np.float64) for s in ("train", split))
        label_N = np.array([getattr(r, self.label) for r in self._recordings["train"]])
        means_CF = np.array([x_NF[label_N == name].mean(axis=0) for name in self.classes])
        scale_F = np.std(x_NF - means_CF[np.searchsorted(self.classes, label_N)], axis=0)
        far_NC = np.sum(((y_NF[:, None] - means_CF[None]) / scale_F) ** 2, axis=-1)
        right = np.mean(np.argmin(far_NC, axis=1) == [e["label"] for e in self._examples[split]])
        found = super().baselines(split)
        return {"accuracy": found["accuracy"] | {"nearest class mean of MFCCs": float(right)}}


def _framer(features: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """The function from a waveform (T,) to the frames (L, F) that an embedding makes."""
    embedding = features(inputs=spec.features(1), width=1, parent=None)
    if not isinstance(embedding, LogMel):
        raise ValueError(f"features: {type(embedding).__name__} makes no frames: choose mfcc, log_mel, or None.")
    if embedding.sample_rate != RATE:
        raise ValueError(f"features.sample_rate={embedding.sample_rate:,}, but the recordings have {RATE:,}: set it.")
    return lambda x_T: embedding.frames(x_T[None], np.array([len(x_T)]), np)[0][0]


def _waveform(recording: Recording) -> np.ndarray:
    return recording.samples.astype(np.float32) / 2**15


def _packed(file: Path) -> list[Recording]:
    """The recordings of one file with numpy arrays."""
    data = _files.read_bytes(file)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as opened:
            audio, offsets, label, speaker, take, rate = (opened[name] for name in ARRAYS)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no npz with {', '.join(ARRAYS)} ({error}): copy it again.") from error
    if rate != RATE:
        raise DataError(f"{file} has {rate:,} samples per second, wanted {RATE:,}: convert it.")
    ends = offsets[:1] == 0 and offsets[-1:] == len(audio) and (np.diff(offsets) > 0).all()
    if not (ends and len(label) == len(speaker) == len(take) == len(offsets) - 1 and audio.dtype == np.int16):
        raise DataError(f"{file}: its arrays do not fit together: copy it again.")
    sounds = np.split(audio, offsets[1:-1])
    return [Recording(str(d), str(s), int(t), x) for d, s, t, x in zip(label, speaker, take, sounds, strict=True)]


def _wavs(folder: Path) -> list[Recording]:
    """The recordings of a folder of wav files, ordered by digit, speaker and take."""
    found = []
    for file in _files.matches(f"{folder}/recordings/*.wav"):
        name = re.fullmatch(r"(\d)_([^_]+)_(\d+)", file.stem)
        if name is None:
            raise DataError(f"{file}: wanted the name <digit>_<speaker>_<take>.wav: rename it, or remove it.")
        found.append(Recording(name[1], name[2], int(name[3]), _wav.read(file, RATE)))
    return sorted(found, key=lambda r: r[:3])


Source = FSDD
