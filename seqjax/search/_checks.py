"""What is wrong with a comparison file, before anything is built; and the names of its folders."""

import math
import re
from collections.abc import Callable

from seqjax import lookup

LEAST_SEEDS = 3
NAME = re.compile(r"[\w+-][\w+.-]*")  # of a contender or a setting; it is also the name of a folder
SEARCHED = {"seed": "seeds", "optim.learning_rate": "learning_rates"}  # keys that a comparison sets itself
SHARED = ("data", "task", "loader")  # sections in which contenders may not differ
OWN = "task.head."  # except these keys, which are options of the model


def problems(c):
    """The contradictions in a comparison (`plan.Comparison`)."""
    if len(c.contenders) < 2:
        yield f"contenders: got {len(c.contenders)}, wanted at least two."
    for name, changes in c.contenders.items():
        if not NAME.fullmatch(name):
            yield f"contenders: {name!r} also names a folder, wanted only letters, digits and + . - _"
        if not isinstance(changes, dict):
            yield f"contenders.{name}: got {changes!r}, wanted overrides such as {{'model.mixer.name': 'gru'}}."
    yield from _of_values(c)
    if (c.match is None) != (c.target is None):
        yield f"match={c.match!r} and target={c.target!r}: set both, or neither."
    if isinstance(c.target, str) and c.target not in c.contenders:
        near = lookup.nearest(c.target, c.contenders)
        yield f"target={c.target!r} is not a contender.{near} Choose one of {', '.join(c.contenders)}, or a number."
    yield from _of_rates(c)
    for key, least in (("seeds", LEAST_SEEDS), ("learning_rate_seeds", 1)):
        if not _distinct(getattr(c, key), least):
            yield f"{key}: got {getattr(c, key)!r}, wanted at least {least} different seeds."
    contenders = {f"contenders.{name}": changes for name, changes in c.contenders.items() if isinstance(changes, dict)}
    settings = {f"vary.{name}": changes for name, changes in c.vary.items()} if c.named else {"vary": c.vary or {}}
    for where, changes in {"base": c.base, **settings, **contenders}.items():
        for key, owner in SEARCHED.items():
            if _sets(changes, key):
                yield f"{where} sets {key}, but the comparison sets it from {owner}: remove it."
    for where, changes in contenders.items():
        for key in dict.fromkeys(key for setting in settings.values() for key in setting):
            if _sets(changes, key):
                yield f"{where} sets {key}, but vary sets it for all contenders: remove it from one of the two."
        for section in SHARED:
            if _sets({key: value for key, value in changes.items() if not f"{key}.".startswith(OWN)}, section):
                yield f"{where} sets keys of {section}, which must be equal for all contenders: set them in base."


def _of_values(c):
    """The contradictions in what varies."""
    pairs = {}  # where: one key and its values
    if c.named:
        for name in c.vary:
            if not NAME.fullmatch(name):
                yield f"vary: {name!r} also names a folder, wanted only letters, digits and + . - _"
        for name, given in (c.extrapolate or {}).items():
            pairs[f"extrapolate.{name}"] = given
            if name not in c.vary:
                known = f"{lookup.nearest(name, c.vary)} Choose one of {', '.join(c.vary)}."
                yield f"extrapolate.{name} is not a setting of vary.{known}"
    else:
        given = {"vary": c.vary, "extrapolate": c.extrapolate}
        pairs = {where: value for where, value in given.items() if value is not None}
    for where, given in pairs.items():
        if not (isinstance(given, dict) and len(given) == 1 and _distinct(next(iter(given.values())), 1, slug)):
            yield (
                f"{where}: got {given!r}, wanted one key and a list of different numbers or words, such as "
                "{'data.length': [64, 128]}."
            )
        elif where != "vary" and not (key := next(iter(given))).startswith("data."):
            yield f"{where}: got {key!r}, wanted a key of data: the model is not trained again."


def _of_rates(c):
    if isinstance(c.learning_rates, dict) and set(c.learning_rates) != set(c.contenders):
        got, wanted = ", ".join(c.learning_rates) or "no contender", ", ".join(c.contenders)
        yield f"learning_rates: got lists for {got}, wanted one for each of {wanted}."
    for rates in c.learning_rates.values() if isinstance(c.learning_rates, dict) else [c.learning_rates]:
        numbers = isinstance(rates, (list, tuple)) and all(type(r) in (int, float) and 0 < r < math.inf for r in rates)
        if not numbers or not _distinct(rates, 2, rate_name):
            yield f"learning_rates: got {rates!r}, wanted at least two rates above 0 that differ in six digits."


def _distinct(values, least: int, name: Callable = str) -> bool:
    """Whether `values` is a list of at least `least` values with different folder names."""
    if not isinstance(values, (list, tuple)) or any(isinstance(v, (dict, list, tuple)) for v in values):
        return False
    return len(set(map(name, values))) == len(values) >= least


def rate_name(value: float) -> str:
    """A learning rate as part of a folder's name."""
    return f"{value:g}"


def slug(value) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^\w+.-]+", "-", str(value))


def _sets(changes: dict, key: str) -> bool:
    """Whether overrides, whose keys may have dots, set a key or a key under it."""
    for path, value in changes.items():
        if path == key or path.startswith(f"{key}."):
            return True
        if key.startswith(f"{path}.") and isinstance(value, dict) and _sets(value, key[len(path) + 1 :]):
            return True
    return False
