"""Sentences of words with a tag each: what a source of tagged words makes of them."""

import collections
import dataclasses
from typing import Annotated, NamedTuple

import numpy as np

from seqjax import lookup
from seqjax.data._stored import Stored
from seqjax.data._tokens import Measure
from seqjax.data._vocabulary import Vocabulary
from seqjax.spans import Scheme
from seqjax.spec import Field, Spec
from seqjax.tokenizers.character import Character
from seqjax.types import Count, DataError, Range


class Sentence(NamedTuple):
    """`places`: where each word stands in the file, such as "line 7"."""

    file: str
    places: list[str]
    words: list[str]
    tags: list[str]

    def at(self, word: int) -> str:
        """The place of a word, for an error."""
        return f"{self.file}, {self.places[word]}"


@dataclasses.dataclass(kw_only=True)
class Tagged(Stored):
    """A source of sentences, each a list of words with a tag each; `keep_sentences` stores them.

    Its examples have ids of the words (`tokens`) and of their characters, and say which words, in this form, train
    lacks (`unknown`). Words are read in lower case. Words and characters that occur fewer than `min_count` times in
    train share one id. A word longer than `word_length` keeps its first and its last half. With `signatures`, rare
    words are told apart: see `Vocabulary`.
    """

    min_count: Count = 2
    word_length: Annotated[Count, Range(least=2)] = 16
    signatures: bool = False

    def keep_sentences(self, sentences: dict[str, list[Sentence]], tokenizer=None):
        """Stores split -> sentences; with a tokenizer, its pieces of the words, without characters.

        Raises:
          DataError: a tag is not in train, or does not fit the one before it; a word cannot be encoded.
          ValueError: signatures of words are asked for beside a tokenizer.
        """
        if tokenizer is not None and self.signatures:
            raise ValueError("signatures are those of whole words: set either signatures or tokenizer.")
        train = [word for sentence in sentences["train"] for word in sentence.words]
        self._known = frozenset(train)
        self._number_tags(sentences)
        if tokenizer is None:
            self._learn_words(train)
            fields = {
                "tokens": Field("ids", size=len(self.words)),
                "characters": Field("ids", size=self._alphabet.size + 1, shape=(self.word_length,)),
            }
        else:
            texts = {split: [" ".join(sentence.words) for sentence in found] for split, found in sentences.items()}
            self.learn(tokenizer, train=lambda: texts["train"])
            fields = {"tokens": Field("ids", size=self.codec.size), "scored": Field("bool")}
        self._examples = {s: [self._example(sentence) for sentence in found] for s, found in sentences.items()}
        if tokenizer is not None:
            ids = {split: [example["tokens"] for example in found] for split, found in self._examples.items()}
            self.tell({split: Measure.of(self.codec, texts[split], ids[split]) for split in texts})
        guess = _most_frequent(sentences["train"])
        self._guesses = {s: [self._ids_of(map(guess, each.words)) for each in found] for s, found in sentences.items()}
        longest = max(len(example["tags"]) for found in self._examples.values() for example in found)
        fields |= {"tags": Field("ids", size=len(self.classes), names=self.classes), "unknown": Field("bool")}
        self.spec = Spec(
            fields, {"L": longest}, splits=tuple(sentences), unit="word" if tokenizer is None else self.codec.unit
        )

    def _number_tags(self, sentences):
        self.classes = tuple(sorted({tag for sentence in sentences["train"] for tag in sentence.tags}))
        self._tags, self._scheme = {tag: i for i, tag in enumerate(self.classes)}, Scheme.of(self.classes)
        for split, sentence in ((split, sentence) for split, found in sentences.items() for sentence in found):
            for i, tag in enumerate(sentence.tags):
                if tag not in self._tags:
                    raise DataError(
                        f"{sentence.at(i)}: {split} has the tag {tag!r}, which is not in train."
                        f"{lookup.nearest(tag, self._tags)} Correct it, or add an example of it to train."
                    )
            if self._scheme is not None:
                check(self._scheme, self._tags, sentence)

    def _ids_of(self, tags) -> np.ndarray:
        return np.array([self._tags[tag] for tag in tags], np.int32)

    def _learn_words(self, train: list[str]):
        self._ids, characters = Vocabulary(train, self.min_count, self.signatures), collections.Counter("".join(train))
        self.words = self._ids.words
        self._alphabet = Character().train(c for c, n in characters.items() if n >= self.min_count)

    def _example(self, sentence: Sentence) -> dict[str, np.ndarray]:
        example = {
            "tags": self._ids_of(sentence.tags),
            "unknown": np.array([word not in self._known for word in sentence.words]),
        }
        if self.codec is None:
            tokens = np.array([self._ids[word] for word in sentence.words], np.int32)
            example |= {"tokens": tokens, "characters": self._letters(sentence.words)}
        else:
            found = self.codec.words(sentence.words, f"{sentence.file}, {sentence.places[0]}")
            first_L = np.diff(found.words_L, prepend=-1) > 0
            example = {name: array[found.words_L] * first_L for name, array in example.items()}
            example |= {"tokens": found.ids_L.astype(np.int32), "scored": first_L}
        for array in example.values():
            array.flags.writeable = False
        return example

    def _letters(self, words: list[str]) -> np.ndarray:
        """The ids of the characters of words (L, word_length), 0 where there is none."""
        letters, half = np.zeros((len(words), self.word_length), np.int32), self.word_length // 2
        for row, word in zip(letters, words, strict=True):
            ids = self._alphabet.encode(word) + 1
            row[: len(ids)] = ids if len(ids) <= len(row) else np.concatenate([ids[:half], ids[half - len(row) :]])
        return letters

    def encode(self, text, field="tokens"):
        """Words with a space between them -> their ids, or those of their pieces."""
        if self.codec is not None:
            return self.codec.words(text.split(" ")).ids_L
        return np.array([self._ids[word] for word in text.split(" ")], np.int32)

    def decode(self, ids, field="tokens"):
        return super().decode(ids) if self.codec is not None else " ".join(self.words[i] for i in ids)

    def meaning(self):
        return super().meaning() if self.codec is not None else "\n".join(self.words)

    def baselines(self, split):
        """The tag that each word has most often in train; words that train lacks get the most frequent one of all."""
        of = lambda name: [example[name][example.get("scored", ...)] for example in self._examples[split]]
        tags, unknown = of("tags"), np.concatenate(of("unknown"))
        right = np.concatenate([guess == tag for guess, tag in zip(self._guesses[split], tags, strict=True)])
        found = {"accuracy": right.mean()}
        if unknown.any():
            found["unknown_accuracy"] = right[unknown].mean()
        for mode in ("strict", "lenient") if self._scheme else ():
            ours, theirs = (self._spans(each, mode) for each in (self._guesses[split], tags))
            found[f"{mode}_f1"] = 2 * len(ours & theirs) / max(len(ours) + len(theirs), 1)
        return {metric: {"most frequent tag": float(value)} for metric, value in found.items()}

    def _spans(self, each: list[np.ndarray], mode) -> set[tuple]:
        return {(i, *span) for i, ids in enumerate(each) for span in self._scheme.spans(ids.tolist(), mode)}


def check(scheme: Scheme, number: dict[str, int], sentence: Sentence) -> None:
    """Raises DataError if a tag must not follow the one before it; `number`: the index of each tag in the scheme."""
    if fault := scheme.fault([number[tag] for tag in sentence.tags]):
        raise DataError(f"{sentence.at(fault[0])}: {fault[1]}, which {scheme.kind.upper()} forbids: correct it.")


def _most_frequent(train: list[Sentence]):
    """word -> the most frequent tag of it in train, or of all words."""
    tags = collections.defaultdict(collections.Counter)
    for sentence in train:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            tags[word][tag] += 1
    best = {word: counts.most_common(1)[0][0] for word, counts in tags.items()}
    most = collections.Counter(tag for sentence in train for tag in sentence.tags).most_common(1)[0][0]
    return lambda word: best.get(word, most)
