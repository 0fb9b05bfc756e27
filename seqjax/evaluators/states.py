"""What the hidden states of a model are."""

import collections
import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from seqjax.data import Batches
from seqjax.evaluators import _base
from seqjax.models import _segments
from seqjax.training import records
from seqjax.training.net import Net

SHOWN = 32  # states of a chain
FEATURES = 13  # of a frame of the example
LONGEST = 60  # tokens of the example


@dataclasses.dataclass(frozen=True)
class States(_base.Evaluator):
    """Writes what the hidden states of a model are to states.json, for the report; it reports no metric.

    Of the model, or of the model of each class: what each state emits, and the probabilities of the first state and of
    the moves. On the most probable paths of all examples, each given its class: how often a state occurs, and how long
    a visit lasts. Of one example: the posterior of the states, and the path. Of more than 32 states, the most frequent
    are written.

    The model answers by `portrait(params, symbol)`, and about sequences, if it is a chain, by `viterbi` and `smooth`:
    see `hmm`.

    Raises:
      ValueError: the model has no `portrait`.
    """

    def __post_init__(self):
        super().__post_init__()
        if not hasattr(self.model, "portrait"):
            raise ValueError(
                f"{type(self.model).__name__} has no hidden states to show: remove the evaluator 'states', or choose a "
                "model with hidden states."
            )

    def over(self, split, layout):
        return Look(self, split, layout)


class Example(NamedTuple):
    """The posterior of the states in an example, the best path, and what is observed."""

    posterior_LK: np.ndarray
    path_L: np.ndarray
    x_L: np.ndarray  # ids (L,) or features (L, F)


class Look(_base.Pass):
    """A look at all examples of a split, in the order of the source, padded to one length."""

    def __init__(self, of: States, split: str, layout):
        self.of, self.split, self.layout = of, split, layout
        self.batches = Batches(of.source, split, dataclasses.replace(of.loader, buckets=(), places=None))
        self.count = self.batches.per_epoch if hasattr(of.model, "viterbi") else 0

        def answer(params, reads, row_N):
            net = Net(of.model, params)
            some = jax.tree.map(lambda a: a[row_N], reads)
            return net.ask("viterbi", reads)[0], net.ask("smooth", some)

        self._answer = jax.jit(answer, out_shardings=layout.everywhere)

    def __call__(self, params, step, *, on_batch, give_up, write):
        portraits = self.of.model.portrait(self.layout.host(params), self._symbol)
        self.visits = [collections.Counter() for _ in portraits]  # of each class: (state, length) -> how often
        self.examples: dict[int, Example] = {}  # by class
        for i, batch in enumerate(self.batches.iterate(0, self.count)):
            self._read(params, batch)
            on_batch(i + 1)
            if give_up():
                return None
        found = [self._record(c, portrait, step) for c, portrait in enumerate(portraits)]
        write("states.json", [dataclasses.asdict(record) for record in found])
        return {}

    def _symbol(self, v) -> str:
        """The text of an id; in quotes, if white space or a control character would not be seen."""
        text = _base.words(self.of.source, [int(v)])
        return text if text.isprintable() and text.split() == [text] else repr(text)

    def _read(self, params, batch):
        """Adds the visits of a batch, and an example of each class that had none."""
        reads = self.of.task.sequence(batch)
        mask_BL, reset_BL = np.asarray(reads.mask_BL), reads.reset_BL
        label_B = self.of.task.known(batch).get("label_B", np.zeros(len(mask_BL), int))
        new = {c: row for row, c in enumerate(label_B.tolist()) if mask_BL[row].any() and c not in self.examples}
        path_BL, log_p = self._ask(params, reads, np.resize([*new.values(), 0], len(self.visits)))
        if path_BL.ndim == 3:  # each class has its own
            path_BL = path_BL[np.arange(len(label_B)), label_B]
            log_p = log_p[np.arange(len(new)), [*new]]
        for row, k, n in _segments.visits(path_BL, mask_BL, reset_BL):
            self.visits[label_B[row]][k, n] += 1
        x = np.asarray(reads.x["tokens"] if isinstance(reads.x, dict) else reads.x)
        for (c, row), log_p_LK in zip(new.items(), log_p, strict=False):
            _, t = next(_segments.documents(mask_BL[[row]], None if reset_BL is None else reset_BL[[row]]))
            t = t[:LONGEST]
            self.examples[c] = Example(np.exp(log_p_LK[t]), path_BL[row, t], x[row, t])

    def _ask(self, params, reads, row_N):
        """The best paths of a batch, and the log of the posterior in some rows of it."""
        size = len(reads.mask_BL)
        mine = self.layout.rows(size)
        reads = reads if mine is None else jax.tree.map(lambda a: a[mine], reads)
        return jax.device_get(self._answer(params, self.layout.place(reads, size), row_N))

    def _record(self, c: int, portrait: dict, step: int) -> records.States:
        """What is written of a class."""
        source, known = self.of.source, self.of.task.known(self.batches.first)
        classes = getattr(source, "classes", None)
        total = len(portrait["emits"])
        states = classes if classes and "allowed_BLK" in known else range(total)
        time_K = np.zeros(total)
        for (k, n), count in self.visits[c].items():
            time_K[k] += n * count
        kept_N = np.sort(np.argsort(-time_K, kind="stable")[:SHOWN])
        found = self._chain(c, portrait, time_K, kept_N) if self.count else {}
        return records.States(
            name=str(classes[c]) if classes and "label_B" in known else "",
            states=[str(states[k]) for k in kept_N],
            emits=[portrait["emits"][k] for k in kept_N],
            total=total,
            split=self.split,
            step=step,
            unit=source.spec.unit,
            **found,
        )

    def _chain(self, c: int, portrait: dict, time_K, kept_N) -> dict:
        """Moves, visits and the example of a class, of the states that are kept."""
        visits = self.visits[c]
        lengths = range(1, 1 + max((n for _, n in visits), default=0))
        found = {
            "start": _rounded(portrait["start"][kept_N], 6),
            "transition": _rounded(portrait["transition"][kept_N][:, kept_N], 6),
            "share": _rounded(time_K[kept_N] / max(time_K.sum(), 1)),
            "visits": [[visits[k, n] for n in lengths] for k in kept_N.tolist()],
        }
        if c not in self.examples:
            return found
        posterior_LK, path_L, x_L = self.examples[c]
        place_K = np.full(len(time_K), -1)
        place_K[kept_N] = np.arange(len(kept_N))
        ids = x_L.ndim == 1
        observed = {"tokens": [*map(self._symbol, x_L)]} if ids else {"frames": _rounded(x_L[:, :FEATURES])}
        return found | observed | {"posterior": _rounded(posterior_LK.T[kept_N]), "path": place_K[path_L].tolist()}


def _rounded(a, decimals: int = 4) -> list:
    return np.round(np.asarray(a, float), decimals).tolist()


Evaluator = States
