"""Spoken digits from 13 MFCCs and their deltas, 100 frames a second: a bidirectional GRU, or attention.

seqjax train --config experiments/fsdd.py --config.data.dir=DATA --workdir runs/fsdd
seqjax train --config experiments/fsdd.py:attention --config.data.dir=DATA --workdir runs/fsdd_attention
seqjax train --config experiments/fsdd.py:waveform --config.data.dir=DATA --workdir runs/fsdd_waveform
seqjax train --config experiments/fsdd.py:gru-theo --config.data.dir=DATA --workdir runs/fsdd_theo

The first three are the official split: all six speakers are in train and in test. `waveform` is the GRU with the same
frames, made on the device by the embedding. The last one leaves a speaker out of train and validation, and tests on all
recordings of this person; `attention-theo` does so with attention. The speakers are george, jackson, lucas, nicolas,
theo and yweweler; the mean over all six is the number to compare.
Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "gru"):
    tiny = variant == "tiny"
    kind, _, speaker = variant.partition("-")
    attention, waveform = kind == "attention", kind == "waveform"
    both = dict(name="bidirectional", mixer=dict(name="gru"))
    heads = dict(name="attention", heads=4, causal=False, positions="relative")
    frames = dict(name="mfcc", normalise="mean_variance")
    buckets = (226,) if tiny else (3399, 5319, 18262) if waveform else (40, 64, 226)  # the same, in samples and frames
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="fsdd", held_out=speaker or None, features=None if waveform else frames),
            task=dict(name="classification", monitor="loss", head=dict(name="pooled", pool="mean")),
            model=dict(
                name="stack",
                width=8 if tiny else 64,
                layers=2,
                expansion=2 if attention else 0,
                dropout=0.3,
                mixer=heads if attention else both,
                embed=frames if waveform else None,
            ),
            optim=dict(learning_rate=3e-3, warmup_steps=1 if tiny else 100, weight_decay=0.1, ema_decay=0.99),
            loader=dict(batch_size=4 if tiny else 32, buckets=buckets),
            train=dict(steps=2 if tiny else 1000, log_every=100, eval_every=None if tiny else 250),
        )
    )
