"""Does one sentence follow from another? With counterfactual pairs."""

import dataclasses
from typing import Literal

from seqjax.data import _files
from seqjax.data._rows import cells
from seqjax.data._texts import Texts, number_of
from seqjax.data._tokens import Tokenized
from seqjax.tokenizers.word import Word

Subset = Literal["all_combined", "original", "revised_hypothesis", "revised_premise"]


@dataclasses.dataclass(kw_only=True)
class CadNli(Texts):
    """CAD-NLI: tell whether a hypothesis follows from a premise (`source`), contradicts it, or neither.

        "A man is riding a red motorcycle with a small child ..." / "A man rides his motorcycle with a child."
        ->  label 1 (entailment)

    People changed the hypothesis or the premise of 2,500 pairs of SNLI as little as they could, so that the label
    changed: words of one side alone say little. `train`: the pairs of train and validation; `test`: those of test;
    "all_combined" has 8,330, 1,000 and 2,000, "original" 1,666, 200 and 400. Texts are lower-cased.

    Reads `<dir>/cad_nli/<subset>.{train,dev,test}.tsv.gz` with the columns sentence1, sentence2 and gold_label. `dir`:
    the folder of datasets; by default, the environment variable SEQJAX_DATA. `tokenizer`: trained on train.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file is missing or has a record of another form.

    Kaushik et al. 2020, "Learning the difference that makes a difference with counterfactually-augmented data",
    arXiv:1909.12434. From acmi-lab/counterfactually-augmented-data at 6f232a1, `NLI`. Licence: Apache-2.0.
    """

    dir: str | None = None
    train: Subset = "all_combined"
    test: Subset = "all_combined"
    tokenizer: Tokenized = Word

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "cad_nli")
        self.classes = ("contradiction", "entailment", "neutral")
        texts, sources, label = {}, {}, {}
        files = {"train": f"{self.train}.train", "validation": f"{self.train}.dev", "test": f"{self.test}.test"}
        for split, name in files.items():
            _, *rows = cells(_files.matches(f"{folder}/{name}.tsv*")[0], 3, "\t")  # the first one is the header
            sources[split] = [premise.lower() for _, (premise, _, _) in rows]
            texts[split] = [hypothesis.lower() for _, (_, hypothesis, _) in rows]
            label[split] = [number_of(name, self.classes, where) for where, (*_, name) in rows]
        self.keep_texts(texts, label=label, sources=sources)


Source = CadNli
