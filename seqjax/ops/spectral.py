"""Spectra of sounds: frames, mel filters, cepstra and their deltas. One code for numpy and JAX.

`xp` is the module that computes, `numpy` or `jax.numpy`. x_BT is a batch of waveforms; the first `length_B` of their T
samples are real. Further letters here: L frames, W samples of a frame, K frequencies, M mel filters, F features.
"""

import functools

import numpy as np


def frame_count(length, window: int, hop: int):
    """How many frames of `window` samples, one every `hop`, `length` samples have: a number or an array.

        L = 1 + floor((length - window) / hop)

    Frames lie wholly in the sound: less than a hop may be left over at its end. A sound that is shorter than a window
    is one frame, filled up with zeros; an empty one has none.
    """
    more = length - window
    return (length > 0) * (1 + (more > 0) * more // hop)


def log_mel(x_BT, length_B, filters_KM, *, window: int, hop: int, fft: int, pre_emphasis: float, floor: float, xp):
    """Logarithms of the power in mel filters, frame by frame: (B, T) -> (B, L, M), and the mask of frames (B, L).

        y_t = x_t - a x_{t-1},   p_k = |FFT(hann * y)_k|^2,   m = log max(p F, floor)

    `hann` is the periodic Hann window, which begins with 0 and would go on with 0. What stands after the real samples
    changes nothing, not even NaN. Masked frames are zero.
    """
    x_BT = _emphasised(_kept(x_BT, length_B, xp), pre_emphasis, xp)
    x_BT = _kept(x_BT, length_B, xp)  # the emphasis reaches one sample further
    T = max(x_BT.shape[1], window)
    x_BT = xp.pad(x_BT, ((0, 0), (0, T - x_BT.shape[1])))
    begin_L = hop * np.arange(frame_count(T, window, hop))
    frame_BLW = x_BT[:, begin_L[:, None] + np.arange(window)]
    spectrum_BLK = xp.fft.rfft(frame_BLW * _hann(window)[None, None], n=fft)
    power_BLK = xp.square(spectrum_BLK.real) + xp.square(spectrum_BLK.imag)
    mask_BL = np.arange(len(begin_L))[None] < frame_count(length_B, window, hop)[:, None]
    mel_BLM = xp.log(xp.maximum(_product(power_BLK, filters_KM, xp), floor))
    return xp.where(mask_BL[..., None], mel_BLM, 0), mask_BL


def cepstrum(mel_BLM, coefficients: int, xp):
    """The first coefficients of the orthonormal DCT-II of each frame: (B, L, M) -> (B, L, F).

    c_f = s_f sum_m cos(pi f (m + 1/2) / M) x_m,   s_0 = sqrt(1 / M), else s_f = sqrt(2 / M)
    """
    return _product(mel_BLM, _cosines(mel_BLM.shape[-1], coefficients), xp)


def deltas(x_BLF, count_B, xp):
    """The slope of each feature over five frames, by least squares: (B, L, F) -> (B, L, F).

        d_t = (x_{t+1} - x_{t-1} + 2 (x_{t+2} - x_{t-2})) / 10

    Before the first and after the last of the `count_B` real frames, these are repeated. Masked frames are zero.
    """
    L = x_BLF.shape[1]
    last_B1 = xp.maximum(count_B - 1, 0)[:, None]
    at = lambda n: xp.take_along_axis(x_BLF, xp.clip(np.arange(L)[None] + n, 0, last_B1)[..., None], axis=1)
    return _kept((at(1) - at(-1) + 2 * (at(2) - at(-2))) / 10, count_B, xp)


def normalised(x_BLF, count_B, variance: bool, xp):
    """Each feature minus its mean over the `count_B` real frames of its sound, which stays 0 where masked.

    With `variance`, also divided by its standard deviation; a constant feature is 0.
    """
    n_B11 = xp.maximum(count_B, 1)[:, None, None].astype(x_BLF.dtype)
    mean_B1F = xp.sum(_kept(x_BLF, count_B, xp), axis=1, keepdims=True) / n_B11
    x_BLF = _kept(x_BLF - mean_B1F, count_B, xp)
    if not variance:
        return x_BLF
    variance_B1F = xp.sum(xp.square(x_BLF), axis=1, keepdims=True) / n_B11
    return x_BLF / xp.sqrt(xp.maximum(variance_B1F, 1e-8))


@functools.cache
def mel_filters(fft: int, rate: int, filters: int, low: float, high: float) -> np.ndarray:
    """Triangles of height 1 that overlap by half, equally wide on the mel scale of HTK: (fft // 2 + 1, filters).

        mel(f) = 2595 log10(1 + f / 700),   f in hertz

    Raises:
      ValueError: `high` is not between `low` and half the rate, or a filter contains no frequency of the FFT.
    """
    if not low < high <= rate / 2:
        raise ValueError(
            f"got filters from {low:g} to {high:g} hertz, wanted a range within 0 to {rate / 2:g}, half the sample "
            "rate: change low_frequency or high_frequency."
        )
    mel = lambda f: 2595 * np.log10(1 + np.asarray(f, np.float64) / 700)
    edge_M = 700 * (10 ** (np.linspace(mel(low), mel(high), filters + 2) / 2595) - 1)
    f_K1 = np.arange(fft // 2 + 1)[:, None] * rate / fft
    up_KM = (f_K1 - edge_M[None, :-2]) / np.diff(edge_M)[None, :-1]
    down_KM = (edge_M[None, 2:] - f_K1) / np.diff(edge_M)[None, 1:]
    filters_KM = np.maximum(np.minimum(up_KM, down_KM), 0)
    if (empty := np.flatnonzero(filters_KM.max(axis=0) == 0)).size:
        raise ValueError(
            f"mel_filters={filters} are so narrow that filter {empty[0]} contains none of the {fft // 2 + 1} "
            "frequencies of the FFT: lower mel_filters, or raise fft_length."
        )
    return filters_KM.astype(np.float32)


def _kept(x, length_B, xp):
    """x (B, L, ...) at the first `length_B` places, 0 after them."""
    mask_BL = np.arange(x.shape[1])[None] < length_B[:, None]
    return xp.where(mask_BL.reshape(mask_BL.shape + (1,) * (x.ndim - 2)), x, 0)


def _emphasised(x_BT, a: float, xp):
    return xp.concatenate([x_BT[:, :1], x_BT[:, 1:] - a * x_BT[:, :-1]], axis=1)


def _product(x, w, xp):
    # On a GPU, the default rounds factors to ten bits.
    return x @ w if xp is np else xp.matmul(x, w, precision="highest")


@functools.cache
def _hann(window: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


@functools.cache
def _cosines(filters: int, coefficients: int) -> np.ndarray:
    f_F, m_M1 = np.arange(coefficients), np.arange(filters)[:, None]
    scale_F = np.where(f_F == 0, 1, 2) / filters
    return (np.sqrt(scale_F)[None] * np.cos(np.pi / filters * f_F[None] * (m_M1 + 0.5))).astype(np.float32)
