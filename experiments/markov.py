"""Counting: an n-gram model of characters, beside the GRU and the attention of the quickstart.

seqjax train --config experiments/markov.py --workdir runs/markov
seqjax train --config experiments/markov.py:small --workdir runs/markov-small
seqjax evaluate --workdir runs/markov --split test

Python 3.11, windows of 128 characters, each from its start. Bits per character on validation, by the number of
characters that the model sees:

    order                  3      5      7      9     12     15     19     24     30
    n-grams, thousands    46    186    439    784  1,420  2,143  3,176  4,526  6,191
    additive (0.01)    2.150  2.183  2.366  2.504  2.613  2.662  2.675  2.682  2.683
    witten_bell        2.076  1.982  2.148  2.328  2.527  2.646  2.708  2.738  2.752
    stupid_backoff     2.133  1.884  1.961  2.095  2.265  2.361  2.414  2.438  2.447
    kneser_ney         2.038  1.822  1.795  1.771  1.743  1.723  1.701  1.696  1.692
    modified           2.018  1.767  1.725  1.705  1.694  1.685  1.673  1.670  1.668

The default is modified Kneser-Ney with 19 characters, as longer contexts gain less than 0.006: 1.709 on test, 3,175,900
n-grams in 54 MB. `:small` has fewer n-grams than the networks of the quickstart have parameters: order 7, 1.762 on
test, 438,834 n-grams in 6 MB. Counting takes 0.6 s of CPU, the command 6 s. It has no randomness.
"""

from ml_collections import ConfigDict


def get_config(variant: str = ""):
    tiny = variant == "tiny"
    order = {"": 19, "small": 7, "tiny": 2}[variant]
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=16 if tiny else 128),
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="markov", order=order, smoothing="modified_kneser_ney"),
            learner=dict(name="fixed"),
            loader=dict(batch_size=4 if tiny else 16),
            train=dict(steps=1),
        )
    )
