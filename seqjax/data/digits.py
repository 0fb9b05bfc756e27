"""Handwritten digits, pixel by pixel."""

import dataclasses

import numpy as np

from seqjax import lookup
from seqjax.data._stored import Stored


@dataclasses.dataclass(kw_only=True)
class Digits(Stored):
    """Digits: handwritten digits of 8 x 8 pixels, read pixel by pixel; they come with scikit-learn, no download.

        features  0 0 .31 .81 .56 .06 0 0 0 0 .81 .94 ...   (64 steps, row by row, darkness in [0, 1])
        label     0

    There are 1,797 digits of 13 writers in 10 classes of 174 to 183 digits each. The split follows the index within
    each class, in the given order: index mod 11 = 0 or 5 is test (332), 1 is validation (168), the rest train (1,297).

    Raises:
      ConfigError: scikit-learn is not installed (extra `eval`).

    Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI repository. Licence: CC BY 4.0.
    """

    def __post_init__(self):
        super().__post_init__()
        datasets = lookup.require("sklearn.datasets", "eval", "data.name='digits'")
        image_BL, label_B = datasets.load_digits(return_X_y=True)
        image_BL = (image_BL / 16).astype(np.float32)
        features = {"train": [], "validation": [], "test": []}
        labels = {split: [] for split in features}
        self.classes = tuple(map(str, range(10)))
        for label in range(10):
            for index, image_L in enumerate(image_BL[label_B == label]):
                split = {0: "test", 5: "test", 1: "validation"}.get(index % 11, "train")
                features[split].append(image_L[:, None])
                labels[split].append(label)
        self.keep("features", 1, features, labels)


Source = Digits
