"""Copy: read up to 16 random symbols, then write them again. One GRU layer.

seqjax train --config experiments/copy.py --workdir runs/copy

2 CPU cores, 1 min, seed 0: validation accuracy 0.888 per symbol, 0.086 per row, that is, without
an error in the row (guessing a symbol: 0.125).
"""

from ml_collections import ConfigDict


def get_config(variant: str = ""):
    tiny = variant == "tiny"
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="copy", length=4 if tiny else 16, symbols=8),
            task=dict(name="next_token"),
            model=dict(name="stack", width=8 if tiny else 128, layers=1, expansion=0, mixer=dict(name="gru")),
            optim=dict(learning_rate=3e-3, warmup_steps=2 if tiny else 100),
            loader=dict(batch_size=8 if tiny else 64),
            train=dict(steps=2 if tiny else 3000, log_every=100, eval_every=500, checkpoint_every=500),
        )
    )
