"""Frames of a waveform: the logarithms of the power in mel filters."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax import masks
from seqjax.embed._base import Embed
from seqjax.mixers._layers import Dense
from seqjax.ops import spectral
from seqjax.types import Count, Fraction, Injected, NonNegative, Positive


class LogMel(Embed, kw_only=True):
    """Log-mel: the logarithms of the power in mel filters, frame by frame, and a linear map of them.

        y_t = s_t - a s_{t-1},   m = log max(|FFT(hann * frame(y))|^2 F, floor),   x = W (m - mean m) + b

    It turns a waveform, one number per sample, into L = 1 + floor((T - window_length) / hop_length) frames of T real
    samples; the mixers see these frames and their mask.

    `sample_rate`: samples per second. `window_length`, `hop_length`, `fft_length`: samples of a frame, from one frame
    to the next, and of the FFT, which fills the frame up with zeros. `mel_filters`: how many triangles of height 1, on
    the mel scale of HTK, lie between `low_frequency` and `high_frequency` (hertz; None: half the sample rate).
    `pre_emphasis` is a above; `floor` is the least power. `normalise`: subtracts the mean over the real frames of each
    sound ("mean"), also divides by the standard deviation ("mean_variance"), or does neither ("none"). A sound of one
    frame is 0 after that.

    Raises:
      ValueError: the data have more than one number per step; the window is longer than the FFT; the filters are not
        within the frequencies, or too narrow.

    Davis and Mermelstein 1980, "Comparison of parametric representations for monosyllabic word recognition in
    continuously spoken sentences", IEEE Transactions on Acoustics, Speech, and Signal Processing 28.
    """

    field: Annotated[str, Injected] = "features"
    sample_rate: Count = 8000
    window_length: Count = 200
    hop_length: Count = 80
    fft_length: Count = 256
    mel_filters: Count = 26
    low_frequency: NonNegative = 0.0
    high_frequency: Positive | None = None
    pre_emphasis: Fraction = 0.97
    floor: Positive = 1e-6
    normalise: Literal["none", "mean", "mean_variance"] = "mean"

    kind = "real"

    def __post_init__(self):
        super().__post_init__()
        if (shape := self.inputs.fields[self.field].shape) != (1,):
            raise ValueError(
                f"{type(self).__name__} reads a waveform, one number per sample, but {self.field} has {shape} per "
                "step: choose another model.embed, or give the waveform (data.features=None)."
            )
        if self.window_length > self.fft_length:
            raise ValueError(
                f"window_length={self.window_length} is longer than fft_length={self.fft_length}: raise fft_length."
            )
        self.filters()

    @nn.nowrap
    def filters(self) -> np.ndarray:
        """The mel filters: (frequencies, filters)."""
        high = self.sample_rate / 2 if self.high_frequency is None else self.high_frequency
        return spectral.mel_filters(self.fft_length, self.sample_rate, self.mel_filters, self.low_frequency, high)

    @nn.nowrap
    def frames(self, x_BT, length_B, xp=jnp):
        """The frames of waveforms, before the linear map, in float32: (B, T) -> (B, L, F), and their mask (B, L).

        Needs no parameters. `length_B`: how many samples are real. `xp`: the module that computes, numpy or jax.numpy.
        """
        mel_BLM, mask_BL = spectral.log_mel(
            x_BT,
            length_B,
            self.filters(),
            window=self.window_length,
            hop=self.hop_length,
            fft=self.fft_length,
            pre_emphasis=self.pre_emphasis,
            floor=self.floor,
            xp=xp,
        )
        count_B = xp.sum(mask_BL, axis=1)
        x_BLF = self.features(mel_BLM, count_B, xp)
        if self.normalise != "none":
            x_BLF = spectral.normalised(x_BLF, count_B, self.normalise == "mean_variance", xp)
        return x_BLF, mask_BL

    @nn.nowrap
    def features(self, mel_BLM, count_B, xp):
        """What is normalised: here the logarithms themselves."""
        return mel_BLM

    def setup(self):
        self.project = Dense(self.width, dtype=self.dtype)
        nn.share_scope(self, self.project)

    def __call__(self, x, mask_BL=None, deterministic=True):
        if x.ndim != 3 or x.shape[-1] != 1:
            raise ValueError(f"{self.field}: got {x.dtype}{list(x.shape)}, the embedding wants [B, samples, 1].")
        x_BT, length_B = _leading(x[..., 0].astype(jnp.float32), mask_BL)
        frames_BLF, frames_mask_BL = self.frames(x_BT, length_B)
        return self.project(frames_BLF), None if mask_BL is None else frames_mask_BL


def _leading(x_BT, mask_BT):
    """The real samples of each row, moved to its beginning, and how many they are: frames have no holes."""
    B, T = x_BT.shape
    if mask_BT is None:
        return x_BT, jnp.full(B, T)
    place_BT = jnp.where(mask_BT, masks.positions((B, T), mask_BT), T)
    move = lambda x_T, place_T: jnp.zeros_like(x_T).at[place_T].set(x_T, mode="drop")
    return jax.vmap(move)(x_BT, place_BT), jnp.sum(mask_BT, axis=1)  # by row: rows may be on several devices


Embed = LogMel
