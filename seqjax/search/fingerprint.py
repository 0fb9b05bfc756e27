"""Fingerprints: the abilities and the cost of a mixer, measured by the same few probes for all mixers.

    measured = Fingerprint("gru", "runs/fingerprint", tier="cpu").run()

`runs/fingerprint/gru/` then holds a run for each probe and learning rate, and `fingerprint.json`: the score of each
probe on its test split at the trained length and at longer ones, and time and memory by length. If a fingerprint is
killed, the same call resumes it.
"""

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from seqjax import config
from seqjax.search import _fingerprint_cost as cost_lib
from seqjax.search import _fingerprint_score as score
from seqjax.search import trials as trials_lib
from seqjax.search._fingerprint_mixers import causal, unfit
from seqjax.search._fingerprint_tiers import CHOICE, METRIC, TIERS, Probe
from seqjax.search.executors._base import Executor
from seqjax.search.executors.local import Local
from seqjax.search.trials import Outcome, Trial
from seqjax.training import capacity, cost, facts
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, SeqjaxError

__all__ = ["FILE", "Fingerprint", "causal", "read"]

FILE = "fingerprint.json"
START = 8.0  # seconds from the start of a run to its first step, roughly
OURS = ("optim.learning_rate", "seed", "data", "task", "train.steps")  # keys that the tier sets


