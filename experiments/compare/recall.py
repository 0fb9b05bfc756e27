"""Associative recall at equal state bytes: which of attention, LSTM, GRU and LRU recalls best?

seqjax compare --config experiments/compare/recall.py --workdir runs/recall

After four pairs of key and value, each key is given again and must be answered with its value. Attention stores one
head of keys and values for each of its 15 tokens and two layers; the recurrent networks are as wide as an equal number
of state bytes allows. Each model is trained on four pairs and also evaluated on two to eight.
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    attention = dict(name="attention", heads=2 if tiny else 4, kv_heads=1)
    return dict(
        base=dict(
            data=dict(name="recall", pairs=2 if tiny else 4, keys=8, values=8, examples=16 if tiny else 512),
            task=dict(name="next_token"),
            model=dict(name="stack", width=8 if tiny else 32, layers=1 if tiny else 2, expansion=1, mixer="gru"),
            optim=dict(warmup_steps=1 if tiny else 50),
            loader=dict(batch_size=8 if tiny else 32),
            train=dict(steps=2 if tiny else 800, log_every=100, eval_every=1 if tiny else 200, checkpoint_every=500),
        ),
        contenders={
            "attention": {"model.mixer": attention},
            "lstm": {"model.mixer": dict(name="lstm")},
            "gru": {"model.mixer": dict(name="gru")},
            "lru": {"model.mixer": dict(name="lru")},
        },
        match="state_bytes",
        target="attention",
        metric="accuracy",
        learning_rates=[1e-3, 3e-3, 1e-2],
        # Attention either learns the task or not: one seed says little about a learning rate.
        learning_rate_seeds=[0] if tiny else [0, 1],
        seeds=[0, 1, 2] if tiny else list(range(8)),  # the smallest number whose p is below 5 % for six pairs
        extrapolate={"data.pairs": [2, 4] if tiny else [2, 4, 6, 8]},
    )
