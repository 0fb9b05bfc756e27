"""A small GRU on the characters of the Python language reference, which needs no download."""

# Train it. The same command resumes a run that was stopped:
#   seqjax train --config quickstart.py --workdir runs/quickstart
# Look at it:
#   seqjax evaluate --workdir runs/quickstart --split test
#   seqjax generate --workdir runs/quickstart --prompt "The "
#   seqjax report runs/quickstart
#   tensorboard --logdir runs          (also while it trains; pip install tensorboard)
# Change any key here or on the command line. All keys with their values, and all mixers:
#   seqjax train --config quickstart.py --config.model.mixer=lstm --config.optim.learning_rate=3e-3 --workdir runs/lstm
#   seqjax train --config quickstart.py --print_config
#   seqjax list mixers

from ml_collections import ConfigDict


def get_config():
    """What `seqjax train` trains."""
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=128),  # predictions in a window
            task=dict(name="next_token", monitor="bits_per_character"),  # the metric that chooses the best checkpoint
            model=dict(
                name="stack",
                width=256,
                layers=1,
                expansion=0,  # no MLP after the mixer
                mixer=dict(name="gru"),
            ),
            optim=dict(name="adamw", learning_rate=5e-3, warmup_steps=100),  # the rate rises to 5e-3 in 100 steps
            loader=dict(batch_size=16),
            train=dict(steps=800, log_every=50, eval_every=200, checkpoint_every=200),
        )
    )
