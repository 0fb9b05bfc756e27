"""Parts of speech by hidden Markov models: a state for each tag, counted; and states that no tag has ever told.

seqjax train --config experiments/tag_hmm.py --config.data.dir=DATA --workdir runs/tag_hmm
seqjax train --config experiments/tag_hmm.py:unsupervised --config.data.dir=DATA --workdir runs/tag_hmm_unsupervised
seqjax sweep --config experiments/tag_hmm.py:unsupervised --config.data.dir=DATA --sampler grid --workdir runs/restarts

The first counts pairs of tags, and the words of each tag; it reads a rare word as its capitals, digits and suffix. The
second is 40 iterations of EM over the words of train, with as many states as there are tags, from random parameters.
The sweep restarts it from five seeds, and ranks them by the likelihood of validation, without tags.
Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict

from seqjax.search.space import integers


def get_config(variant: str = ""):
    tiny = variant == "tiny"
    epoch = 2 if tiny else 26  # batches
    unsupervised = dict(
        task=dict(name="density"),
        model=dict(name="hmm", states=17),
        learner=dict(name="em", every=epoch),
        evaluators=dict(name="clusters"),
        train=dict(steps=epoch if tiny else 40 * epoch, log_every=epoch, eval_every=None if tiny else 10 * epoch),
    )
    supervised = dict(
        task=dict(name="tag"),
        model=dict(name="hmm"),
        learner=dict(name="count"),
        train=dict(steps=epoch, log_every=epoch),
    )
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="ud", signatures=variant == ""),
            loader=dict(batch_size=64 if tiny else 512, buckets=(160,) if tiny else (24, 48, 160)),
            **(unsupervised if variant else supervised),
        )
    )


def sweep():
    return {"seed": integers(0, 4)}
