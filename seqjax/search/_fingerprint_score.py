"""Evaluates trained probes on test, at the trained length and at longer ones."""

from seqjax.search._fingerprint_tiers import METRIC, Probe
from seqjax.search.trials import Trial
from seqjax.training.experiment import Experiment
from seqjax.training.files import FIX
from seqjax.training.trained import Trained
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, WorkdirError


def known(workdir: Workdir, name: str) -> dict | None:
    """Reads the fingerprint in a folder; None if the folder has none.

    Raises:
      WorkdirError: the file is damaged, or is not a fingerprint.
    """
    found = workdir.read(name)
    if found is not None and (missing := {"tier", "model", "probes", "costs"} - found.keys()):
        raise WorkdirError(f"{workdir.path / name} lacks {', '.join(sorted(missing))}: {FIX}.")
    return found


def at(trials: list[Trial], probe: Probe, factor: int) -> dict:
    """Scores trials that differ by seed at a multiple of the trained length; returns the scores, or an error."""
    length = probe.length(factor)
    found = {"factor": factor, "length": length, METRIC: [], "exact_match": []}
    key = None if factor == 1 else f"data.length={length}"
    for trial in trials:
        trained = Trained.load(trial.folder)
        try:
            trained = trained.at(key) if key else trained
        except ConfigError as error:  # for example, learned positions have a maximal length
            return found | {"error": str(error)}
        metrics = trained.evaluate("test", name=f"test at {key}" if key else None)["metrics"]
        for name in (METRIC, "exact_match"):
            found[name].append(metrics[name])
        if "chance" not in found:
            found |= _of(trained.experiment)
    return found


def _of(experiment: Experiment) -> dict:
    """Facts about the test split itself: its length in tokens, and the accuracy of chance."""
    source = experiment.source
    return {"tokens": source.spec.length, "chance": max(source.baselines("test")[METRIC].values())}
