"""Digits as sequences of 64 pixels, at equal parameters: attention, LSTM, GRU and LRU.

seqjax compare --config experiments/compare/digits.py --workdir runs/digits

Each model has as many parameters as two blocks of attention, 64 wide with an MLP, within 2 %, and takes the mean over
time. Loss chooses checkpoints and learning rates, because the accuracy on 168 validation digits has too many ties.
Needs scikit-learn (extra `eval`).
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    return dict(
        base=dict(
            data=dict(name="digits"),
            task=dict(name="classification", monitor="loss", head=dict(name="pooled", pool="mean")),
            model=dict(
                name="stack",
                width=16 if tiny else 64,
                layers=1 if tiny else 2,
                expansion=2,
                dropout=0.1,
                mixer="gru",
            ),
            optim=dict(warmup_steps=1 if tiny else 50, weight_decay=0.1),
            loader=dict(batch_size=8 if tiny else 32),
            train=dict(steps=2 if tiny else 800, log_every=100, eval_every=1 if tiny else 200, checkpoint_every=400),
        ),
        contenders={
            "attention": {"model.mixer": dict(name="attention", heads=4)},
            "lstm": {"model.mixer": dict(name="lstm")},
            "gru": {"model.mixer": dict(name="gru")},
            "lru": {"model.mixer": dict(name="lru")},
        },
        match="params",
        target="attention",
        tolerance=0.1 if tiny else 0.02,
        metric="accuracy",
        learning_rates=[1e-3, 3e-3, 1e-2],
        seeds=[0, 1, 2] if tiny else list(range(8)),  # the smallest number whose p is below 5 % for six pairs
    )
