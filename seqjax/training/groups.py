"""Groups of parameters: which of them are trained, how fast, and from which step."""

import dataclasses
import re
from typing import NamedTuple

import jax

from seqjax import lookup
from seqjax.training import cost
from seqjax.types import Checked, ConfigError, Natural, NonNegative

LISTED = 8  # parameters that an error lists


@dataclasses.dataclass(frozen=True)
class Group(Checked):
    """The parameters whose whole path (`embedding/embedding`, see `--dry_run`) matches the regular expression `match`.

        theta <- theta - rate * lr(step) * (optimiser(g) + decay * weight_decay * theta)     if step >= from_step

    Before `from_step`, and always if `rate` is 0, a parameter is frozen: it keeps its bits and has no weight decay, and
    its gradient does not count in the gradient norm. Its moments are zero until `from_step`, and its optimiser counts
    its steps from there; with rate 0 it has no moments. A parameter belongs to the first group that matches its path.
    """

    match: str
    rate: NonNegative = 1.0
    decay: NonNegative = 1.0
    from_step: Natural = 0

    def __post_init__(self):
        super().__post_init__()
        try:
            re.compile(self.match)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"match={self.match!r} is not a regular expression: {error}.") from error
        if not self.rate and self.from_step:
            raise ValueError(
                f"rate=0 freezes for the whole run, got from_step={self.from_step}: remove one of the two."
            )


OTHERS = Group(".*")  # the parameters of no group


class Rule(NamedTuple):
    """How one parameter is trained. `group`: the index of its group, the last for `OTHERS`; `start`: None if frozen."""

    group: int
    rate: float
    decay: float
    start: int | None

    def __str__(self) -> str:
        if self.start is None:
            return "frozen"
        said = [f"rate x {self.rate:.3g}"] + [f"weight decay x {self.decay:.3g}"] * (self.decay != 1)
        return ", ".join(said + [f"from step {self.start}"] * (self.start > 0))


def rules(groups: tuple[Group, ...], layer_decay: float | None, params) -> dict[str, Rule]:
    """Path -> rule for every parameter; `params` may be abstract. The rates of group and layer are multiplied.

    Raises:
      ConfigError: a group has no parameter, no parameter trains from the start, or `layer_decay` finds no blocks.
    """
    names = [name for name, *_ in cost.parameter_table(params)]
    heights = dict.fromkeys(names, 0) if layer_decay is None else _heights(names)
    out = {}
    for name in names:
        i, group = next((i, group) for i, group in enumerate((*groups, OTHERS)) if re.fullmatch(group.match, name))
        rate = group.rate * (layer_decay or 1.0) ** heights[name]
        out[name] = Rule(i, rate, group.decay, group.from_step) if group.rate else Rule(i, 0.0, 0.0, None)
    for i, group in enumerate(groups):
        if all(rule.group != i for rule in out.values()):
            raise ConfigError(f"optim.groups.{i}.match={group.match!r} {_without(group, names)}")
    if out and all(rule.start != 0 for rule in out.values()):
        raise ConfigError("optim.groups freezes all parameters at step 0: leave some of them to train.")
    return out


def each(function, rules: dict[str, Rule], *trees):
    """Maps `function(rule, *leaves)` over trees with one leaf for each parameter."""
    one = lambda path, *leaves: function(rules[cost.path_name(path)], *leaves)
    return jax.tree_util.tree_map_with_path(one, *trees)


def told(groups: tuple[Group, ...], layer_decay: float | None, params) -> list[str]:
    """One line for each group, and for the other parameters: how many they are, and how they are trained."""
    if not groups and layer_decay is None:
        return []
    found, rows = rules(groups, layer_decay, params), cost.parameter_table(params)
    lines = []
    for i, group in enumerate((*groups, OTHERS)):
        if mine := {name: size for name, _, size in rows if found[name].group == i}:
            # Layers have different rates: those of the group are shown, and those of the layers in a line of their own.
            how = found[next(iter(mine))]._replace(rate=group.rate)
            name = "others" if group is OTHERS else group.match
            lines.append(f"{name}: {sum(mine.values()):,} of {cost.count(params):,} parameters, {how}")
    if layer_decay is not None:
        heights = _heights(list(found))
        most = max(heights.values())
        where = lambda height: ", ".join(sorted({n.partition("/")[0] for n in found if heights[n] == height}))
        lines.append(f"layer_decay: rate x {layer_decay**most:.3g} in {where(most)}, rising to x 1 in {where(0)}")
    return lines


def _heights(names: list[str]) -> dict[str, int]:
    """Path -> the exponent of `layer_decay`: how many layers of its stack are between a parameter and the head."""
    blocks = {name: re.match(r"(.*_)?blocks_(\d+)/", name) for name in names}
    layers: dict[str | None, int] = {}
    for found in filter(None, blocks.values()):
        layers[found[1]] = max(layers.get(found[1], 0), int(found[2]) + 1)
    if not layers:
        raise ConfigError("optim.layer_decay needs a model with blocks (blocks_0, blocks_1, ...): set it to None.")

    def height(name):
        if found := blocks[name]:
            return layers[found[1]] - int(found[2])
        return max(layers.values()) + 1 if name.partition("/")[0].endswith("embedding") else 0

    return {name: height(name) for name in names}


def _without(group: Group, names: list[str]) -> str:
    """Why a group has no parameter, and what to do."""
    if any(re.fullmatch(group.match, name) for name in names):
        return "matches only parameters of earlier groups, and the first match wins: move this group up, or remove it."
    module = any((found := re.match(group.match, name)) and name[found.end() :].startswith("/") for name in names)
    known = [*names, *dict.fromkeys(f"{name.partition('/')[0]}/.*" for name in names)]
    near = f" Did you mean {f'{group.match}/.*'!r}?" if module else lookup.nearest(group.match, known)
    more = f" and {len(names) - LISTED} more (see --dry_run)" if len(names) > LISTED else ""
    return f"matches no whole path of a parameter.{near} Paths are {', '.join(names[:LISTED])}{more}."
