"""One of V values, with probabilities from a network."""

from flax import linen as nn

from seqjax.emissions._discrete import Discrete
from seqjax.emissions._network import Network
from seqjax.types import Count, Natural


class Neural(Discrete, kw_only=True):
    """Neural: a probability for each of V ids, from an embedding of the state, as in a neural hidden Markov model.

        p(x = v | z = k) = softmax_v(E_v . f(s_k) + b_v)
        f(s) = h_n,  h_0 = s,  h_i = norm(h_{i-1} + W_i2 relu(W_i1 h_{i-1}))      with biases

    States share what the network knows, and many states cost few parameters: `width` for each. `layers` is n; with none
    of them f(s) = s. As `categorical`, it reads tokens, or one real column of ids below `size`. The probabilities have
    no maximum in closed form, so it is learnt by `gradient` alone, and starts at random.

    Tran et al. 2016, "Unsupervised neural hidden Markov models", https://arxiv.org/abs/1609.09007. Chiu and Rush 2020,
    "Scaling hidden Markov language models", https://arxiv.org/abs/2011.04640.

    Raises:
      ValueError: there are several columns, or a real one without `size`.
    """

    width: Count = 64
    layers: Natural = 1

    @nn.nowrap
    def make(self, **kwargs) -> Network:
        """Its network."""
        return Network(rows=self.states, columns=self.categories, width=self.width, layers=self.layers, **kwargs)

    @property
    def free_parameters(self):
        """Those of the network, but no more than a free table has."""
        return min(self.make(parent=None).size, self.states * (self.categories - 1))

    def setup(self):
        self.network = self.make()
        self.logits = self.network()

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init=1):
        """Random ones stay."""
        return params


Emission = Neural
