"""The initial parameters of a run: random ones, or those of another run."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
from flax import traverse_util

from seqjax.screen import shown
from seqjax.training import processes, stored
from seqjax.training.checkpoint import chosen
from seqjax.training.state import State, restarted
from seqjax.training.workdir import Workdir
from seqjax.types import Checked, ConfigError, Count


@dataclasses.dataclass(frozen=True)
class Init(Checked):
    """Takes the initial parameters from another `run`, a run folder; None: they are random.

    `checkpoint` is "best" (on validation), "latest" or a step. If that run kept a moving average of its parameters, the
    average is used. Names and shapes of all parameters must match, except in the modules named in `fresh` ("head",
    "blocks_0/mixer"): these are random, whatever parameters the two models have there. The optimiser, the schedule and
    the order of the data start from the beginning.
    """

    run: str | None = None
    checkpoint: Literal["best", "latest"] | Count = "best"
    fresh: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.run is None and (self.checkpoint != "best" or self.fresh):
            raise ValueError("checkpoint and fresh apply only to another run: set init.run.")

    def origin(self, params, folder: Path | None = None) -> "Origin | None":
        """The checkpoint to start from, checked against the abstract `params` of the run in `folder`; None: no `run`.

        Raises:
          ConfigError: `run` is not the folder of a run, or its parameters do not fit.
          CheckpointError: the checkpoint does not exist or is damaged.
          WorkdirError: the checkpoint cannot be read.
        """
        return None if self.run is None else processes.together(lambda: self._look(params, folder))

    def _look(self, params, folder: Path | None) -> "Origin":
        other = Workdir(self.run)
        try:
            own = folder and other.path.resolve() == folder.resolve()
            if not own:
                other.config()
        except (ConfigError, OSError, ValueError) as error:  # OSError, ValueError: no file can have this name
            raise ConfigError(f"init.run={shown(self.run)[1:-1]}: {error}") from error
        if own:
            raise ConfigError(f"init.run={self.run} is the run's own folder: choose another run, or another --workdir.")
        checkpoints, step = chosen(other, self.checkpoint)
        path = checkpoints.root / str(step)
        meta = stored.metadata(path)
        fields = {field: stored.describe_field(meta, field) for field in ("params", "ema")}
        field = "ema" if fields["ema"] else "params"
        saved, wanted = fields[field], _flat(params)
        for module in self.fresh:
            if not any(_within(name, module) for name in (*saved, *wanted)):
                tops = dict.fromkeys(name.partition("/")[0] for name in wanted)
                raise ConfigError(f"init.fresh: no module is called {module!r}: choose from {', '.join(tops)}.")
        is_fresh = lambda name: any(_within(name, module) for module in self.fresh)
        saved, wanted = ({n: a for n, a in named.items() if not is_fresh(n)} for named in (saved, wanted))
        if found := stored.differences(saved, {n: [str(a.dtype), list(a.shape)] for n, a in wanted.items()}):
            raise ConfigError(
                f"init.run={self.run}: {len(found)} parameters differ (choose the model of that run, or list their "
                f"modules in init.fresh):{stored.listed(found)}"
            )
        if not wanted:
            raise ConfigError(f"init.fresh={list(self.fresh)} leaves no parameter to take: list fewer modules.")
        return Origin(self, path, step, field, meta, wanted)


@dataclasses.dataclass(frozen=True)
class Origin:
    """A checkpoint whose parameters fit, in `field` of its state; `wanted`: name -> abstract parameter to take."""

    init: Init
    path: Path
    step: int
    field: str
    meta: dict
    wanted: dict

    def __str__(self) -> str:
        fresh = f", except {', '.join(self.init.fresh)}" if self.init.fresh else ""
        return f"begins with the parameters of {self.init.run} at step {self.step}{fresh}"

    def about(self) -> dict:
        """The entry for run.json."""
        return {"run": self.init.run, "step": self.step, "fresh": list(self.init.fresh)}

    def begin(self, state: State, learner, shardings) -> State:
        """Puts these parameters into `state`, before its first step; raises as `stored.load` does."""
        read = functools.partial(stored.load_field, self.path, self.meta, self.field, _tree(self.wanted))

        def replaced(state, taken):
            return restarted(state, _tree({**_flat(state.params), **_flat(taken)}), learner)

        return jax.jit(replaced, out_shardings=shardings)(state, processes.together(read))


_flat = functools.partial(traverse_util.flatten_dict, sep="/")
_tree = functools.partial(traverse_util.unflatten_dict, sep="/")


def _within(name: str, module: str) -> bool:
    return f"{name}/".startswith(f"{module}/")
