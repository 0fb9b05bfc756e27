"""Tells which mixers have a fingerprint: those that can predict a sequence token by token from the sequence only."""

from seqjax import config, lookup
from seqjax.mixers._base import Mixers
from seqjax.search.fingerprint.tiers import TIERS
from seqjax.types import ConfigError, Part, marker

PART = marker(Mixers, Part)


def unfit(model: dict) -> str | None:
    """Returns why the mixers of a model section have no fingerprint, or None if they have one."""
    mixers = model["mixer"]
    for section in mixers if isinstance(mixers, list) else [mixers]:
        try:
            mixer = config.factory(PART, section)(width=model["width"])
        except ValueError as error:
            raise ConfigError(f"model.mixer: {error}") from error
        if mixer.memory:
            return f"{section['name']} reads a memory sequence, but the probes have only one sequence"
        if not mixer.causal:
            return f"{section['name']} sees the tokens that it has to predict"
    return None


def causal() -> list[str]:
    """The names of all mixers that have a fingerprint."""
    tier = TIERS["cpu"]
    model = lambda name: tier.tree(tier.probes[0], name, tier.peaks[0], 0)["model"]
    return [name for name in lookup.names(PART.package) if unfit(model(name)) is None]
