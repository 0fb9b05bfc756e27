"""Counting: an n-gram model."""

from ml_collections import ConfigDict


def get_config(variant: str = ""):
    tiny = variant == "tiny"
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=16 if tiny else 128),
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="markov", order=2 if tiny else 19, smoothing="modified_kneser_ney"),
            learner=dict(name="fixed"),
            loader=dict(batch_size=4 if tiny else 16),
            train=dict(steps=1),
        )
    )
