"""Slots of spoken requests (SNIPS 2017, 39 types): a bidirectional LSTM and a CRF.

seqjax train --config experiments/snips_slots.py --config.data.dir=DATA --workdir runs/snips
seqjax train --config experiments/snips_slots.py:softmax --config.data.dir=DATA --workdir runs/snips_softmax

`softmax` scores each tag by itself, and is decoded under the same constraints. Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "crf"):
    tiny = variant == "tiny"
    files = {split: f"snips/{split}.jsonl.gz" for split in ("train", "validation", "test")}
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="tagged", dir=None, word_column="tokens", tag_column="slots", **files),
            task=dict(
                name="tag",
                head="tokenwise" if variant == "softmax" else "crf",
                monitor="strict_f1",
                constraints="decoding",
            ),
            model=dict(
                name="stack",
                width=8 if tiny else 128,
                layers=1,
                expansion=0,
                dropout=0.3,
                embed=dict(name="words", filters=128, word_dropout=0.1),
                mixer=dict(name="bidirectional", mixer=dict(name="lstm")),
            ),
            optim=dict(learning_rate=3e-3, warmup_steps=1 if tiny else 100, weight_decay=0.1, ema_decay=0.99),
            loader=dict(batch_size=4 if tiny else 32, buckets=(39,) if tiny else (8, 12, 16, 39)),
            train=dict(steps=2 if tiny else 3000, log_every=100, eval_every=None if tiny else 500),
        )
    )
