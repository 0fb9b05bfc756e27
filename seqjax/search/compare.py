"""Runs a comparison: sizes, learning rates, seeds, test. Finished parts are read from the folder, not repeated.

<workdir>/comparison.json   the comparison, which is also a valid --config
<workdir>/sizes.json        the cost of each contender, and the width that was solved for it
<workdir>/runs/...          one run folder for each contender, value, learning rate and seed
"""

import functools

from seqjax.search._display import QUIET, Display
from seqjax.search.findings import Findings, Found
from seqjax.search.plan import Comparison
from seqjax.search.sizes import sizes
from seqjax.search.stages import Setting, Stages, impossible
from seqjax.training.experiment import Experiment
from seqjax.training.workdir import Workdir

EXTENSIONS = 2  # most learning rates that are added to a grid


def compare(c: Comparison, workdir: Workdir, executor, display: Display = QUIET) -> Findings:
    """Runs all parts of a comparison that are not in its folder yet; the folder must be locked.

    Raises what `sizes` and `Stages.settle` raise.
    """
    sized = sizes(c, workdir, display)
    e = Experiment(sized[0][0].config)
    monitor = e.task.monitor, e.metrics[e.task.monitor]
    settings, lacking = [], {}
    for cell, _ in sized:
        key, away = c.away(cell.value)
        why = impossible(cell.config, away.values())
        lacking |= {(cell.name, cell.value, assignment): error for assignment, error in why.items()}
        at = [a for v, a in away.items() if cell.get(key) != v and a not in why]
        trial = functools.partial(cell.trial, workdir.path)
        settings.append(Setting(str(cell.folder), trial, cell.rates(c.grid(cell.name)), at))
    stages = Stages(workdir, workdir.path / "runs", executor, monitor, display)
    settled = stages.settle(settings, c.seeds, c.learning_rate_seeds, EXTENSIONS)
    founds = [Found(cell=cell, size=size, **vars(found)) for (cell, size), found in zip(sized, settled, strict=True)]
    return Findings(c, founds, e.task.monitor, e.metrics, lacking)
