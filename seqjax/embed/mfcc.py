"""Frames of a waveform: mel-frequency cepstral coefficients."""

from typing import Annotated

from flax import linen as nn

from seqjax.embed.log_mel import LogMel
from seqjax.ops import spectral
from seqjax.types import Count, Natural, Range


class Mfcc(LogMel, kw_only=True):
    """MFCC: mel-frequency cepstral coefficients, frame by frame, and a linear map of them.

        c = DCT(log-mel frame)[:coefficients],   x = W (f - mean f) + b,   f = [c, delta c, delta delta c]

    The DCT is the orthonormal one of type II, so the first coefficient is the loudness. `deltas`: 1 appends to each
    frame the slope of each coefficient over five frames, 2 also the slope of that, 0 neither. The other options are
    those of `log_mel`; each feature is normalised.

    Raises:
      ValueError: as `log_mel`, and for more coefficients than filters.

    Davis and Mermelstein 1980; Furui 1986, "Speaker-independent isolated word recognition using dynamic features of
    speech spectrum", both in IEEE Transactions on Acoustics, Speech, and Signal Processing, 28 and 34.
    """

    coefficients: Count = 13
    deltas: Annotated[Natural, Range(most=2)] = 2

    def __post_init__(self):
        super().__post_init__()
        if self.coefficients > self.mel_filters:
            raise ValueError(
                f"coefficients={self.coefficients} of mel_filters={self.mel_filters}: there are as many as filters at "
                "most, lower coefficients."
            )

    @nn.nowrap
    def features(self, mel_BLM, count_B, xp):
        parts = [spectral.cepstrum(mel_BLM, self.coefficients, xp)]
        for _ in range(self.deltas):
            parts.append(spectral.deltas(parts[-1], count_B, xp))
        return xp.concatenate(parts, axis=-1)


Embed = Mfcc
