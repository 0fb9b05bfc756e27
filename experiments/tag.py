"""Parts of speech of English web text, from words and their characters: a bidirectional LSTM, or attention.

seqjax train --config experiments/tag.py --config.data.dir=DATA --workdir runs/tag
seqjax train --config experiments/tag.py:attention --config.data.dir=DATA --workdir runs/tag_attention
seqjax train --config experiments/tag.py:crf --config.data.dir=DATA --workdir runs/tag_crf

`crf` is the LSTM with a conditional random field on top, more filters over characters, and words hidden at random.
Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config(variant: str = ""):
    tiny, crf = variant == "tiny", variant == "crf"
    both = dict(name="bidirectional", mixer=dict(name="lstm"))
    mixer = dict(name="attention", heads=4, causal=False, positions="relative")
    attention = dict(layers=2, expansion=2, mixer=mixer)
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="ud"),
            task=dict(name="tag", head="crf" if crf else "tokenwise"),
            model=dict(
                name="stack",
                width=8 if tiny else 128,
                dropout=0.3,
                embed=dict(name="words", filters=256, word_dropout=0.2) if crf else None,
                **(attention if variant == "attention" else dict(layers=1, expansion=0, mixer=both)),
            ),
            optim=dict(
                learning_rate=2e-3 if variant == "attention" else 3e-3,
                warmup_steps=1 if tiny else 100,
                weight_decay=0.1,
                ema_decay=0.99,
            ),
            loader=dict(batch_size=4 if tiny else 32, buckets=(160,) if tiny else (16, 24, 32, 48, 64, 160)),
            train=dict(
                steps=2 if tiny else 4000 if variant == "attention" else 2000,
                log_every=100,
                eval_every=None if tiny else 500,
            ),
        )
    )
