"""Quickstart: a GRU and causal attention of equal size on the Python language reference, character by character.

make quickstart
"""

from ml_collections import ConfigDict


def get_config(variant: str = "gru"):
    models = {
        "gru": dict(width=256, layers=1, expansion=0, mixer=dict(name="gru")),
        "attention": dict(width=128, layers=3, mixer=dict(name="attention", heads=4)),
    }
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=128),
            task=dict(name="next_token"),
            model=dict(name="lm", **models[variant]),
            optim=dict(peak=3e-3, warmup=50),
            loader=dict(batch=32),
            train=dict(steps=300, eval_every=100, checkpoint_every=100),
        )
    )
