"""The loss with all context that the model takes."""

import dataclasses

from seqjax.evaluators._running_text import REPORTED, InOrder, RunningText


@dataclasses.dataclass(frozen=True)
class FullContext(RunningText):
    """Scores a split as one text, without the cuts between windows of `data.length`.

    The evaluator of the loss predicts the first tokens of each window from little: that costs up to 30 % of perplexity.
    Both are right, and tables must say which one they show.

        full_context_loss                 as the loss of next_token, in nats per token
        full_context_bits_per_character   (`_per_byte`, `full_context_perplexity`) as those of next_token

    A model whose state takes any number of tokens carries it from the first token to the last. Any other, such as
    attention, reads windows of `data.length` predictions, of which only the last `stride` count (None: half of them).
    """

    metrics = {f"full_context_{name}": way for name, way in REPORTED.items()}

    def over(self, split, layout):
        return _Sums(self, split, layout, rows=self.loader.batch_size)


class _Sums(InOrder):
    def score(self, params, batch, carry, known):
        prediction, carry, _ = self.of.read(params, batch, carry)
        return self.of.task.loss(prediction, batch), carry, known


Evaluator = FullContext
