"""Characters by counting, hidden states, recurrence and attention, at equal parameters or equal bytes.

seqjax compare --config experiments/compare/classical.py --workdir runs/classical
seqjax compare --config experiments/compare/classical.py:bytes --workdir runs/classical-bytes

The Markov chain decides the size: the others have as many parameters as it has n-grams of up to four characters, or
(`bytes`) as many bytes as its table, indices included, within 5 %. It is counted once. The hidden Markov model is
learnt by expectation maximisation, which has no learning rate; GRU and attention are learnt by gradients.
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    return dict(
        base=dict(
            data=dict(name="reference", length=16 if tiny else 128),
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="stack", width=16, layers=1 if tiny else 2, expansion=2, mixer="gru"),
            optim=dict(warmup_steps=1 if tiny else 50),
            loader=dict(batch_size=64 if tiny else 16),
            train=dict(steps=2 if tiny else 300, log_every=100, eval_every=1 if tiny else 100),
        ),
        contenders={
            "markov": {
                "model": dict(name="markov", order=1 if tiny else 3),
                "learner": "fixed",
                "optim": {},
                "train": dict(steps=1),
            },
            "hmm": {"model": dict(name="hmm", states=1), "learner": dict(name="em", decay=0.7), "optim": {}},
            "gru": {},
            "attention": {"model.mixer": dict(name="attention", heads=2)},
        },
        match="param_bytes" if variant == "bytes" else "params",
        target="markov",
        tolerance=0.5 if tiny else 0.05,
        learning_rates=[3e-3, 1e-2, 3e-2],
        seeds=[0, 1, 2],
    )
