"""Mixers by their names in configs: which of them were held against the laws, and in which form.

A pass is a small file in the cache folder. Its name is a hash of the mixer's options, of the files of its classes, and
of the versions of jax, flax and seqjax.
"""

import dataclasses
import hashlib
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import flax
import jax

import seqjax
from seqjax import config, lookup, runtime, words
from seqjax.types import ConfigError, Part, fields_of, marker

PART = Part("seqjax.mixers", "Mixer")
MODEL = Part("seqjax.models", "Model")
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Section:
    """The part of the section `model` that the laws read."""

    mixer: Annotated[Callable, PART]


@dataclasses.dataclass(frozen=True)
class Asked:
    """The config of `seqjax laws`."""

    model: Section


def resolve(name: str, overrides: Iterable[str] = ()) -> dict:
    """The section of a mixer with every default filled in; overrides as in configs: `model.mixer.heads=2`.

    Raises:
      ConfigError: no such mixer or option.
    """
    tree = config.override({"model": {"mixer": {"name": name}}}, overrides)
    return config.resolve(Asked, words.settled(Asked, tree))["model"]["mixer"]


def command(section: dict) -> str:
    """The command that holds the mixer of a resolved section against the laws."""
    name = section["name"]
    try:
        plain = resolve(name)
    except ConfigError:  # an option has no default
        plain = {"name": name}
    changed = {key: new for key, (_, new) in config.differences(plain, section).items() if key in _keys(section)}
    said = [
        f"--config.model.mixer.{key}={new if isinstance(new, str) else json.dumps(new)}" for key, new in changed.items()
    ]
    return shlex.join(["seqjax", "laws", name, *said])


def _keys(section: dict, path: str = "") -> Iterator[str]:
    """The paths of all values of a section."""
    for key, value in section.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{path}{key}.")


def folder() -> Path:
    """Where passes are kept."""
    return runtime.cache() / "laws"


def _file(section: dict) -> Path | None:
    """The file that says that the mixer of a resolved section holds the laws; None if its source cannot be read."""
    target = lookup.find(section["name"], PART.package, PART.symbol)
    try:
        files = {sys.modules[kind.__module__].__file__ for kind in target.__mro__ if _outside(kind)}
        sources = [Path(file).read_text() for file in sorted(files)]
    except (AttributeError, TypeError, OSError, ValueError):
        return None
    versions = [module.__version__ for module in (jax, flax, seqjax)]
    text = json.dumps([section, sources, versions], sort_keys=True)
    return folder() / hashlib.sha256(text.encode()).hexdigest()


def _outside(kind: type) -> bool:
    """Whether a class is code of the user."""
    return kind.__module__.partition(".")[0] not in ("seqjax", "flax", "builtins")


def remember(section: dict) -> None:
    """Records that the mixer of a resolved section holds all laws. A cache that cannot be written is no error."""
    if (file := _file(section)) is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(command(section) + "\n")
    except OSError as error:
        log.warning("cannot write to %s (%s): seqjax train will not know of this", file.parent, error.strerror)


def warn(models: Iterable[dict]) -> None:
    """Logs, once each, which mixers of resolved model sections are code of the user that never held the laws."""
    found = {}
    for model in models:
        for section in _mixers(MODEL, model):
            if _outside(lookup.find(section["name"], PART.package, PART.symbol)):
                file = _file(section)
                if file is None or not file.exists():
                    found[command(section)] = section["name"]
    for line, name in found.items():
        log.warning(
            "%s was never held against the laws of mixers in this form, so wrong masks, resets or states would train "
            "without a word: run %s",
            name,
            line,
        )


def _mixers(part: Part, sections) -> Iterator[dict]:
    """All sections of mixers in a resolved section."""
    for section in sections if isinstance(sections, list) else [sections] if sections else []:
        if part.package == PART.package:
            yield section
        target = lookup.find(section["name"], part.package, part.symbol)
        for key, (hint, _) in fields_of(target).items():
            if key in section and (inner := marker(hint, Part)):
                yield from _mixers(inner, section[key])
