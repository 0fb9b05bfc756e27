"""Builds configs, without arrays, before anything runs, so that errors of a model are reported at once."""

from seqjax import config
from seqjax.training.experiment import Experiment
from seqjax.types import ConfigError

IDLE = ("seed", "guard", "init")  # sections that have no effect on how a model is built


class Builder:
    """Builds experiments one after the other. It reads data once if two experiments in a row have the same data."""

    def __init__(self):
        self._source, self._found = (None, None), {}

    def __call__(self, tree: dict) -> Experiment:
        """Builds the experiment of a resolved config; raises what `Experiment` raises."""
        of, source = self._source
        experiment = Experiment(tree, source if of == tree["data"] else None)
        self._source = tree["data"], experiment.source
        return experiment

    def problem(self, tree: dict) -> str | None:
        """Returns why the model of a resolved config cannot be built, or None. Each model is built only once."""
        optim = {key: tree["optim"][key] for key in ("name", "options")}
        key = config.digest({k: v for k, v in tree.items() if k not in IDLE} | {"optim": optim})
        if key not in self._found:
            try:
                self(tree).shapes  # noqa: B018 some errors appear only when the model is traced
                self._found[key] = None
            except ConfigError as error:
                self._found[key] = str(error)
        return self._found[key]
