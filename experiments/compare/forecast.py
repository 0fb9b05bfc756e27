"""The next 96 hours of ETTh1 from the last 336: a linear map, GRU, LRU and attention.

SEQJAX_DATA=DATA seqjax compare --config experiments/compare/forecast.py --workdir runs/forecast
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    stack = dict(name="stack", width=16 if tiny else 64, layers=1, expansion=2, dropout=0.2)
    return dict(
        base=dict(
            data=dict(name="ett", **(dict(lookback=24, horizon=8) if tiny else {})),
            task=dict(name="forecast"),
            model=dict(name="linear"),
            optim=dict(warmup_steps=1 if tiny else 100, final_scale=0.01),
            loader=dict(batch_size=64),
            train=dict(steps=2 if tiny else 1500, log_every=100),
        ),
        contenders={
            "linear": {},
            "gru": {"model": {**stack, "mixer": "gru"}},
            "lru": {"model": {**stack, "mixer": "lru"}},
            "attention": {"model": {**stack, "mixer": dict(name="attention", heads=4)}},
        },
        match=None,
        learning_rates=[1e-3, 3e-3],
        seeds=[0, 1, 2],
    )
