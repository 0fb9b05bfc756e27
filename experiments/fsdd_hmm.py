"""Spoken digits without a network: a hidden Markov model per digit, and a mixture that ignores the order of the frames.

seqjax train --config experiments/fsdd_hmm.py --config.data.dir=DATA --workdir runs/fsdd_hmm
seqjax train --config experiments/fsdd_hmm.py:mixture --config.data.dir=DATA --workdir runs/fsdd_hmm_mixture
seqjax train --config experiments/fsdd_hmm.py:gmm --config.data.dir=DATA --workdir runs/fsdd_gmm
seqjax train --config experiments/fsdd_hmm.py:hmm-theo --config.data.dir=DATA --workdir runs/fsdd_hmm_theo

13 MFCCs with two deltas, minus their mean over each recording; 15 iterations of EM over the whole training split,
which starts from equal segments of the recordings. `hmm`: 8 states in a row with a diagonal Gaussian each. `mixture`: 5
states with three Gaussians each. `gmm`: eight Gaussians without states. The last command leaves a speaker out of train
and validation, as in experiments/fsdd.py.
Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "hmm"):
    tiny = variant == "tiny"
    kind, _, speaker = variant.partition("-")
    diagonal = dict(name="gaussian", covariance="diagonal")
    several = lambda n: dict(name="mixture", components=n, component=diagonal)
    models = {
        "hmm": dict(name="hmm", states=8, topology="linear", emission=diagonal),
        "mixture": dict(name="hmm", states=5, topology="linear", emission=several(3)),
        "gmm": dict(name="gmm", emission=several(8)),
        "tiny": dict(name="hmm", states=2, topology="linear", emission=diagonal),
    }
    epoch = 1 if tiny else 11 if speaker in ("", "lucas") else 10  # batches
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="fsdd", held_out=speaker or None, features=dict(name="mfcc", normalise="mean")),
            task=dict(name="classification", monitor="loss"),
            model=models[kind],
            learner=dict(name="em", every=epoch),
            loader=dict(batch_size=100 if tiny else 240, buckets=(226,) if tiny else (64, 226)),
            evaluators=["states"],  # for the report
            train=dict(steps=2 if tiny else 15 * epoch, log_every=50 if tiny else epoch),
        )
    )
