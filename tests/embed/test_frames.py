"""Log-mel frames and MFCCs, against scipy and loops; numpy and jit give the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal

from seqjax import spec
from seqjax.embed import log_mel, mfcc
from seqjax.ops import spectral

WAVE = dict(inputs=spec.features(1), width=1)
T, LENGTHS = 900, np.array([900, 421, 200, 90, 1, 0])  # 90 and 1: shorter than a window


@pytest.fixture(scope="module")
def waves():
    """Chirps in noise, NaN after their ends, and silence at the end of the first."""
    draw, t = np.random.default_rng(0), np.arange(T) / 8000
    x_BT = np.stack([scipy.signal.chirp(t, 200, T / 8000, 700 * i) for i in range(1, 7)])
    x_BT = 0.3 * x_BT + 0.01 * draw.normal(size=x_BT.shape)
    x_BT[0, 500:] = 0
    return np.where(np.arange(T) < LENGTHS[:, None], x_BT, np.nan).astype(np.float32)


def mel_loop(x_T, module):
    """The log-mel frames of one sound."""
    W, hop, fft, rate = module.window_length, module.hop_length, module.fft_length, module.sample_rate
    y_T = scipy.signal.lfilter([1, -module.pre_emphasis], [1], x_T.astype(float))
    y_T = np.pad(y_T, (0, max(W - len(y_T), 0)))
    edges = 2595 * np.log10(1 + np.array([module.low_frequency, module.high_frequency or rate / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(*edges, module.mel_filters + 2) / 2595) - 1)
    triangles = [
        np.interp(np.arange(fft // 2 + 1) * rate / fft, edges[m : m + 3], [0, 1, 0]) for m in range(len(edges) - 2)
    ]
    window, out = scipy.signal.get_window("hann", W), []
    for begin in range(0, len(y_T) - W + 1, hop):
        power = np.abs(scipy.fft.rfft(window * y_T[begin : begin + W], n=fft)) ** 2
        out.append([np.log(max(triangle @ power, module.floor)) for triangle in triangles])
    return np.array(out)


def loop(x_T, module):
    """The frames of one sound, before the linear map."""
    x_LF = mel_loop(x_T, module)
    if isinstance(module, mfcc.Embed):
        parts = [scipy.fft.dct(x_LF, type=2, norm="ortho", axis=1)[:, : module.coefficients]]
        for _ in range(module.deltas):
            padded = np.pad(parts[-1], ((2, 2), (0, 0)), mode="edge")  # savgol_filter wants five frames
            parts.append(scipy.signal.savgol_filter(padded, 5, polyorder=1, deriv=1, axis=0, mode="nearest")[2:-2])
        x_LF = np.concatenate(parts, axis=1)
    if module.normalise != "none":
        x_LF = x_LF - x_LF.mean(axis=0)
    return x_LF / np.maximum(x_LF.std(axis=0), 1e-4) if module.normalise == "mean_variance" else x_LF


@pytest.mark.parametrize(
    "module",
    [
        log_mel.Embed(**WAVE, normalise="none", mel_filters=20, low_frequency=100.0, high_frequency=3000.0, floor=1e-4),
        mfcc.Embed(**WAVE, normalise="mean"),
        mfcc.Embed(**WAVE, normalise="mean_variance", pre_emphasis=0.0, deltas=1, window_length=256, hop_length=77),
    ],
    ids=["log_mel", "mfcc", "scaled"],
)
def test_frames_are_those_of_scipy_in_numpy_and_in_jit(module, waves):
    """Each row alone and in a padded batch, whatever the padding contains."""
    batch, mask_BL = jax.device_get(jax.jit(module.frames)(waves, LENGTHS))
    for x_T, length, x_LF, mask_L in zip(waves, LENGTHS, batch, mask_BL, strict=True):
        assert not np.any(x_LF[~mask_L])
        if length == 0:
            assert not mask_L.any()
            continue
        wanted = loop(x_T[:length], module)
        (alone,), (all_real,) = module.frames(x_T[None, :length], np.array([length]), np)
        assert all_real.all() and alone.dtype == np.float32
        # A standard deviation of nearly nothing magnifies rounding: of one or two frames, say.
        atol = 1e-4 * max(1, np.abs(wanted).max())
        np.testing.assert_allclose(alone, wanted, atol=atol)
        np.testing.assert_allclose(x_LF[mask_L], wanted, atol=atol)
        assert mask_L.sum() == len(wanted) == spectral.frame_count(int(length), module.window_length, module.hop_length)


def test_silence_has_a_finite_gradient(waves):
    """So have a row without samples and one frame alone."""
    module = mfcc.Embed(**WAVE, normalise="mean_variance")
    x_BT = jnp.where(jnp.isnan(waves), 0, waves).at[1].set(0.0)
    weight = jax.random.normal(jax.random.key(0), (9, 39))
    loss = lambda x_BT: jnp.sum(module.frames(x_BT, LENGTHS)[0] * weight[None])
    by_x = np.asarray(jax.jit(jax.grad(loss))(x_BT))
    assert np.isfinite(by_x).all() and np.any(by_x[0]) and not np.any(by_x[1])
    assert not np.any(by_x[np.arange(T) >= LENGTHS[:, None]])


def test_filters_share_the_power_between_their_centres():
    """Triangles that overlap by half add up to 1, and their centres are equally far apart in mel."""
    filters_KM = spectral.mel_filters(4096, 8000, 20, 100.0, 3500.0)
    f_K = np.arange(2049) * 8000 / 4096
    centre_M = f_K[np.argmax(filters_KM, axis=0)]
    inside = (f_K > centre_M[0] + 2) & (f_K < centre_M[-1] - 2)
    np.testing.assert_allclose(filters_KM.sum(axis=1)[inside], 1, atol=1e-5)
    np.testing.assert_allclose(
        np.diff(2595 * np.log10(1 + centre_M / 700)), np.diff(2595 * np.log10(1 + centre_M / 700)).mean(), atol=4
    )
    assert not np.any(filters_KM[(f_K <= 100) | (f_K >= 3500)])


def test_options_that_do_not_fit():
    for make, options, words in (
        (log_mel.Embed, dict(inputs=spec.features(2)), r"LogMel reads a waveform.* features has \(2,\) per step"),
        (log_mel.Embed, dict(inputs=spec.tokens(2)), "LogMel embeds features .real., but the data have tokens"),
        (log_mel.Embed, dict(window_length=300), "window_length=300 is longer than fft_length=256"),
        (log_mel.Embed, dict(mel_filters=120), "mel_filters=120 are so narrow that filter 0 contains none"),
        (log_mel.Embed, dict(high_frequency=5000.0), "from 0 to 5000 hertz, wanted a range within 0 to 4000"),
        (log_mel.Embed, dict(low_frequency=4000.0), "from 4000 to 4000 hertz"),
        (mfcc.Embed, dict(coefficients=27), "coefficients=27 of mel_filters=26"),
    ):
        with pytest.raises(ValueError, match=words):
            make(**WAVE | options)
    module = log_mel.Embed(**WAVE)
    with pytest.raises(ValueError, match=r"features: got float32\[2, 300\], the embedding wants \[B, samples, 1\]"):
        module.init(jax.random.key(0), jnp.ones((2, 300)))
