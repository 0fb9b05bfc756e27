"""Translations of lines by a trained model: what `seqjax translate` writes."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from seqjax.tasks._base import Reads
from seqjax.training.net import Net
from seqjax.training.trained import Trained
from seqjax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Translation:
    """A continuation in words, its log-probability in nats, and whether it ended within its limit."""

    text: str
    log_p: float
    ended: bool


@dataclasses.dataclass
class Translator:
    """Translates lines with the decoder that `decoder(spec=...)` makes, the likeliest or best ones first.

    Lines of similar length are decoded together, padded to the buckets of the run (without buckets: to its longest
    source), `batch_size` at a time, so that there is one program for each bucket. A longer line is an error, or is cut
    at its end, as `loader.too_long` says. `cut` lists the numbers of lines, from 1, that were cut.

    Raises:
      ConfigError: the model does not read a text as its source, or the decoder does not fit it.
    """

    trained: Trained
    decoder: Callable
    batch_size: int = 32

    def __post_init__(self):
        e = self.trained.experiment
        spec, self.cut = e.source.spec, []
        if spec.source_vocabulary is None or spec.end is None:
            raise ConfigError("this model does not answer a source with tokens that end: use seqjax generate.")
        self.pads = tuple(e.loader.buckets) or (spec.source_length,)
        self.begin = int(e.source.example("train", 0)["tokens"][0])
        try:
            decoder = self.decoder(spec=spec)
            decoder.check(e.model, 1)
        except ValueError as error:
            raise ConfigError(str(error)) from error

        def decode(params, source_BS, mask_BS):
            prompt_B1 = np.full((len(source_BS), 1), self.begin)
            side = {"source_BS": source_BS, "source_mask_BS": mask_BS}
            return decoder(Net(e.model, params), Reads(prompt_B1, prompt_B1 >= 0, side=side), jax.random.key(0))

        self._decode = jax.jit(decode)

    def __call__(self, lines: Sequence[str], where: str = "the text") -> list[list[Translation]]:
        """The translations of each line; none of a line that is empty.

        Raises:
          DataError: a line cannot be encoded, or is longer than the last bucket.
        """
        ids = {i: self._encode(line, f"{where}, line {i + 1}", i) for i, line in enumerate(lines) if line.strip()}
        found = [[] for _ in lines]
        for pad, numbers in self._batches(ids):
            source_BS = np.zeros((self.batch_size, pad), np.int32)
            mask_BS = np.zeros(source_BS.shape, bool)
            for row, i in enumerate(numbers):
                source_BS[row, : len(ids[i])], mask_BS[row, : len(ids[i])] = ids[i], True
            out = jax.device_get(self._decode(self.trained.params, source_BS, mask_BS))
            for row, i in enumerate(numbers):
                rows = zip(out.tokens_BNL[row], out.mask_BNL[row], out.score_BN[row], strict=True)
                found[i] = [self._shown(tokens_L[mask_L], score) for tokens_L, mask_L, score in rows if mask_L.any()]
        return found

    def _encode(self, line: str, where: str, number: int) -> np.ndarray:
        source, longest = self.trained.experiment.source, self.pads[-1]
        try:
            ids_S = source.encode(line, "source")
        except NotImplementedError as error:
            raise ConfigError("the sources of this model are not text: use seqjax generate.") from error
        if len(ids_S) <= longest:
            return ids_S
        if self.trained.experiment.loader.too_long == "error":
            raise DataError(
                f"{where}: the line has {len(ids_S)} tokens, and the model was trained on at most {longest}: shorten "
                "it, or train with longer loader.buckets, or with loader.too_long='truncate', which cuts it."
            )
        self.cut.append(number + 1)
        return ids_S[:longest]

    def _batches(self, ids: dict[int, np.ndarray]) -> Iterator[tuple[int, list[int]]]:
        """Yields the padded length and the numbers of the lines of each batch."""
        pad_of = {i: self.pads[np.searchsorted(self.pads, len(ids_S))] for i, ids_S in ids.items()}
        for pad in self.pads:
            numbers = sorted((i for i in ids if pad_of[i] == pad), key=lambda i: len(ids[i]))
            for begin in range(0, len(numbers), self.batch_size):
                yield pad, numbers[begin : begin + self.batch_size]

    def _shown(self, tokens_L, score) -> Translation:
        source = self.trained.experiment.source
        text = " ".join(source.decode(tokens_L).split("\n"))  # one line gives one line
        return Translation(text, float(score), bool(tokens_L[-1] == source.spec.end))
