"""The minimal long short-term memory."""

import jax

from seqjax.mixers.min_gru import MinGRU


class MinLSTM(MinGRU):
    """minLSTM: an LSTM whose gates and candidate do not depend on the state, so that the recurrence is linear.

        f   = sigmoid(W_f x_t + b_f),   i = sigmoid(W_i x_t + b_i)
        n   = f(W_n x_t + b_n)
        h_t = f / (f + i) * h_{t-1} + i / (f + i) * n,   y_t = h_t

    The two gates are divided by their sum, so that the scale of the state does not depend on time. f / (f + i) is
    computed as sigmoid(softplus(-~i) - softplus(-~f)), because the quotient is 0 / 0 when both gates are shut.
    The options are those of `MinGRU`. State: h (B, D), float32.

    Feng et al. 2024, "Were RNNs all we needed?", arXiv:2410.01201. The paper also widens the state and projects it
    back; this mixer does not.
    """

    gates = 2

    def balance(self, f_BLN, i_BLN):
        return jax.nn.softplus(-f_BLN) - jax.nn.softplus(-i_BLN)


Mixer = MinLSTM
