"""A search for the best learning rate, width, dropout and mixer of a language model."""

# Search. The same command resumes a sweep that was stopped. It needs Optuna: pip install 'seqjax[sweep]'
#   seqjax sweep --config sweep.py --workdir runs/sweep --trials 20
#   seqjax sweep --config sweep.py --workdir runs/sweep --trials 20 --pruner median --slots 2
# Look at runs/sweep/sweep.html; then train the best:
#   seqjax train --config runs/sweep/best.json --workdir runs/best
#   tensorboard --logdir runs          (also while it runs; pip install tensorboard)

from ml_collections import ConfigDict

from seqjax.search.space import choice, log, uniform


def get_config():
    """What every trial trains, except the keys that are searched."""
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=64),  # your own: dict(name="text", path="text.txt", length=64)
            task=dict(name="next_token", monitor="bits_per_character"),  # this metric on validation ranks the trials
            model=dict(name="stack", width=64, layers=1, expansion=2, mixer=dict(name="gru")),
            optim=dict(learning_rate=3e-3, warmup_steps=20),
            loader=dict(batch_size=16),
            train=dict(steps=300, log_every=50, eval_every=100, checkpoint_every=100),
        )
    )


def sweep():
    """The keys to search and their values. Any key is possible, and also integers(least, most)."""
    return {
        "optim.learning_rate": log(5e-4, 2e-2),
        "model.width": choice(32, 64, 128),
        "model.dropout": uniform(0.0, 0.3),
        "model.mixer": choice("gru", dict(name="attention", heads=4)),
    }
