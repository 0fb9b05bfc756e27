"""Definitions that all packages share: the letters of shapes, errors with exit codes, checked annotations.

Letters in array names and einsum strings, the same everywhere:

    B batch   L length   S source length   D width   H heads   K head width
    N state   W window   V vocabulary      C classes F features  G gates

The annotations of a constructor say what it takes (`width: Count`, `pool: Literal["mean", "last"]`).
Configs are checked against them before anything is built, and objects are checked when they are built.
"""

import dataclasses
import functools
import math
import sys
import types
import typing
from typing import Annotated, Any, Literal

from seqjax.screen import shown

LISTED = 20  # problems that an error lists
LARGEST = 2**31 - 1  # the largest int in a config: ints on a device have 32 bits


class SeqjaxError(Exception):
    """An error with one clear sentence for the user and an exit code for the shell."""

    exit_code = 1


class ConfigError(SeqjaxError):
    """The config or the command line is wrong. Exit code 2."""

    exit_code = 2


def refuse(problems: list[str], where: str) -> None:
    """Raises a ConfigError that lists the problems, if there are any."""
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in {where}"
        more = f"\n  and {len(problems) - LISTED:,} more" if len(problems) > LISTED else ""
        raise ConfigError(f"{count}:\n" + "\n".join(f"  {p}" for p in problems[:LISTED]) + more)


class DataError(SeqjaxError):
    """A file, record or generator gave something that cannot be trained on. Exit code 3."""

    exit_code = 3


class CheckpointError(SeqjaxError):
    """A checkpoint is unusable or belongs to another model. Exit code 4."""

    exit_code = 4


class WorkdirError(SeqjaxError):
    """The run folder is locked, read-only or full. Exit code 5."""

    exit_code = 5


class NumericsError(SeqjaxError):
    """The loss or the gradient stayed non-finite. Exit code 6."""

    exit_code = 6


