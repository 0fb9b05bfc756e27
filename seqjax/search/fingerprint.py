"""Fingerprints: what a mixer can do, and what it costs, measured by the same few probes for all mixers.

    measured = Fingerprint("gru", "runs/fingerprint", tier="cpu").run()

`runs/fingerprint/gru/` then holds a run for each probe and learning rate, and `fingerprint.json`: the score of each
probe on its test split at its own length and at longer ones, and time and memory against length. A killed
fingerprint goes on where it stopped.
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
START = 8.0  # seconds until a run makes its first step, about
OURS = ("optim.learning_rate", "seed", "data", "task", "train.steps")  # what the tier decides


class Fingerprint:
    """One mixer and everything that is asked of it.

    `overrides` are those of a config, of every probe alike (`model.mixer.heads=2`). The learning rate of each probe is
    chosen on validation with the first seed; the other `seeds` train with it. `slots` runs go at a time.

    Raises:
      ConfigError: no such mixer or tier, an override of what the tier decides, a mixer that sees ahead or reads a
        memory, or a folder with the fingerprint of something else.
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
            raise ConfigError(f"got {seeds} seeds and {slots} slots, wanted 1 at least.")
        if name and (name in ("index", ".", "..") or "/" in name):
            raise ConfigError(f"--name {name}: it names a folder and a page beside index.html, choose another.")
        self.mixer, self.overrides = mixer, list(overrides)
        for override in self.overrides:
            key = override.partition("=")[0]
            if key.startswith(OURS):
                raise ConfigError(f"--config.{override}: {', '.join(OURS)} are the tier's: choose another --tier.")
            if key in ("model.mixer", "model.mixer.name") and not name:
                raise ConfigError(
                    f"--config.{override} is another mixer than {mixer}: say with --name what to call it."
                )
        self.name = name or re.sub(r"[^\w-]+", "-", mixer)
        self.tier_name, self.tier, self.seeds, self.slots, self.say = tier, TIERS[tier], seeds, slots, say
        self.workdir = Workdir(Path(workdir) / self.name)
        self.model = self._tree(self.tier.probes[0], self.tier.peaks[0], 0)["model"]
        if why := unfit(self.model):
            raise ConfigError(f"no fingerprint of {mixer}: {why}.")

    def run(self, executor: Executor | None = None) -> dict:
        """Everything that is not known yet; returns what fingerprint.json holds then.

        Runs go to `executor`, if one is given, and else to this machine.

        Raises:
          Preempted: a signal came; the same call goes on.
          SeqjaxError: a run failed, and not by numbers that ran away.
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
        """(probe, learning rate, seed) -> the trial; of the seeds behind the first, all rates that may be chosen."""
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
        """What is known already; else the head of the file."""
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
        """How many runs there are, and the seconds that training takes one after the other, by the steps of one."""
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
            best = outcome.best(METRIC)
            what = f"validation {METRIC} {best:.3f}" if best is not None else outcome.error or outcome.status
            self.say(f"{self.name}  [{done}/{len(trials)}]  {trial.folder.parent.name}  {trial.folder.name}: {what}")

        trials_lib.run(trials, executor, on_done=on_done, check=self.workdir.check)
        if failed := [trial for trial in trials if not trials_lib.outcome(trial).ended]:
            raise SeqjaxError(
                f"{len(failed)} of {len(trials)} runs failed, the first: {trials_lib.outcome(failed[0]).error} (see "
                f"{failed[0].log}). The same command tries them again."
            )

    def _choose(self, probe: Probe) -> float | None:
        """The learning rate with the least validation loss; None if none gave a number."""
        best = {peak: self._outcome(probe, peak, 0).trained(CHOICE) for peak in self.tier.peaks}
        known = {peak: loss for peak, loss in best.items() if loss is not None}
        return min(known, key=known.get) if known else None

    def _outcome(self, probe: Probe, peak: float, seed: int) -> Outcome:
        return trials_lib.outcome(self.trials[probe.name, peak, seed])

    # Scores.

    def _score(self, probe: Probe) -> dict:
        """The record of a probe: its runs, and what the chosen ones score on test, once."""
        peak = self._choose(probe)
        outcomes = {f"{p:g}": self._outcome(probe, p, 0) for p in self.tier.peaks}
        every = [self.trials[probe.name, peak, seed] for seed in range(self.seeds)] if peak else []
        chosen = [trial for trial in every if trials_lib.outcome(trial).trained(CHOICE) is not None]
        return {
            "about": probe.about,
            "data": probe.data,
            "steps": probe.steps,
            "seeds": self.seeds,
            "peak": peak,
            "config": self.trials[probe.name, peak or self.tier.peaks[0], 0].config,
            "rates": {rate: outcome.trained(CHOICE) for rate, outcome in outcomes.items()},
            "runs": [str(trial.folder.relative_to(self.workdir.path)) for trial in chosen],
            "diverged": len(every) - len(chosen),
            "scores": [score.at(chosen, probe, factor) for factor in probe.factors] if chosen else [],
        }

    # Costs.

    def _cost(self, length: int) -> dict:
        """Time and memory at one length, of the same model on other data."""
        tree = self._tree(self.tier.probes[0], self.tier.peaks[0], 0)
        tree["data"] = {"name": "copy", "length": length // 2}  # length + 1 tokens, the last of which is not read
        tree["loader"]["batch_size"] = self.tier.rows
        tree["model"] = capacity.fitted(tree["model"], length + cost_lib.TOKENS)
        return cost_lib.measure(Experiment(resolve(tree)))


def _line(record: dict) -> str:
    """The scores of a probe in one line."""
    if not record["scores"]:
        return "no run gave a number"
    mean = lambda score: sum(score[METRIC]) / len(score[METRIC]) if score[METRIC] else None
    at = lambda score: "" if score["factor"] == 1 else f"{score['factor']}x "
    return ", ".join(f"{at(s)}{mean(s):.3f}" if mean(s) is not None else f"{at(s)}-" for s in record["scores"])


def read(workdir: str | Path) -> tuple[list[dict], list[str]]:
    """All finished fingerprints of a folder, by name; and the names of those that are not.

    Raises:
      WorkdirError: one of them is damaged.
    """
    folders = [Workdir(file.parent) for file in sorted(Path(workdir).glob(f"*/{FILE}"))]
    found = {folder.path.name: score.known(folder, FILE) for folder in folders}
    unfinished = [name for name, tree in found.items() if not tree.get("finished")]
    return [tree for name, tree in found.items() if name not in unfinished], unfinished
