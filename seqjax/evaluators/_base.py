"""The contract of an evaluator."""

import dataclasses
from typing import Annotated, Any

from seqjax.data import Loader, Source
from seqjax.types import Checked, ConfigError, Injected, Natural


@dataclasses.dataclass(frozen=True)
class Evaluator(Checked):
    """Computes metrics on a split: an entry of the config section `evaluators`, built from the parts of an experiment.

    `metrics`: name -> "more" or "less" (which way is better), of each metric that `task.monitor` may name. The names
    begin with the name of the evaluator, so that no two report the same one. `examples`: how many examples of a split
    it reads; None: all.

    Raises:
      ValueError: the evaluator does not fit the data, the task or the model.
    """

    model: Annotated[Any, Injected]
    task: Annotated[Any, Injected]
    source: Annotated[Source, Injected]
    loader: Annotated[Loader, Injected]
    seed: Annotated[Natural, Injected]

    metrics = {}
    examples = None

    def check_split(self, split: str) -> None:
        """Raises ConfigError if a split has fewer than `examples` examples."""
        size = self.source.size(split) if split in self.source.spec.splits else None
        if None not in (size, self.examples) and self.examples > size:
            raise ConfigError(f"split {split!r} has {size:,} examples, asked for {self.examples:,}: ask for fewer.")

    def over(self, split: str, layout) -> "Pass":
        """The evaluator on one split, over the devices of `layout`. It reads or compiles before the first step what it
        can, so that errors come early.

        Raises:
          ConfigError, DataError: the split does not exist, or the evaluator does not fit it.
        """
        raise NotImplementedError


class Pass:
    """An evaluator on one split; called at each evaluation. `count`: how many batches a call reads."""

    count: int

    def __call__(self, params, step: int, *, on_batch, give_up, write) -> dict[str, float] | None:
        """Name -> value; None if `give_up()` returned true before the end.

        `step` is that of `params`; randomness is drawn from (seed, step) only, so that a resumed run repeats it.
        `on_batch(done)` reports progress, `write(name, tree)` writes a JSON file into the run folder.
        """
        raise NotImplementedError


def words(source, ids, *field: str) -> str:
    """Tokens, or the ids of another field, as text, or as numbers if they are not text."""
    try:
        return source.decode(ids, *field)
    except NotImplementedError:
        return " ".join(map(str, ids))