class Preempted(SeqjaxError):
    """The run was asked to stop, saved its state, and can be started again. Exit code 75."""

    exit_code = 75


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number: `Range(least=0, below=1)` is [0, 1)."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value) -> bool:
        return (
            not (isinstance(value, float) and math.isnan(value))
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
        parts = [f"{words[k]} {v}" for k, v in dataclasses.asdict(self).items() if v is not None]
        return f"{'of ' if self.least is not None else ''}{' and '.join(parts)}"


@dataclasses.dataclass(frozen=True)
class Part:
    """Marks a field that holds a factory, chosen by name from a package: a section of the config.

    `Annotated[Callable, Part("seqjax.mixers", "Mixer")]` takes `{"name": "gru", ...}` in a config,
    or a list of such sections if `many`, and the class itself (or a `functools.partial`) in Python.
    """

    package: str
    symbol: str
    many: bool = False

    def named(self, section, default):
        """A section without a name (`{"pool": "max"}`) with the name and options of the default, if there is one."""
        if (
            not isinstance(section, dict)
            or "name" in section
            or not isinstance(getattr(default, "func", default), type)
        ):
            return section
        return {**self.section(default), **section}

    def section(self, factory):
        """The section that a class or a `functools.partial` of it stands for; of a tuple of them, a list."""
        if isinstance(factory, tuple):
            return [self.section(one) for one in factory]
        target, options = getattr(factory, "func", factory), getattr(factory, "keywords", {})
        section = {"name": target.__module__.removeprefix(f"{self.package}.")}
        for key, value in options.items():
            part = marker(fields_of(target)[key][0], Part)
            section[key] = part.section(value) if part and value is not None else value
            section[key] = list(section[key]) if isinstance(section[key], tuple) else section[key]
        return section


class Injected:
    """Marks a field that the surrounding code fills in, such as a size of the data. It is never in a config."""


Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
Layers = Annotated[int, Range(least=1, most=1024)]  # JAX traces each layer separately
Taps = Annotated[int, Range(least=1, most=256)]  # JAX traces each tap of a convolution separately
Processes = Annotated[int, Range(least=0, most=1024)]  # processes or devices of one machine
Seed = Annotated[int, Range(least=0, below=2**31)]
Positive = Annotated[float, Range(above=0, below=math.inf)]
NonNegative = Annotated[float, Range(least=0, below=math.inf)]
Fraction = Annotated[float, Range(least=0, below=1)]
Dtype = Literal["float32", "bfloat16", "float16"]


def hint_name(hint) -> str:
    """An annotation in plain words, for error messages: `an int of at least 1, or None`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        extra = [str(a) for a in args[1:] if isinstance(a, Range)]
        return " ".join([hint_name(args[0]), *extra])
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in args)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join("None" if a is type(None) else hint_name(a) for a in args)
    if origin in (tuple, list):
        return f"a list, each {hint_name(args[0])}"
    if origin is dict:
        return f"names, each with {hint_name(args[1])}"
    return {int: "an int", float: "a float", str: "a str"}.get(hint, getattr(hint, "__name__", str(hint)))


def mismatch(hint, value) -> str | None:
    """Says how `value` breaks the annotation `hint`, as `got ..., wanted ...`; None if it fits."""
    if _fits(hint, value):
        return None
    said = f"got {shown(value)}, wanted {hint_name(hint)}"
    if isinstance(value, float) and value.is_integer() and _fits(hint, int(value)):  # 1e3
        return f"{said}: write {int(value)}"
    if isinstance(value, str) and _fits(hint, [value]):
        return f"{said}: write [{value}]"
    return f"{said}: the largest int is {LARGEST}" if isinstance(value, int) and abs(value) > LARGEST else said


def _fits(hint, value) -> bool:
    import numpy as np  # imported here, like flax below, because help and usage errors need neither

    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(args[0], value) and all(value in a for a in args[1:] if isinstance(a, Range) and value is not None)
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in args)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(a, value) for a in args)
    if origin in (tuple, list):
        return isinstance(value, (tuple, list)) and all(_fits(args[0], v) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(args[0], k) and _fits(args[1], v) for k, v in value.items())
    if hint is Any:
        return True
    if hint is bool:
        return isinstance(value, (bool, np.bool_))
    if hint is int:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and abs(value) <= LARGEST
    if hint is float:
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        return number and (abs(value) <= sys.float_info.max or (isinstance(value, float) and math.isinf(value)))
    if hint is None or hint is type(None):
        return value is None
    if isinstance(hint, type):
        return isinstance(value, hint)
    return True  # Callable and similar types, which no value can be checked against


@functools.cache
def fields_of(target) -> dict[str, tuple[Any, Any]]:
    """Name -> (annotation, default) of each argument of `target`; a required one has `dataclasses.MISSING`."""
    from flax import linen as nn

    hints = typing.get_type_hints(target, include_extras=True)
    out = {}
    for field in dataclasses.fields(target):
        if not field.init or (issubclass(target, nn.Module) and field.name in ("parent", "name")):
            continue
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        out[field.name] = (hints[field.name], default)
    return out


def marker(hint, kind):
    """The `Part` or `Injected` that an annotation carries, or None."""
    for arg in typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ():
        if isinstance(arg, kind) or arg is kind:
            return arg
    return None


def listed(hint):
    """The dataclass of the sections in a list (`tuple[Group, ...]`), or None if it is no list of sections."""
    args = typing.get_args(hint) if typing.get_origin(hint) is tuple else ()
    return args[0] if args and dataclasses.is_dataclass(args[0]) else None


def _wrong(name: str, hint, value) -> list[str]:
    """What is wrong with a value; for a dict of values, with each of them."""
    key_hint, inner_hint = typing.get_args(hint) if typing.get_origin(hint) is dict else (None, None)
    if key_hint and isinstance(value, dict) and all(_fits(key_hint, key) for key in value):
        return [p for key, inner in value.items() for p in _wrong(f"{name}.{key}", inner_hint, inner)]
    problem = mismatch(hint, value)
    return [f"{name}: {problem}"] if problem else []


def check_fields(obj) -> None:
    """Checks the fields of a dataclass or module against their annotations; one ValueError lists all problems."""
    problems = [p for name, (hint, _) in fields_of(type(obj)).items() for p in _wrong(name, hint, getattr(obj, name))]
    if problems:
        raise ValueError(f"{type(obj).__module__}.{type(obj).__name__}: " + "; ".join(problems) + ".")


class Checked:
    """A dataclass whose fields are checked against their annotations when it is built."""

    def __post_init__(self):
        check_fields(self)
