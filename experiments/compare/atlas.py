"""Twelve ways to mix a sequence on four tasks at equal parameters: what recalls, what copies, what keeps a state?

seqjax compare --config experiments/compare/atlas.py --workdir runs/atlas

Recall wants a look-up by content, copy wants to store all that was read, parity one bit that every symbol may flip, and
s3 (permutations of three things) a state for which the order of the symbols matters. Every model has two layers, is
trained on short examples, and is also evaluated on longer ones. Variants: `gpu` has larger models, the lengths and
steps of which papers report, and more tasks; `state_bytes` is `gpu` at equal state bytes instead of parameters.
"""


def get_comparison(variant: str = ""):
    tiny, large = variant == "tiny", variant in ("gpu", "state_bytes")
    heads = 4 if large else 1
    mixers = {
        "attention": dict(name="attention", heads=4 if large else 2),
        "hyena": dict(name="hyena", filter_width=64 if large else 16),
        "rnn": dict(name="rnn"),
        "lstm": dict(name="lstm"),
        "lru": dict(name="lru"),
        "s4d": dict(name="s4d"),
        "mamba2": dict(name="mamba2", heads=heads),
        "gla": dict(name="gla", heads=heads),
        "mlstm": dict(name="mlstm", heads=heads),
        "delta_net": dict(name="delta_net", heads=heads, beta_max=2.0),
        "delta_net-positive": dict(name="delta_net", heads=heads, beta_max=1.0),
        "rwkv7": dict(name="rwkv7", heads=heads, rank=32 if large else 8),
    }
    if tiny:
        mixers = {name: mixers[name] for name in ("attention", "rnn", "lru", "delta_net")}
    words = dict(length=32) if large else dict(length=2) if tiny else dict(length=16)
    recall = dict(pairs=16, keys=64, values=64) if large else dict(pairs=2 if tiny else 4, keys=16, values=16)
    tasks = {
        "recall": dict(name="recall", **recall),
        "copy": dict(name="copy", symbols=16 if large else 8, **words),
        "parity": dict(name="parity", **words),
        "s3": dict(name="s5", degree=3, generators="all" if large else "two", length=16 if large else 2 if tiny else 8),
    }
    if large:
        tasks |= {
            "modular_addition": dict(name="modular_addition", **words),
            "s5": dict(name="s5", length=16),
            "dyck": dict(name="dyck", **words),
        }
    if tiny:
        tasks = {name: tasks[name] for name in ("recall", "parity")}
    size = lambda task: "pairs" if task == "recall" else "length"
    times = {"copy": (2,), "recall": (2,)}  # how many times longer; the others: 2 and 4
    return dict(
        base=dict(
            data=dict(name="recall", examples=16 if tiny else 512),
            task=dict(name="next_token"),
            model=dict(name="stack", width=128 if large else 8 if tiny else 32, layers=2, expansion=2, mixer="gru"),
            optim=dict(warmup_steps=500 if large else 1 if tiny else 50),
            loader=dict(batch_size=256 if large else 8 if tiny else 32),
            train=dict(
                steps=20_000 if large else 2 if tiny else 800,
                log_every=200,
                eval_every=2000 if large else 1 if tiny else 200,
                checkpoint_every=2000 if large else None,
            ),
        ),
        vary={name: {"data": task} for name, task in tasks.items()},
        contenders={name: {"model.mixer": mixer} for name, mixer in mixers.items()},
        match="state_bytes" if variant == "state_bytes" else "params",
        target="attention",
        tolerance=0.3 if tiny else 0.05,
        metric="accuracy",
        learning_rates=[1e-3, 3e-3, 1e-2],
        seeds=[0, 1, 2],
        extrapolate={
            name: {f"data.{size(name)}": [n * tasks[name][size(name)] for n in times.get(name, (2, 4))]}
            for name in tasks
        },
    )
