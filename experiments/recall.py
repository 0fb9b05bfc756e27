"""Associative recall: after eight key-value pairs, answer each key with its value. Attention against the GRU.

seqjax train --config experiments/recall.py:attention --workdir runs/recall/attention
seqjax train --config experiments/recall.py:gru --workdir runs/recall/gru

2 CPU cores, 1 min each, seed 0: validation accuracy 1.000 with attention, 0.414 with the GRU
(always answering the most frequent value: about 0.17).
"""

from ml_collections import ConfigDict


def get_config(variant: str = "attention"):
    tiny = variant == "tiny"
    mixers = {
        "tiny": dict(name="attention", heads=2),
        "attention": dict(name="attention", heads=2),
        "gru": dict(name="gru"),
    }
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="recall", pairs=8, keys=16, values=16),
            task=dict(name="next_token"),
            model=dict(name="stack", width=8 if tiny else 64, layers=2, expansion=2, mixer=mixers[variant]),
            optim=dict(learning_rate=3e-3, warmup_steps=2 if tiny else 100),
            loader=dict(batch_size=8 if tiny else 64),
            train=dict(steps=2 if tiny else 2000, log_every=100, eval_every=500, checkpoint_every=500),
        )
    )
