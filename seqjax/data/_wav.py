"""Reads wav files with the standard library."""

import io
import wave
from pathlib import Path

import numpy as np

from seqjax.data import _files
from seqjax.types import DataError


def read(path: str | Path, rate: int) -> np.ndarray:
    """The samples of a wav file of 16 bits and one channel: int16 (T,).

    Raises:
      DataError: as `_files.read_bytes`; not a whole wav file, other bits, channels or samples per second, no samples.
    """
    file = _files.absolute(path)
    data = _files.read_bytes(file)
    try:
        with wave.open(io.BytesIO(data)) as opened:
            found, promised = opened.getparams(), opened.getnframes()
            samples = opened.readframes(promised)
    except (wave.Error, EOFError) as error:
        raise DataError(f"{file} is not a wav file ({str(error) or 'it ends too early'}): copy it again.") from error
    for what, got, wanted in (
        ("channels", found.nchannels, 1),
        ("bits per sample", 8 * found.sampwidth, 16),
        ("samples per second", found.framerate, rate),
    ):
        if got != wanted:
            raise DataError(f"{file} has {got:,} {what}, wanted {wanted:,}: convert it, for example with sox.")
    if len(samples) != 2 * promised:
        raise DataError(f"{file} promises {promised:,} samples and has {len(samples) // 2:,}: copy it again.")
    if not promised:
        raise DataError(f"{file} has no samples: remove it, or copy it again.")
    return np.frombuffer(samples, "<i2")
