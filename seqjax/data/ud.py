"""Words and their tags, from a treebank of Universal Dependencies."""

import collections
import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from seqjax.data import _files
from seqjax.data._stored import Stored
from seqjax.data._vocabulary import Vocabulary
from seqjax.spec import Field, Spec
from seqjax.tokenizers.character import Character
from seqjax.types import Count, DataError, Range

COLUMNS = {"upos": 3, "xpos": 4}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}


@dataclasses.dataclass(kw_only=True)
class UniversalDependencies(Stored):
    """UD: the words of a sentence with a tag each, from a treebank of Universal Dependencies.

        Email  me   at   ...      tokens      0     17   22         ids of words, 0: a rare word
                                  characters  (L, word_length)      ids of characters, 0: none
        NOUN   PRON ADP  ...      tags        8     11   2
                                  unknown     True  .    .          the word, in this form, is not in train

    Reads `<dir>/<treebank>/*-ud-{train,dev,test}.conllu`, or `.conllu.gz`; dev is the split `validation`. Rows of
    multi-word tokens (ID 3-4) and empty nodes (ID 3.1) are skipped. Words are read in lower case. Words and characters
    that occur fewer than `min_count` times in train share one id. A word longer than `word_length` keeps its first and
    its last half.

    `dir`: the folder of datasets; by default, the environment variable SEQJAX_DATA. `column`: "upos" (the universal
    part of speech) or "xpos" (that of the language). `signatures`: for models that read no characters, `tokens` says
    more about capitals and rare words. A word is read as it is written if it occurs `min_count` times; else in lower
    case; else it shares an id with rare words of the same capitals, digits, hyphens and suffix, of four letters
    (Unfriended: `Xx:nded`) or as few as needed for `min_count` words.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file does not exist or is not CoNLL-U, a tag is not in train.

    Nivre et al. 2020, "Universal Dependencies v2", LREC. The format: universaldependencies.org/format.html. Suffixes of
    rare words: Brants 2000, "TnT: a statistical part-of-speech tagger", ANLP.
    """

    dir: str | None = None
    treebank: str = "ud_english_ewt"
    column: Literal["upos", "xpos"] = "upos"
    min_count: Count = 2
    word_length: Annotated[Count, Range(least=2)] = 16
    signatures: bool = False

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, self.treebank)
        sentences = {split: self._read(folder, name) for split, name in SPLITS.items()}
        words = [word for found in sentences["train"] for word, _ in found]
        self._known, self._ids = frozenset(words), Vocabulary(words, self.min_count, self.signatures)
        self.words = self._ids.words
        characters = collections.Counter("".join(words))
        self._alphabet = Character().train(c for c, n in characters.items() if n >= self.min_count)
        self.classes = tuple(sorted({tag for found in sentences["train"] for _, tag in found}))
        number = {tag: i for i, tag in enumerate(self.classes)}
        for split, found in sentences.items():
            if strange := {tag for sentence in found for _, tag in sentence} - number.keys():
                raise DataError(f"{folder}: {split} has the tag {min(strange)!r}, which is not in train: correct it.")
        self._examples = {s: [self._encode(sentence, number) for sentence in found] for s, found in sentences.items()}
        self._right = {split: _most_frequent(sentences["train"], found) for split, found in sentences.items()}
        longest = max(len(example["tags"]) for found in self._examples.values() for example in found)
        fields = {
            "tokens": Field("ids", size=len(self.words)),
            "characters": Field("ids", size=self._alphabet.size + 1, shape=(self.word_length,)),
            "tags": Field("ids", size=len(self.classes)),
            "unknown": Field("bool"),
        }
        self.spec = Spec(fields, {"L": longest}, splits=tuple(SPLITS), unit="word")

    def _read(self, folder: Path, name: str) -> list[list[tuple[str, str]]]:
        """The sentences of a file: (word, tag) for each word."""
        (file,) = _files.matches(f"{folder}/*-ud-{name}.conllu*")[:1]
        sentences, column = [[]], COLUMNS[self.column]
        for number, line in enumerate(_files.read_text(file).split("\n"), start=1):
            if not line.strip():
                sentences.append([])
            elif not line.startswith("#"):
                cells = line.rstrip("\r").split("\t")
                if len(cells) != 10:
                    raise DataError(f"{file}, line {number}: got {len(cells)} columns, wanted the 10 of CoNLL-U.")
                if "-" in cells[0] or "." in cells[0]:
                    continue
                if cells[column] == "_":
                    raise DataError(f"{file}, line {number}: the word {cells[1]!r} has no {self.column}: add it.")
                sentences[-1].append((cells[1], cells[column]))
        if not any(sentences):
            raise DataError(f"{file} has no sentence, wanted at least one.")
        return [sentence for sentence in sentences if sentence]

    def _encode(self, sentence, number) -> dict[str, np.ndarray]:
        characters = np.zeros((len(sentence), self.word_length), np.int32)
        half = self.word_length // 2
        for row, (word, _) in zip(characters, sentence, strict=True):
            ids = self._alphabet.encode(word) + 1
            row[: len(ids)] = ids if len(ids) <= len(row) else np.concatenate([ids[:half], ids[half - len(row) :]])
        example = {
            "tokens": self.encode(" ".join(word for word, _ in sentence)),
            "characters": characters,
            "tags": np.array([number[tag] for _, tag in sentence], np.int32),
            "unknown": np.array([word not in self._known for word, _ in sentence]),
        }
        for array in example.values():
            array.flags.writeable = False
        return example

    def encode(self, text):
        """Words with a space between them -> their ids."""
        return np.array([self._ids[word] for word in text.split(" ")], np.int32)

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)

    def meaning(self):
        return "\n".join(self.words)

    def baselines(self, split):
        """The accuracy of the most frequent tag of each word in train; words that train lacks get that of all words."""
        right = self._right[split]
        unknown = np.concatenate([example["unknown"] for example in self._examples[split]])
        found = {"accuracy": {"most frequent tag": float(right.mean())}}
        if unknown.any():
            found["unknown_accuracy"] = {"most frequent tag": float(right[unknown].mean())}
        return found


def _most_frequent(train, sentences) -> np.ndarray:
    """For each word of the sentences, whether the most frequent tag of the word in train is its tag."""
    tags = collections.defaultdict(collections.Counter)
    for word, tag in (pair for sentence in train for pair in sentence):
        tags[word][tag] += 1
    best = {word: counts.most_common(1)[0][0] for word, counts in tags.items()}
    most = sum(tags.values(), collections.Counter()).most_common(1)[0][0]
    return np.array([best.get(word, most) == tag for sentence in sentences for word, tag in sentence])


Source = UniversalDependencies
