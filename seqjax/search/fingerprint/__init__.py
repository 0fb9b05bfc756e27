"""Fingerprints: the abilities and the cost of a mixer, measured by the same few probes for all mixers.

    measured = Fingerprint("gru", "runs/fingerprint", tier="cpu").run()

`runs/fingerprint/gru/` then holds a run for each probe and learning rate, and `fingerprint.json`: the score of each
probe on its test split at the trained length and at longer ones, and time and memory by length. If a fingerprint is
killed, the same call resumes it.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path

from seqjax.search import match, trials
from seqjax.search._display import QUIET, START, Display
from seqjax.search.executors._base import Executor
from seqjax.search.executors.local import Local
from seqjax.search.fingerprint import cost as cost_lib
from seqjax.search.fingerprint.mixers import causal, unfit
from seqjax.search.fingerprint.tiers import CHOICE, METRIC, TIERS, Probe
from seqjax.search.stages import Setting, Settled, Stages, impossible, split
from seqjax.training import capacity, facts, files
from seqjax.training.elsewhere import elsewhere
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, WorkdirError

__all__ = ["FILE", "Fingerprint", "causal", "read"]

FILE = "fingerprint.json"
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
        display: Display = QUIET,
    ):
        if tier not in TIERS:
            raise ConfigError(f"--tier {tier}: choose from {', '.join(TIERS)}.")
        if seeds < 1 or slots < 1:
            raise ConfigError(f"got {seeds} seeds and {slots} slots, wanted at least 1 of each.")
        if name and (name in ("index", ".", "..") or "/" in name):
            raise ConfigError(f"--name {name} cannot be the name of a folder and of a page: choose another.")
        self.mixer, self.overrides, self.display = mixer, list(overrides), display
        for override in self.overrides:
            key = override.partition("=")[0]
            if key.startswith(OURS):
                raise ConfigError(f"--config.{override}: the tier sets {', '.join(OURS)}: choose another --tier.")
            if key in ("model.mixer", "model.mixer.name") and not name:
                raise ConfigError(
                    f"--config.{override} changes the mixer from {mixer}: name the fingerprint with --name."
                )
        self.name = name or re.sub(r"[^\w-]+", "-", mixer)
        self.tier_name, self.tier, self.seeds, self.slots = tier, TIERS[tier], seeds, slots
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
            settings = [self._setting(probe) for probe in self.tier.probes]
            with executor or Local(slots=self.slots) as executor:
                stages = Stages(self.workdir, self.workdir.path, executor, (CHOICE, "less"), self.display)
                settled = stages.settle(settings, range(self.seeds), [0])
            for probe, result in zip(self.tier.probes, settled, strict=True):
                if found["probes"].get(probe.name, {}).get("seeds", 0) < self.seeds:
                    found["probes"][probe.name] = self._record(probe, result)
                    self.workdir.write(FILE, found)
                self.display.say(f"{self.name}  {probe.name}: {_line(found['probes'][probe.name])}")
            for length in self.tier.lengths:
                if str(length) not in found["costs"]:
                    found["costs"][str(length)] = self._cost(length)
                    self.workdir.write(FILE, found)
            self.display.say(f"{self.name}  timed at lengths {', '.join(found['costs'])}")
            found["finished"] = True
            self.workdir.write(FILE, found)
            return found
        finally:
            self.workdir.unlock()

    def trial(self, probe: Probe, peak: float, seed: int) -> trials.Trial:
        """One run of a probe."""
        folder = self.workdir.path / probe.name / f"peak-{peak:g}-seed-{seed}"
        return trials.Trial(folder, self._tree(probe, peak, seed))

    def _setting(self, probe: Probe) -> Setting:
        at = [probe.at(factor) for factor in probe.factors if factor != 1]
        why = impossible(self._tree(probe, self.tier.peaks[0], 0), at)
        possible = [assignment for assignment in at if assignment not in why]
        return Setting(probe.name, functools.partial(self.trial, probe), self.tier.peaks, possible)

    def _tree(self, probe: Probe, peak: float, seed: int) -> dict:
        return self.tier.tree(probe, self.mixer, peak, seed, self.overrides)

    def _begin(self) -> dict:
        """Returns the fingerprint in the folder, or a new one that has only facts about the model and the machine."""
        found = self.workdir.read(FILE)
        if found is None:
            found = {
                "name": self.name,
                "mixer": self.mixer,
                "overrides": self.overrides,
                "tier": self.tier_name,
                "model": self.model,
                "parameters": match.parameters(Experiment(self._tree(self.tier.probes[0], self.tier.peaks[0], 0))),
                "rows": self.tier.rows,
                "hardware": facts.hardware(),
                "versions": facts.versions(),
                "git": facts.revision(),
                "probes": {},
                "costs": {},
                "finished": False,
            }
        wanted = {"tier": self.tier_name, "model": self.model}
        checked(found, str(self.workdir.path / FILE))
        what = f"{self.workdir.path} holds another fingerprint"
        trials.check_same({k: found[k] for k in wanted}, wanted, what, "--name or --workdir")
        self.workdir.write(FILE, found)
        return found

    def estimate(self) -> tuple[int, float]:
        """Returns the number of runs, and the seconds to train them one after the other, from the time of one step."""
        tier = self.tier
        tokens = lambda e: e.batches.first["mask"].size
        built = {p.name: Experiment(self._tree(p, tier.peaks[0], 0)) for p in tier.probes}
        first = built[tier.probes[0].name]
        each = match.step_seconds(first) / tokens(first)
        runs = len(tier.peaks) + self.seeds - 1
        steps = sum(p.steps * each * tokens(built[p.name]) for p in tier.probes)
        return runs * len(tier.probes), runs * (steps + START * len(tier.probes))

    def _record(self, probe: Probe, found: Settled) -> dict:
        """The record of a probe: its runs, and the test scores of those with a finite validation loss."""
        chosen = {seed: run for seed, run in found.runs.items() if run.trained(CHOICE, "less") is not None}
        tree, outcomes = self._tree(probe, found.rate or self.tier.peaks[0], 0), list(chosen.values())
        folders = [self.trial(probe, found.rate, seed).folder for seed in chosen]
        return {
            "about": probe.about,
            "data": probe.data,
            "steps": probe.steps,
            "seeds": self.seeds,
            "peak": found.rate,
            "config": tree,
            "rates": {f"{rate:g}": values[0] for rate, values in found.rates.items()},
            "runs": [str(folder.relative_to(self.workdir.path)) for folder in folders],
            "diverged": len(found.runs) - len(chosen),
            "scores": [score(probe, tree, factor, outcomes) for factor in probe.factors if chosen],
        }

    def _cost(self, length: int) -> dict:
        """Time and memory of the same model at one length, on other data."""
        tree = self._tree(self.tier.probes[0], self.tier.peaks[0], 0)
        tree["data"] = {"name": "copy", "length": length // 2}  # length + 1 tokens; the last one is not read
        tree["loader"]["batch_size"] = self.tier.rows
        tree["model"] = capacity.fitted(tree["model"], length + cost_lib.TOKENS)
        return cost_lib.measure(Experiment(resolve(tree)))


def score(probe: Probe, tree: dict, factor: int, outcomes: list[trials.Outcome]) -> dict:
    """The test scores of runs at a multiple of the trained length, and the score of chance; or an error."""
    at, found = probe.at(factor), {"factor": factor, "length": probe.length(factor), METRIC: [], "exact_match": []}
    try:
        source = (elsewhere(Experiment(tree), at) if at else Experiment(tree)).source
    except ConfigError as error:  # for example, learned positions have a maximal length
        return found | {"error": str(error)}
    for outcome in outcomes:
        for name in (METRIC, "exact_match"):
            found[name].append(outcome.results[split(at)].metrics[name])
    return found | {"tokens": source.spec.length, "chance": max(source.baselines("test")[METRIC].values())}


def _line(record: dict) -> str:
    """The scores of a probe in one line."""
    if not record["scores"]:
        return "no run has a finite validation loss"
    mean = lambda score: sum(score[METRIC]) / len(score[METRIC]) if score[METRIC] else None
    at = lambda score: "" if score["factor"] == 1 else f"{score['factor']}x "
    return ", ".join(f"{at(s)}{mean(s):.3f}" if mean(s) is not None else f"{at(s)}-" for s in record["scores"])


def checked(tree: dict, name: str) -> dict:
    """The content of a fingerprint.json. Raises WorkdirError if it lacks a key that every fingerprint has."""
    if missing := {"name", "tier", "model", "probes", "costs", "hardware", "versions"} - tree.keys():
        raise WorkdirError(f"{name} lacks {', '.join(sorted(missing))}: {files.FIX}; then measure it again.")
    return tree


def read(workdir: str | Path) -> tuple[list[dict], list[str]]:
    """Returns the finished fingerprints of a folder in order of name, and the names of the unfinished ones."""
    paths = sorted(Path(workdir).absolute().glob(f"*/{FILE}"))
    found = {path.parent.name: checked(files.read_json(path), str(path)) for path in paths}
    unfinished = [name for name, tree in found.items() if not tree.get("finished")]
    return [tree for name, tree in found.items() if name not in unfinished], unfinished
