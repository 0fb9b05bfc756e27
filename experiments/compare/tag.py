"""Parts of speech at equal parameters: attention, LSTM, GRU and LRU, each over the whole sentence.

SEQJAX_DATA=DATA seqjax compare --config experiments/compare/tag.py --workdir runs/tag
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    both = lambda name: {"model.mixer": dict(name="bidirectional", mixer=dict(name=name))}
    return dict(
        base=dict(
            data=dict(name="ud"),
            task=dict(name="tag"),
            model=dict(name="stack", width=16 if tiny else 128, layers=1 if tiny else 2, dropout=0.3, mixer="gru"),
            optim=dict(warmup_steps=1 if tiny else 100, weight_decay=0.1, ema_decay=0.99),
            loader=dict(batch_size=128 if tiny else 32, buckets=(24, 160) if tiny else (16, 24, 32, 48, 64, 160)),
            train=dict(
                steps=2 if tiny else 2000, log_every=100, eval_every=None if tiny else 500, checkpoint_every=1000
            ),
        ),
        contenders={
            "attention": {"model.mixer": dict(name="attention", heads=4, causal=False, positions="relative")},
            "lstm": both("lstm"),
            "gru": both("gru"),
            "lru": both("lru"),
        },
        match="params",
        target="attention",
        tolerance=0.1 if tiny else 0.02,
        learning_rates=[1e-3, 3e-3],
        seeds=[0, 1, 2],
    )
