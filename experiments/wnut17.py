"""Names in posts (WNUT17: emerging and rare entities), from 3,394 posts alone: a bidirectional LSTM and a CRF.

seqjax train --config experiments/wnut17.py --config.data.dir=DATA --workdir runs/wnut17
seqjax train --config experiments/wnut17.py:softmax --config.data.dir=DATA --workdir runs/wnut17_softmax

Papers reach 40 to 50 with word vectors and lists of names from elsewhere; here nothing comes from elsewhere. `softmax`
scores each tag by itself, and is decoded under the same constraints. Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "crf"):
    tiny = variant == "tiny"
    files = dict(train="wnut17train.conll.gz", validation="emerging.dev.conll.gz", test="emerging.test.annotated.gz")
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="tagged", dir=None, **{split: f"wnut17/{file}" for split, file in files.items()}),
            task=dict(
                name="tag",
                head="tokenwise" if variant == "softmax" else "crf",
                monitor="strict_f1",
                constraints="decoding",
                per_type=True,
            ),
            model=dict(
                name="stack",
                width=8 if tiny else 128,
                layers=1,
                expansion=0,
                dropout=0.5,
                embed=dict(name="words", filters=256, word_dropout=0.3),
                mixer=dict(name="bidirectional", mixer=dict(name="lstm")),
            ),
            optim=dict(learning_rate=3e-3, warmup_steps=1 if tiny else 100, weight_decay=0.1, ema_decay=0.99),
            loader=dict(batch_size=4 if tiny else 32, buckets=(105,) if tiny else (16, 24, 32, 48, 105)),
            train=dict(steps=2 if tiny else 1500, log_every=100, eval_every=None if tiny else 250),
        )
    )
