"""From text to token ids and back: one file per tokenizer, each exposes `Tokenizer`."""

from seqjax.tokenizers._base import SPECIAL, Encoding, Tokenizer

__all__ = ["SPECIAL", "Encoding", "Tokenizer"]
