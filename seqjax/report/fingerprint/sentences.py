"""Describes a fingerprint in sentences, and lists the commands that measure it again."""

import shlex

from seqjax.report import words
from seqjax.report.fingerprint.measured import Measured, factors, title

SOLVED, FAILED = 0.95, 0.1  # skills, from 0 (chance) to 1 (perfect)


def headline(mark: Measured) -> str:
    """The probes that a mixer solves and does not solve at the trained length."""
    skills = {probe: mark.skill(probe) for probe in mark.probes}
    solved = [title(p) for p, s in skills.items() if s is not None and s >= SOLVED]
    failed = [title(p) for p, s in skills.items() if s is None or s < FAILED]
    between = len(skills) - len(solved) - len(failed)
    parts = [f"solves {words.listed(solved)}" if solved else "solves none of the probes"]
    if between:
        parts.append(f"learns {between} in part")
    if failed:
        parts.append(f"does not learn {words.listed(failed)}")
    return f"{mark.name} {words.listed(parts)}."


def longer(mark: Measured) -> str:
    """The longest length up to which the mixer still solves each solved probe."""
    held = []
    for probe in mark.probes:
        all_of = factors([mark], probe)
        if len(all_of) > 1 and (mark.skill(probe) or 0) >= SOLVED:
            far = [f for f in all_of if all((mark.skill(probe, g) or 0) >= SOLVED for g in all_of if g <= f)]
            held.append(f"{title(probe)} {f'up to {far[-1]}x' if far[-1] > 1 else 'only at the trained length'}")
    return f"How far its solutions hold, in multiples of the trained length: {'; '.join(held)}." if held else ""


def notes(mark: Measured) -> list[str]:
    """Notes that a reader needs to judge the scores."""
    tree, model = mark.tree, mark.tree["model"]
    seeds = {record["seeds"] for record in mark.probes.values()}
    out = [
        f"Tier {tree['tier']}: {words.model(model)[0]}, {words.model(model)[1]}, "
        f"{words.count(tree['parameters'])} parameters on the first probe.",
        f"Scores are accuracies on a test split that was used once; {words.listed(map(str, sorted(seeds)))} "
        f"seed{'s' * (seeds != {1})}. The learning rate of each probe was chosen by validation loss, seed 0.",
        "Skill is (accuracy - chance) / (1 - chance), where chance is the best answer that needs no memory.",
        longer(mark),
        *(
            f"{title(name)}: {record['diverged']} of {record['seeds']} seeds diverged and "
            f"{'is' if record['diverged'] == 1 else 'are'} not counted."
            for name, record in mark.probes.items()
            if record["diverged"]
        ),
    ]
    return [line for line in out if line]


def commands(mark: Measured) -> list[str]:
    """The commands that measure the fingerprint again, and that train its runs again from the folder of the page."""
    tree = mark.tree
    again = ["seqjax", "fingerprint", "--mixer", tree["mixer"], "--name", mark.name, "--tier", tree["tier"]]
    again += ["--seeds", str(max((record["seeds"] for record in mark.probes.values()), default=1)), "--workdir", "NEW"]
    again += [f"--config.{override}" for override in tree["overrides"]]
    lines = [shlex.join(again)]
    for record in mark.probes.values():
        for run in record["runs"]:
            lines.append(f"seqjax train --config {shlex.quote(f'{mark.name}/{run}/config.json')} --workdir NEW")
    return lines
