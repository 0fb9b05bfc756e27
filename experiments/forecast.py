"""Four days of seven measurements of a transformer from the two weeks before: a linear map, the model to beat.

seqjax train --config experiments/forecast.py --config.data.dir=DATA --workdir runs/forecast

The checkpoint is the one after the last step, as the learning rate falls to almost 0: validation months differ so much
from train that their error chooses a checkpoint that has hardly learnt. Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config(variant: str = ""):
    tiny = variant == "tiny"
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="ett"),
            task=dict(name="forecast"),
            model=dict(name="linear"),
            optim=dict(learning_rate=1e-3, warmup_steps=1 if tiny else 100, final_scale=0.01),
            loader=dict(batch_size=8 if tiny else 256),
            train=dict(steps=2 if tiny else 3000, log_every=100),
        )
    )
