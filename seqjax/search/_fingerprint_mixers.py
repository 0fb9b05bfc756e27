"""Which mixers have a fingerprint: those that write one token after the other by themselves."""

from seqjax import config, lookup
from seqjax.mixers._base import Mixers
from seqjax.search._fingerprint_tiers import TIERS
from seqjax.types import ConfigError, Part, marker

PART = marker(Mixers, Part)


def unfit(model: dict) -> str | None:
    """Why the mixers of a model's section have none, or None."""
    mixers = model["mixer"]
    for section in mixers if isinstance(mixers, list) else [mixers]:
        try:
            mixer = config.factory(PART, section)(width=model["width"])
        except ValueError as error:
            raise ConfigError(f"model.mixer: {error}") from error
        if mixer.memory:
            return f"{section['name']} reads a memory, and the probes have one sequence"
        if not mixer.causal:
            return f"{section['name']} sees the tokens that it would have to predict"
    return None


def causal() -> list[str]:
    """All mixers that have one, by name."""
    tier = TIERS["cpu"]
    model = lambda name: tier.tree(tier.probes[0], name, tier.peaks[0], 0)["model"]
    return [name for name in lookup.names(PART.package) if unfit(model(name)) is None]