class Fingerprint:
    """Measures the fingerprint of one mixer.

    `overrides` change the config of every probe (`model.mixer.heads=2`). The learning rate of each probe is chosen on
    validation with the first seed; the other `seeds` train with the chosen one. `slots` runs train at a time.

    Raises:
      ConfigError: no such mixer or tier, an override of a key that the tier sets, a mixer that is not causal or reads
        a memory sequence, or a folder that holds another fingerprint.
    """

    def __init__(
        self,
        mixer: str,
        workdir: str | Path,
        *,
        name: str | None = None,
        overrides: Iterable[str] = (),
        tier: str = "cpu",
        seeds: int = 1,
        slots: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ):
        if tier not in TIERS:
            raise ConfigError(f"--tier {tier}: choose from {', '.join(TIERS)}.")
        if seeds < 1 or slots < 1:
            raise ConfigError(f"got {seeds} seeds and {slots} slots, wanted at least 1 of each.")
        if name and (name in ("index", ".", "..") or "/" in name):
            raise ConfigError(f"--name {name} cannot be the name of a folder and of a page: choose another.")
        self.mixer, self.overrides = mixer, list(overrides)
        for override in self.overrides:
            key = override.partition("=")[0]
            if key.startswith(OURS):
                raise ConfigError(f"--config.{override}: the tier sets {', '.join(OURS)}: choose another --tier.")
            if key in ("model.mixer", "model.mixer.name") and not name:
                raise ConfigError(
                    f"--config.{override} changes the mixer from {mixer}: name the fingerprint with --name."
                )
        self.name = name or re.sub(r"[^\w-]+", "-", mixer)
        self.tier_name, self.tier, self.seeds, self.slots, self.say = tier, TIERS[tier], seeds, slots, say
        self.workdir = Workdir(Path(workdir) / self.name)
        self.model = self._tree(self.tier.probes[0], self.tier.peaks[0], 0)["model"]
        if why := unfit(self.model):
            raise ConfigError(f"{mixer} has no fingerprint: {why}.")

    def run(self, executor: Executor | None = None) -> dict:
        """Measures all parts that are not known yet; returns the content of fingerprint.json.

        Runs use `executor` if it is given, else this machine.

        Raises:
          Preempted: a signal arrived; the same call resumes.
          SeqjaxError: a run failed for another reason than divergence.
        """
        self.workdir.lock()
        try:
            found = self._begin()
            with executor or Local(slots=self.slots) as executor:
                self._train(self._first(), executor)
                self._train(self._rest(), executor)
            for probe in self.tier.probes:
                if found["probes"].get(probe.name, {}).get("seeds", 0) < self.seeds:
                    found["probes"][probe.name] = self._score(probe)
                    self.workdir.write(FILE, found)
                self.say(f"{self.name}  {probe.name}: {_line(found['probes'][probe.name])}")
            for length in self.tier.lengths:
                if str(length) not in found["costs"]:
                    found["costs"][str(length)] = self._cost(length)
                    self.workdir.write(FILE, found)
            self.say(f"{self.name}  timed at lengths {', '.join(found['costs'])}")
            found["finished"] = True
            self.workdir.write(FILE, found)
            return found
        finally:
            self.workdir.unlock()

    @cached_property
    def trials(self) -> dict[tuple[str, float, int], Trial]:
        """(probe, learning rate, seed) -> the trial. Later seeds have a trial per rate; only the chosen one trains."""
        return {
            (probe.name, peak, seed): Trial(
                self.workdir.path / probe.name / f"peak-{peak:g}-seed-{seed}", self._tree(probe, peak, seed)
            )
            for probe in self.tier.probes
            for peak in self.tier.peaks
            for seed in range(self.seeds)
        }

    def _tree(self, probe: Probe, peak: float, seed: int) -> dict:
        return self.tier.tree(probe, self.mixer, peak, seed, self.overrides)

    def _begin(self) -> dict:
        """Returns the fingerprint in the folder, or a new one that has only facts about the model and the machine."""
        found = score.known(self.workdir, FILE)
        if found is None:
            e = Experiment(next(iter(self.trials.values())).config)
            found = {
                "name": self.name,
                "mixer": self.mixer,
                "overrides": self.overrides,
                "tier": self.tier_name,
                "model": self.model,
                "parameters": cost.count(e.shapes.params),
                "rows": self.tier.rows,
                "hardware": facts.hardware(),
                "versions": facts.versions(),
                "git": facts.revision(),
                "probes": {},
                "costs": {},
                "finished": False,
            }
        wanted = {"tier": self.tier_name, "model": self.model}
        if different := config.differences({k: found[k] for k in wanted}, wanted):
            key, (old, new) = next(iter(different.items()))
            raise ConfigError(
                f"{self.workdir.path} holds another fingerprint, {key} is {old!r} there and {new!r} here: "
                "choose another --name or --workdir, or delete it."
            )
        self.workdir.write(FILE, found)
        return found

    def estimate(self) -> tuple[int, float]:
        """Returns the number of runs, and the seconds to train them one after the other, from the time of one step."""
        tier = self.tier
        tokens = lambda e: e.batches.first["mask"].size
        built = {p.name: Experiment(self._tree(p, tier.peaks[0], 0)) for p in tier.probes}
        first = built[tier.probes[0].name]
        each = cost_lib.step_seconds(first) / tokens(first)
        runs = len(tier.peaks) + self.seeds - 1
        steps = sum(p.steps * each * tokens(built[p.name]) for p in tier.probes)
        return runs * len(tier.probes), runs * (steps + START * len(tier.probes))

    # Training.

    def _first(self):
        return [self.trials[probe.name, peak, 0] for probe in self.tier.probes for peak in self.tier.peaks]

    def _rest(self):
        chosen = [(probe.name, self._choose(probe)) for probe in self.tier.probes]
        return [
            self.trials[name, peak, seed] for name, peak in chosen if peak is not None for seed in range(1, self.seeds)
        ]

    def _train(self, trials: list[Trial], executor) -> None:
        done = 0

        def on_done(trial: Trial, outcome: Outcome):
            nonlocal done
            done += 1
            best = outcome.best(METRIC, "more")
            what = f"validation {METRIC} {best:.3f}" if best is not None else outcome.error or outcome.status
            self.say(f"{self.name}  [{done}/{len(trials)}]  {trial.folder.parent.name}  {trial.folder.name}: {what}")

        trials_lib.run(trials, executor, on_done=on_done, check=self.workdir.check)
        if failed := [trial for trial in trials if not trials_lib.outcome(trial).ended]:
            raise SeqjaxError(
                f"{len(failed)} of {len(trials)} runs failed, the first: {trials_lib.outcome(failed[0]).error} (see "
                f"{failed[0].log}). The same command tries them again."
            )

    def _choose(self, probe: Probe) -> float | None:
        """The learning rate with the lowest validation loss; None if no loss is finite."""
        best = {peak: self._outcome(probe, peak, 0).trained(CHOICE, "less") for peak in self.tier.peaks}
        known = {peak: loss for peak, loss in best.items() if loss is not None}
        return min(known, key=known.get) if known else None

    def _outcome(self, probe: Probe, peak: float, seed: int) -> Outcome:
        return trials_lib.outcome(self.trials[probe.name, peak, seed])

    # Scores.

    def _score(self, probe: Probe) -> dict:
        """The record of a probe: its runs, and the test scores of the chosen ones."""
        peak = self._choose(probe)
        outcomes = {f"{p:g}": self._outcome(probe, p, 0) for p in self.tier.peaks}
        every = [self.trials[probe.name, peak, seed] for seed in range(self.seeds)] if peak else []
        chosen = [trial for trial in every if trials_lib.outcome(trial).trained(CHOICE, "less") is not None]
        return {
            "about": probe.about,
            "data": probe.data,
            "steps": probe.steps,
            "seeds": self.seeds,
            "peak": peak,
            "config": self.trials[probe.name, peak or self.tier.peaks[0], 0].config,
            "rates": {rate: outcome.trained(CHOICE, "less") for rate, outcome in outcomes.items()},
            "runs": [str(trial.folder.relative_to(self.workdir.path)) for trial in chosen],
            "diverged": len(every) - len(chosen),
            "scores": [score.at(chosen, probe, factor) for factor in probe.factors] if chosen else [],
        }

    # Costs.

    def _cost(self, length: int) -> dict:
        """Time and memory of the same model at one length, on other data."""
        tree = self._tree(self.tier.probes[0], self.tier.peaks[0], 0)
        tree["data"] = {"name": "copy", "length": length // 2}  # length + 1 tokens; the last one is not read
        tree["loader"]["batch_size"] = self.tier.rows
        tree["model"] = capacity.fitted(tree["model"], length + cost_lib.TOKENS)
        return cost_lib.measure(Experiment(resolve(tree)))


def _line(record: dict) -> str:
    """The scores of a probe in one line."""
    if not record["scores"]:
        return "no run has a finite validation loss"
    mean = lambda score: sum(score[METRIC]) / len(score[METRIC]) if score[METRIC] else None
    at = lambda score: "" if score["factor"] == 1 else f"{score['factor']}x "
    return ", ".join(f"{at(s)}{mean(s):.3f}" if mean(s) is not None else f"{at(s)}-" for s in record["scores"])


def read(workdir: str | Path) -> tuple[list[dict], list[str]]:
    """Returns the finished fingerprints of a folder in order of name, and the names of the unfinished ones.

    Raises:
      WorkdirError: one of them is damaged.
    """
    folders = [Workdir(file.parent) for file in sorted(Path(workdir).glob(f"*/{FILE}"))]
    found = {folder.path.name: score.known(folder, FILE) for folder in folders}
    unfinished = [name for name, tree in found.items() if not tree.get("finished")]
    return [tree for name, tree in found.items() if name not in unfinished], unfinished
