"""How many tokens of one example a model reads, and attention caches that hold exactly those tokens."""

from seqjax.training.experiment import Experiment


def tokens_read(experiment: Experiment) -> int:
    """The number of tokens that the model reads of the longest example, with its padding."""
    return experiment.task.length(max(experiment.source.spec.length, *experiment.loader.buckets, 0))


def fitted(section, slots: int, given=None):
    """A resolved section in which every cache (`max_length`) holds `slots` tokens, except where `given` sets a size.

    `given` is the section before its defaults were filled in; None: it sets no size.
    """
    if isinstance(section, list):
        wished = given if isinstance(given, list) else [given] * len(section)
        return [fitted(s, slots, g) for s, g in zip(section, wished, strict=True)]
    if not isinstance(section, dict):
        return section
    given = given if isinstance(given, dict) else {}
    return {
        key: slots if key == "max_length" and "max_length" not in given else fitted(value, slots, given.get(key))
        for key, value in section.items()
    }
