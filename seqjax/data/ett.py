"""The load and the oil temperature of an electricity transformer, hour by hour."""

import csv
import dataclasses

import numpy as np

from seqjax.data import _files
from seqjax.data._source import Source
from seqjax.spec import Field, Spec
from seqjax.types import Count, DataError

DAY, MONTH = 24, 30 * 24
ENDS = {"train": 12 * MONTH, "validation": 16 * MONTH, "test": 20 * MONTH}  # of the splits, in hours
RIDGE = 100.0  # the penalty of the linear baseline; the error hardly depends on it


@dataclasses.dataclass(kw_only=True)
class ETT(Source):
    """ETTh1: two years of seven hourly measurements of one transformer, to forecast the next hours.

        features  (lookback, 7)    the hours before
        future    (horizon, 7)     the hours to forecast

    Train is the first 12 months of 30 days, validation the next 4, test the next 4; the rest is not used. Each column
    is scaled by the mean and the standard deviation of its train rows. Windows begin at each hour. The targets of a
    window lie in its split; its look-back may reach into the split before. With a horizon of 96 there are 2,785 test
    windows, and none is left out.

    Reads `<dir>/ett/ETTh1.csv.gz`. `dir`: the folder of datasets; by default, the environment variable SEQJAX_DATA.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, the file does not exist, has other columns, a cell that is no number
        or fewer rows than 20 months; a split is shorter than one window.

    From zhouhaoyi/ETDataset at 1d16c8f, `ETT-small/ETTh1.csv`. Licence: CC BY-ND 4.0. Zhou et al. 2021, "Informer",
    AAAI, arXiv:2012.07436.
    """

    dir: str | None = None
    lookback: Count = 336
    horizon: Count = 96

    def __post_init__(self):
        super().__post_init__()
        file = _files.dataset(self.dir, "ett") / "ETTh1.csv.gz"
        header, *rows = csv.reader(_files.read_text(file).splitlines())
        if len(header) < 2 or header[0] != "date":
            raise DataError(f"{file}, line 1: got the columns {', '.join(header)}, wanted date and the measurements.")
        self.columns = tuple(header[1:])
        try:
            values_LF = np.array([row[1:] for row in rows], np.float64)
        except ValueError as error:
            raise DataError(f"{file}: not a table of numbers ({error}): copy it again.") from error
        if len(values_LF) < ENDS["test"] or values_LF.shape[1] != len(self.columns):
            raise DataError(f"{file} has {len(values_LF):,} rows, wanted at least {ENDS['test']:,}: copy it again.")
        train_LF = values_LF[: ENDS["train"]]
        self._values_LF = ((values_LF - train_LF.mean(axis=0)) / train_LF.std(axis=0)).astype(np.float32)
        self._values_LF.flags.writeable = False  # examples are slices of it
        begins = {"train": self.lookback, "validation": ENDS["train"], "test": ENDS["validation"]}
        self._begins = {split: range(begin, ENDS[split] - self.horizon + 1) for split, begin in begins.items()}
        for split, found in self._begins.items():
            if not found or found[0] < self.lookback:
                raise DataError(
                    f"lookback={self.lookback} and horizon={self.horizon} leave no window in {split}, which has "
                    f"{ENDS[split] - begins[split]:,} hours: lower one of them."
                )
        F = len(self.columns)
        fields = {"features": Field("real", shape=(F,)), "future": Field("real", axis=None, shape=(self.horizon, F))}
        self.spec = Spec(fields, {"L": self.lookback}, splits=tuple(ENDS), unit="hour")

    def size(self, split):
        return len(self._begins[split])

    def lengths(self, split):
        return np.full(self.size(split), self.lookback)

    def example(self, split, index):
        if not 0 <= index < self.size(split):
            raise IndexError(f"{split} has windows 0 ... {self.size(split) - 1}, got {index}.")
        begin = self._begins[split][index]
        values_LF = self._values_LF
        return {
            "features": values_LF[begin - self.lookback : begin],
            "future": values_LF[begin : begin + self.horizon],
        }

    def baselines(self, split):
        """The mean squared error of the last value, of the day before, and of ridge regression in closed form.

        The ridge regression maps the look-back to the horizon, both minus the last value, with one matrix for all
        columns.
        """
        gram_LL, cross_LH = RIDGE * np.eye(self.lookback), np.zeros((self.lookback, self.horizon))
        for x_NL, y_NH in self._columns("train"):
            gram_LL, cross_LH = gram_LL + x_NL.T @ x_NL, cross_LH + x_NL.T @ y_NH
        ridge_LH = np.linalg.solve(gram_LL, cross_LH)
        day = self.lookback - DAY + np.arange(self.horizon) % DAY
        guesses = {"last value": lambda x_NL: 0.0}
        if self.lookback >= DAY:
            guesses["same hour of the last day"] = lambda x_NL: x_NL[:, day]
        guesses["ridge regression"] = lambda x_NL: x_NL @ ridge_LH
        error = lambda guess: np.mean([np.mean((guess(x_NL) - y_NH) ** 2) for x_NL, y_NH in self._columns(split)])
        return {"loss": {name: float(error(guess)) for name, guess in guesses.items()}}

    def _columns(self, split):
        """Yields the windows of each column minus their last value: the look-back (N, L) and the horizon (N, H)."""
        begins, length = self._begins[split], self.lookback + self.horizon
        part_LF = self._values_LF[begins[0] - self.lookback : begins[-1] + self.horizon].astype(np.float64)
        for column_L in part_LF.T:
            window_NT = np.lib.stride_tricks.sliding_window_view(column_L, length)
            window_NT = window_NT - window_NT[:, [self.lookback - 1]]
            yield window_NT[:, : self.lookback], window_NT[:, self.lookback :]


Source = ETT
