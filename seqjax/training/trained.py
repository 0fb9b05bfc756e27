"""A trained model, loaded from a run folder."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from seqjax.data import TextWindows
from seqjax.training import cost, facts, history, tokenizer_file
from seqjax.training.checkpoint import chosen
from seqjax.training.elsewhere import elsewhere
from seqjax.training.evaluate import Evaluation
from seqjax.training.experiment import Experiment
from seqjax.training.net import Net
from seqjax.training.parallel import Layout, Parallel
from seqjax.training.records import Info
from seqjax.training.workdir import Workdir, finite
from seqjax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Trained:
    """An experiment and the parameters of one of its checkpoints (or their moving average, if the run keeps one)."""

    experiment: Experiment
    workdir: Workdir
    layout: Layout
    params: Any
    step: int

    @classmethod
    def load(cls, path: str | Path, checkpoint: str | int = "best") -> "Trained":
        """Reads a run folder; `checkpoint` is "best", "latest" or a step.

        Raises:
          ConfigError: `path` is not the folder of a run, or `checkpoint` is another word.
          CheckpointError: the checkpoint does not exist or is damaged, or it was trained with another config or other
            data.
          WorkdirError: the config is damaged, or the folder cannot be read.
        """
        workdir = Workdir(path)
        experiment = Experiment(history.config_of(workdir), saved=tokenizer_file.of_run(workdir))
        cost.check_room(experiment.shapes)
        checkpoints, step = chosen(workdir, checkpoint)
        layout = Parallel().layout(batch=jax.device_count(), accumulate=1)  # one row per device; the size is not used
        state, meta = checkpoints.restore(layout.abstract(experiment.shapes), step)
        history.check_folder(meta, experiment, workdir)
        history.check_data(meta["data"], history.fingerprint(experiment), "")
        return cls(experiment, workdir, layout, state.eval_params, meta["step"])

    @property
    def net(self) -> Net:
        """The model with these parameters: `trained.net(reads).prediction`."""
        return Net(self.experiment.model, self.params)

    def at(self, assignment: str) -> "Trained":
        """The same parameters on other data: `trained.at("data.length=512")`; see `seqjax.training.elsewhere`."""
        return dataclasses.replace(self, experiment=elsewhere(self.experiment, assignment))

    def on_file(self, path: str) -> "Trained":
        """The same parameters on a text of your own: `trained.on_file("my.txt").evaluate("file")`.

        Raises:
          ConfigError: the data of the run are no running text.
          DataError: the file is no text that the tokenizer of the run can read.
        """
        e = self.experiment
        if not isinstance(e.source, TextWindows):
            raise ConfigError(
                f"--file scores a text, but data.name={e.config['data']['name']!r} is no running text: evaluate its "
                "splits with --split."
            )
        there = Experiment(e.config, source=e.source.with_file(path), saved=e.tokenizer)
        return dataclasses.replace(self, experiment=there)

    def evaluate(self, split: str, on_batch=lambda done, total: None, name: str | None = None) -> dict:
        """Evaluates a finite split; writes the result to results.json, under `name` or the name of the split."""
        evaluation = Evaluation(self.experiment.evaluators, split, self.layout, self.workdir.write)
        if evaluation.examples is None:
            raise DataError(f"split {split!r} is endless: evaluate a split of fixed size, such as validation.")
        metrics = evaluation(self.params, self.step, on_batch)
        result = {"step": self.step, "examples": evaluation.examples, "metrics": metrics}
        self.workdir.update("results.json", {name or split: {**result, "metrics": finite(metrics)}})
        return result

    def add_baselines(self, split: str) -> str | None:
        """Adds what the source's `slow_baselines` reach on a split to run.json, unless it has them.

        Returns why it did not, if a package is missing.
        """
        try:
            news = facts.with_slow(self.workdir.record("run.json", Info) or Info(), self.experiment.source, split)
        except ConfigError as error:
            return f"baselines that are trained are missing: {error}"
        if news:
            self.workdir.update("run.json", news)
        return None
