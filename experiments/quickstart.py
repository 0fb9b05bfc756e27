"""Quickstart: a GRU and causal attention of equal size on the Python language reference, character by character.

make quickstart

    seqjax train --config experiments/quickstart.py:gru --workdir runs/quickstart/gru
    seqjax train --config experiments/quickstart.py:attention --workdir runs/quickstart/attention

Equal parameters (within 1 %), the same batches in the same order, the same number of steps.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "gru"):
    tiny = variant == "tiny"
    model, peak = {
        "gru": (dict(width=278, layers=1, expansion=0, mixer=dict(name="gru")), 5e-3),
        "attention": (dict(width=128, layers=3, expansion=3, mixer=dict(name="attention", heads=4)), 3e-3),
        "tiny": (dict(width=8, layers=1, expansion=0, mixer=dict(name="gru")), 5e-3),
    }[variant]
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=16 if tiny else 128),
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="stack", **model),
            optim=dict(learning_rate=peak, warmup_steps=2 if tiny else 100),
            loader=dict(batch_size=4 if tiny else 16),
            train=dict(steps=2 if tiny else 800, log_every=25, eval_every=400, checkpoint_every=200),
        )
    )
