"""Labels by thresholds that are chosen on validation."""

import dataclasses
from typing import Literal

import jax
import numpy as np

from seqjax.data import Batches
from seqjax.evaluators import _base
from seqjax.metrics import average_precision, best_thresholds, f1_of_labels
from seqjax.training.net import Net


@dataclasses.dataclass(frozen=True)
class MultiLabel(_base.Evaluator):
    """Chooses the thresholds of sets of labels on validation, and reports F1 with them on any split.

        multi_label_micro_f1            of all decisions
        multi_label_macro_f1            mean over labels
        multi_label_sample_f1           mean over sequences
        multi_label_average_precision   mean over labels; it needs no thresholds

    Each evaluation reads validation first, so that the thresholds always belong to the parameters that are evaluated;
    they never depend on test. They are written to thresholds.json in the run folder. On validation itself, F1 is a
    little too high, as its thresholds are the best ones there.

    `thresholds`: "each" label has its own, the one with the highest F1 of this label; "shared": one for all labels,
    with the highest micro F1.

    Raises:
      ValueError: the task predicts no sets of labels, or the data have no validation split.
    """

    thresholds: Literal["each", "shared"] = "each"

    metrics = {f"multi_label_{name}": "more" for name in ("micro_f1", "macro_f1", "sample_f1", "average_precision")}

    def __post_init__(self):
        super().__post_init__()
        if "labels" not in self.source.spec.fields:
            raise ValueError(
                f"{type(self.task).__name__} predicts no sets of labels: remove the evaluator 'multi_label', or choose "
                "data with the field labels."
            )
        if "validation" not in self.source.spec.splits:
            raise ValueError(
                "thresholds are chosen on validation, and these data have none: give them a validation split, or "
                "remove the evaluator 'multi_label'."
            )

    def over(self, split, layout):
        return Labels(self, split, layout)

    def choose(self, score_NC, labels_NC) -> np.ndarray:
        """The thresholds of the scores of validation: (C,)."""
        if self.thresholds == "each":
            return best_thresholds(score_NC, labels_NC)
        shared = best_thresholds(score_NC.reshape(-1, 1), labels_NC.reshape(-1, 1))
        return np.repeat(shared, labels_NC.shape[1])


class Labels(_base.Pass):
    """The scores and labels of all sequences of a split, held on the host: 5 bytes per sequence and label."""

    def __init__(self, of: MultiLabel, split: str, layout):
        self.of, self.layout, self.split = of, layout, split
        self.batches = {name: Batches(of.source, name, of.loader) for name in dict.fromkeys(("validation", split))}
        self.count = sum(batches.per_epoch for batches in self.batches.values())
        score = lambda params, batch: jax.nn.sigmoid(Net(of.model, params)(of.task.reads(batch)).prediction)
        self._score = jax.jit(score, out_shardings=layout.everywhere)

    def __call__(self, params, step, *, on_batch, give_up, write):
        done, found = 0, {}
        size = self.of.loader.batch_size
        for split, batches in self.batches.items():
            scores, labels = [], []
            for batch in batches.iterate(0, batches.per_epoch):
                rows, real_B = self.layout.rows(size), batch["weight"] > 0
                mine = batch if rows is None else {name: array[rows] for name, array in batch.items()}
                score_BC = jax.device_get(self._score(params, self.layout.place(mine, size)))
                scores.append(score_BC[real_B])
                labels.append(batch["labels"][real_B])
                done += 1
                on_batch(done)
                if give_up():
                    return None
            found[split] = np.concatenate(scores), np.concatenate(labels)
        threshold_C = self.of.choose(*found["validation"])
        finite = [t if np.isfinite(t) else None for t in threshold_C.tolist()]  # null: validation has no such label
        named = dict(zip(map(str, self.of.source.classes), finite, strict=True))
        write("thresholds.json", {"step": step, "thresholds": named})
        score_NC, labels_NC = found[self.split]
        f1 = f1_of_labels(score_NC >= threshold_C[None], labels_NC, np.ones(len(labels_NC), np.float32))
        values = {name: sums.mean() for name, sums in f1.items()}
        values["average_precision"] = average_precision(score_NC, labels_NC)
        return {f"multi_label_{name}": value for name, value in values.items()}


Evaluator = MultiLabel
