"""Generate answers, and compare them with the references."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Annotated

import jax
import numpy as np

from seqjax.data import Batches
from seqjax.decoding.greedy import Greedy
from seqjax.evaluators import _base
from seqjax.metrics import Edits, Ratio
from seqjax.training.net import Net
from seqjax.types import ConfigError, Count, Natural, Part

NAMES = ("generate_exact_match", "generate_token_error_rate", "generate_length_ratio")


@dataclasses.dataclass(frozen=True)
class Generate(_base.Evaluator):
    """Decodes the answers to the first examples of a split, and compares them with the references.

    An answer begins at the first `scored` token of an example, but not before the second token, and is the rest of the
    example. The model is given all before it, and the source if there is one; the decoder does not know how long the
    reference is. If it gives several answers, the first one counts. Examples without a scored token do not count.

        generate_exact_match       share of answers that equal the reference, its end token included
        generate_token_error_rate  edits that turn the answers into the references / tokens of the references
        generate_length_ratio      tokens of the answers / tokens of the references (1 is best; no `task.monitor`)

    The last two leave end tokens out. `decoder`: how the answers are drawn. `examples`: how many are read. `samples`:
    how many of them are written to samples.json in the run folder.
    """

    decoder: Annotated[Callable, Part("seqjax.decoding", "Decoder")] = Greedy
    examples: Count = 128
    samples: Natural = 8

    metrics = {NAMES[0]: "more", NAMES[1]: "less"}

    def __post_init__(self):
        super().__post_init__()
        spec = self.source.spec
        if spec.vocabulary is None or not self.task.causal:
            raise ValueError(
                f"{type(self.task).__name__} predicts no next token, so there is nothing to generate: remove the "
                "evaluator 'generate', or choose another task."
            )
        if spec.source_vocabulary is None:
            jax.eval_shape(lambda: self.model.init_state(1))  # raises if the model has no state
        if spec.end is None and self.drawn_by.max_length is None:
            raise ValueError("the data have no end token, so no answer would end: set decoder.max_length (--tokens).")

    @property
    def drawn_by(self):
        """The decoder."""
        return self.decoder(spec=self.source.spec)

    def over(self, split, layout):
        self.check_split(split)
        try:
            return Answers(self, split, layout)
        except ValueError as error:
            raise ConfigError(f"evaluators: generate: {error}") from error


class Answers(_base.Pass):
    """The answers to the first examples of a split. The examples are read once, the prompts padded to one length."""

    def __init__(self, of: Generate, split: str, layout):
        self.of, self.layout, self.decoder, self.rows = of, layout, of.drawn_by, []
        size = of.loader.rows(of.source.spec.length)
        loader = dataclasses.replace(of.loader, batch_size=size, buckets=(), places=None)  # whole, in their order
        batches, self.count = Batches(of.source, split, loader), -(-of.examples // loader.batch_size)
        batches = [batches[i] for i in range(self.count)]
        self.batches = [(batch, *self._answers(batch, split)) for batch in batches]
        self.longest = max(int(begin_B.max()) for _, begin_B, _ in self.batches)
        self.decoder.check(of.model, self.longest)

        def decode(params, reads, place):
            key = functools.reduce(jax.random.fold_in, place, jax.random.key(of.seed))
            return self.decoder(Net(of.model, params), reads, key)

        self._decode = jax.jit(decode, out_shardings=layout.everywhere)

    def _answers(self, batch, split: str):
        """Where the answer of each row begins, and how long the row is; the same place if it has no answer."""
        place_L = np.arange(batch["mask"].shape[1])
        scored_BL = batch.get("scored", batch["mask"]) & batch["mask"]
        scored_BL = scored_BL & (place_L >= max(self.of.task.prompt_length, 1))
        any_B = scored_BL.any(axis=1) & (batch["weight"] > 0)
        begin_B = np.where(any_B, scored_BL.argmax(axis=1), 1)
        end_B = np.where(any_B, batch["mask"].sum(axis=1), begin_B)
        between_BL = (place_L >= begin_B[:, None]) & (place_L < end_B[:, None]) & ~scored_BL
        if between_BL.any():
            raise ValueError(
                f"split {split!r} has examples with tokens after the first scored one that are not scored, so their "
                "answers are not one piece: remove this evaluator."
            )
        return begin_B, end_B

    def _prompts(self, batch, begin_B):
        """What the model reads of the rows that this process decodes: all before the answers."""
        reads, size = self.of.task.reads(batch), len(begin_B)
        rows = self.layout.rows(size)
        cut = lambda a: None if a is None else a[:, : self.longest]
        mask_BL = cut(reads.mask_BL) & (np.arange(self.longest) < begin_B[:, None])
        reads = reads._replace(x=cut(reads.x), mask_BL=mask_BL, reset_BL=cut(reads.reset_BL))
        return self.layout.place(reads if rows is None else jax.tree.map(lambda a: a[rows], reads), size)

    def __call__(self, params, step, *, on_batch, give_up, write):
        self.rows, found = [], (Ratio(0, 0), Edits(0, 0), Ratio(0, 0))
        for i, (batch, begin_B, end_B) in enumerate(self.batches):
            place = np.array([step, i], np.int32)
            out = jax.device_get(self._decode(params, self._prompts(batch, begin_B), place))
            for row in range(min(len(begin_B), self.of.examples - len(begin_B) * i)):
                wanted_L = batch["tokens"][row, begin_B[row] : end_B[row]]
                drawn_L = out.tokens_BNL[row, 0][out.mask_BNL[row, 0]]
                if len(self.rows) < self.of.samples:
                    about = self._about(batch, row, begin_B[row], wanted_L, drawn_L)
                    self.rows.append({**about, "score": float(out.score_BN[row, 0]), "step": step})
                if len(wanted_L):
                    found = tuple(map(operator.add, found, self._compare(drawn_L, wanted_L)))
            on_batch(i + 1)
            if give_up():
                return None
        write("samples.json", self.rows)
        return {name: sums.mean() for name, sums in zip(NAMES, found, strict=True)}

    def _compare(self, drawn_L, wanted_L) -> tuple[Ratio, Edits, Ratio]:
        """Whether they are equal, the edits between them, and their lengths; all but the first without end tokens."""
        words, wanted = (ids[ids != self.decoder.spec.end].tolist() for ids in (drawn_L, wanted_L))
        equal = np.array_equal(drawn_L, wanted_L)
        return Ratio(equal, 1), Edits(*map(float, Edits.of(words, wanted))), Ratio(len(words), len(wanted))

    def _about(self, batch, row: int, begin: int, wanted_L, drawn_L) -> dict:
        """A row for samples.json, in words or numbers, and how it was drawn."""
        source = self.of.source
        about = {"prompt": _base.words(source, batch["tokens"][row, :begin])}
        if "source" in batch:
            about = {"source": _base.words(source, batch["source"][row][batch["mask_S"][row]], "source")}
        about |= {"wanted": _base.words(source, wanted_L), "text": _base.words(source, drawn_L)}
        return about | self.decoder.options | {"seed": self.of.seed}


Evaluator = Generate
