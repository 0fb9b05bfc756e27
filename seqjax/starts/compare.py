"""A fair comparison of attention, a GRU and an RG-LRU: equal parameters, each at its own best learning rate."""

# See the sizes and the plan, then run it. The same command resumes a stopped comparison; report.html is the result:
#   seqjax compare --config compare.py --dry_run
#   seqjax compare --config compare.py --workdir runs/compare
#   seqjax compare --config compare.py --workdir runs/compare --slots 2          (two runs at a time)
#   tensorboard --logdir runs          (also while it runs; pip install tensorboard)


def get_comparison():
    """What `seqjax compare` compares."""
    return dict(
        base=dict(  # the config that all have in common
            data=dict(name="reference", length=64),  # your own: dict(name="text", path="text.txt", length=64)
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="stack", width=64, layers=2, expansion=2, mixer="gru"),
            optim=dict(warmup_steps=50),
            loader=dict(batch_size=16),
            train=dict(steps=600, log_every=100, eval_every=200, checkpoint_every=300),
        ),
        contenders={  # the keys in which each differs: any key of the model
            "attention": {"model.mixer": dict(name="attention", heads=4)},
            "gru": {"model.mixer": dict(name="gru")},
            "rg_lru": {"model.mixer": dict(name="rg_lru", heads=1)},
        },
        match="params",  # or "param_bytes", "flops", "state_bytes", "step_time": model.width is chosen to match it
        target="attention",  # its size stays; the others get the same size
        learning_rates=[1e-3, 3e-3, 1e-2],  # each contender uses the one that is best on validation
        seeds=[0, 1, 2],  # at least three; seven can tell three contenders apart
    )
