"""Configs are built, without arrays, before anything is run: what a model refuses is told at once."""

from collections.abc import Callable

from seqjax import config
from seqjax.training.experiment import Experiment
from seqjax.types import ConfigError

LISTED = 20  # problems
IDLE = ("seed", "guard", "init")  # sections that no model is built of


class Builder:
    """Builds experiments one after the other; data that were read for the one before are not read again."""

    def __init__(self):
        self._source, self._found = (None, None), {}

    def __call__(self, tree: dict) -> Experiment:
        """The experiment of a resolved config.

        Raises:
          ConfigError, DataError: see `Experiment`.
        """
        of, source = self._source
        experiment = Experiment(tree, source if of == tree["data"] else None)
        self._source = tree["data"], experiment.source
        return experiment

    def problem(self, tree: dict) -> str | None:
        """Why the model of a resolved config cannot be built, or None. A model is built once, whatever trains it."""
        optim = {key: tree["optim"][key] for key in ("name", "options")}
        key = config.digest({k: v for k, v in tree.items() if k not in IDLE} | {"optim": optim})
        if key not in self._found:
            try:
                self(tree).shapes  # noqa: B018 some refuse only when they are traced
                self._found[key] = None
            except ConfigError as error:
                self._found[key] = str(error)
        return self._found[key]


def check(tried: list[dict], build: Callable[[dict], object], what: str) -> None:
    """Builds everything that is tried, key -> value.

    Raises:
      ConfigError: lists all that cannot be built.
    """
    problems = []
    for values in tried:
        try:
            build(values)
        except ConfigError as error:
            name = ", ".join(f"{key}={value!r}" for key, value in values.items())
            problems.append(f"  {name}: {' '.join(str(error).split())}")
    if problems:
        more = [f"  and {len(problems) - LISTED} more."] * (len(problems) > LISTED)
        head = f"{len(problems)} of {len(tried)} {what} cannot be built; take them out of the search space:"
        raise ConfigError("\n".join([head, *problems[:LISTED], *more]))
