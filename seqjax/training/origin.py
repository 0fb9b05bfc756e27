"""What a run begins with: random parameters, or those of another run."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from flax import traverse_util

from seqjax.screen import shown
from seqjax.training import processes, stored
from seqjax.training.checkpoint import chosen
from seqjax.training.state import State
from seqjax.training.workdir import Workdir
from seqjax.types import Checked, ConfigError, Count


@dataclasses.dataclass(frozen=True)
class Init(Checked):
    """The parameters before the first step are those of another `run`, a run folder; None: random ones.

    `checkpoint` is "best" (on validation), "latest" or a step; where that run kept a moving average of its parameters,
    it is taken. Parameters go by name and shape, and all must fit, but for those of the modules named in `fresh`
    ("head", "blocks_0/mixer"): they are random, whatever either model has there. The optimiser, the schedule and the
    order of the data begin anew.
    """

    run: str | None = None
    checkpoint: Literal["best", "latest"] | Count = "best"
    fresh: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.run is None and (self.checkpoint != "best" or self.fresh):
            raise ValueError("checkpoint and fresh are about another run: set init.run.")

    def origin(self, params, folder: Path | None = None) -> "Origin | None":
        """Where parameters come from, held against the abstract ones that are wanted in `folder`; None: nowhere.

        Raises:
          ConfigError: `run` is not the folder of a run, or its parameters do not fit.
          CheckpointError: it has no such checkpoint, or that is damaged.
          WorkdirError: it cannot be read.
        """
        return None if self.run is None else processes.together(lambda: self._look(params, folder))

    def _look(self, params, folder: Path | None) -> "Origin":
        other = Workdir(self.run)
        try:
            own = folder and other.path.resolve() == folder.resolve()
            if not own:
                other.config()
        except (ConfigError, OSError, ValueError) as error:  # the latter two: no file can have this name
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
                raise ConfigError(f"init.fresh: no parameter is called {module!r}; there are {', '.join(tops)}.")
        is_fresh = lambda name: any(_within(name, module) for module in self.fresh)
        saved, wanted = ({n: a for n, a in named.items() if not is_fresh(n)} for named in (saved, wanted))
        if found := stored.differences(saved, {n: [str(a.dtype), list(a.shape)] for n, a in wanted.items()}):
            raise ConfigError(
                f"init.run={self.run}: {len(found)} parameters differ (choose the model of that run, or have their "
                f"modules begin anew: init.fresh):{stored.listed(found)}"
            )
        if not wanted:
            raise ConfigError(f"init.fresh={list(self.fresh)} leaves nothing to take from init.run={self.run}.")
        return Origin(self, path, step, field, meta, wanted)


@dataclasses.dataclass(frozen=True)
class Origin:
    """A checkpoint whose parameters fit, `field` of its state; `wanted` are those to be taken, abstract, by name."""

    init: Init
    path: Path
    step: int
    field: str
    meta: dict
    wanted: dict

    def __str__(self) -> str:
        fresh = f", but for {', '.join(self.init.fresh)}" if self.init.fresh else ""
        return f"begins with the parameters of {self.init.run} at step {self.step}{fresh}"

    def about(self) -> dict:
        """What stands in run.json."""
        return {"run": self.init.run, "step": self.step, "fresh": list(self.init.fresh)}

    def begin(self, state: State, tx, shardings) -> State:
        """`state`, before its first step, with these parameters.

        Raises:
          CheckpointError: the checkpoint is damaged.
          WorkdirError: it cannot be read.
        """
        read = functools.partial(stored.load_field, self.path, self.meta, self.field, _tree(self.wanted))

        def replaced(state, taken):
            params = _tree({**_flat(state.params), **_flat(taken)})
            ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
            return state.replace(params=params, opt_state=tx.init(params), ema=ema)

        return jax.jit(replaced, out_shardings=shardings)(state, processes.together(read))


_flat = functools.partial(traverse_util.flatten_dict, sep="/")
_tree = functools.partial(traverse_util.unflatten_dict, sep="/")


def _within(name: str, module: str) -> bool:
    return f"{name}/".startswith(f"{module}/")
