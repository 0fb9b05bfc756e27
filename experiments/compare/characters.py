"""Characters at equal parameters: attention, LSTM, GRU and RG-LRU on the Python language reference.

seqjax compare --config experiments/compare/characters.py --workdir runs/characters

Each model has as many parameters as two blocks of attention, 64 wide with an MLP, within 2 %. Models are trained on
windows of 64 characters and also evaluated on longer ones. Compare numbers only within one version of Python: the text
differs between versions.
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    return dict(
        base=dict(
            data=dict(name="reference", length=64),
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="stack", width=16 if tiny else 64, layers=1 if tiny else 2, expansion=2, mixer="gru"),
            optim=dict(warmup_steps=1 if tiny else 50),
            loader=dict(batch_size=64 if tiny else 16),
            train=dict(steps=2 if tiny else 600, log_every=100, eval_every=1 if tiny else 200, checkpoint_every=300),
        ),
        contenders={
            "attention": {"model.mixer": dict(name="attention", heads=4)},
            "lstm": {"model.mixer": dict(name="lstm")},
            "gru": {"model.mixer": dict(name="gru")},
            "rg_lru": {"model.mixer": dict(name="rg_lru", heads=1)},
        },
        match="params",
        target="attention",
        learning_rates=[1e-3, 3e-3, 1e-2],
        seeds=[0, 1, 2] if tiny else list(range(8)),  # the smallest number whose p is below 5 % for six pairs
        extrapolate={"data.length": [64, 128] if tiny else [64, 128, 256]},
    )
