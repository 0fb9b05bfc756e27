"""Configs: a Python file, overrides on the command line, one strict check, and JSON that replays the run.

    load("experiments/copy.py:tiny")          the file's get_config("tiny"), as a plain dict
    override(tree, ["optim.learning_rate=3e-4"])       values from the command line
    resolve(Experiment, tree)                 checked, every default filled in; JSON round-trips it
    build(part, section, **given)             the object that a section describes

There is no separate schema: the annotations of the constructors that the sections name are the schema.
"""

import copy
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from seqjax import hints, lookup, renamed
from seqjax.screen import shown
from seqjax.types import LISTED, ConfigError, Injected, Part, fields_of, listed, marker, mismatch, refuse
from seqjax.words import DEPTH, Word, opened, plain, settled


def load(spec: str, function: str = "get_config") -> dict:
    """Reads `file.py`, `file.py:variant` or a run folder's `config.json`; calls `function` of a .py file.

    Raises:
      ConfigError: the file or the function does not exist, or the function fails.
    """
    whole = ":" not in spec or os.path.isfile(spec)  # a folder's name may contain a colon, too
    path, _, variant = (spec, "", "") if whole else spec.rpartition(":")
    file = Path(path)
    if not os.path.isfile(path):
        raise ConfigError(f"no config file {file.absolute()}: pass another --config, or write one with seqjax new.")
    if file.suffix == ".json":
        try:
            tree = plain(json.loads(file.read_text()))
        except RecursionError as error:
            raise ConfigError(f"{file.absolute()} has more than {DEPTH} levels of nested sections.") from error
        except OSError as error:
            raise ConfigError(f"{file.absolute()} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(f"{file.absolute()} is not JSON: {error}.") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{file.absolute()} holds a {type(tree).__name__}, wanted an object with sections.")
        return {k: v for k, v in tree.items() if k not in ("format", "seal")}  # which a run folder adds
    module_spec = importlib.util.spec_from_file_location(f"_config_{file.stem}", file)
    if module_spec is None:
        raise ConfigError(f"{file.absolute()} is not a config; wanted a .py or .json file.")
    module = importlib.util.module_from_spec(module_spec)
    hint = f": does the file have a variant {variant!r}?" if variant else ""
    with lookup.running(f"{file.absolute()}", hint):
        module_spec.loader.exec_module(module)
        if (get := getattr(module, function, None)) is None:
            raise AttributeError(f"no {function}: seqjax train calls get_config, seqjax compare calls get_comparison.")
        tree = plain(get(variant) if variant else get())
    if not isinstance(tree, dict):
        raise ConfigError(f"{file.absolute()}: {function} returned a {type(tree).__name__}, wanted a dict of sections.")
    return tree


def override(tree: dict, changes: Iterable[str] | Mapping) -> dict:
    """Sets keys in a copy of the tree: `["a.b=word"]`, from the command line, or `{"a.b": value}`.

    `model.mixer=gru` replaces that section by one with another name, `model.mixer.heads=2` changes one key of it;
    whole sections are set first. A list takes an index: `model.mixer.0.heads=2`. Words stay words (`words.Word`):
    `resolve` decides what they and their keys mean.

    Raises:
      ConfigError: a change does not have the form `a.b=value`, or a part of its path is a value, not a section.
    """
    tree = copy.deepcopy(tree)
    if not isinstance(changes, Mapping):
        changes = dict(map(_assignment, changes))
    for path, value in sorted(changes.items(), key=lambda change: change[0].count(".")):
        node, keys = tree, renamed.place(tree, path).split(".")
        if len(keys) > DEPTH:
            raise ConfigError(f"--config.{shown(path)[1:-1]}: more than {DEPTH} levels of nested sections.")
        for depth, key in enumerate(keys):
            if isinstance(node, list):
                if not (key.isdecimal() and key.isascii()) or int(key[:9]) >= len(node):
                    where = ".".join(keys[: depth + 1])
                    raise ConfigError(f"--config.{path}: {where} is not an index into a list of {len(node)}.")
                key = int(key)
            elif not isinstance(node, dict):
                raise ConfigError(f"--config.{path}: {'.'.join(keys[:depth])} is a value, not a section.")
            elif depth < len(keys) - 1:
                node.setdefault(key, {})
            if depth == len(keys) - 1:
                key = renamed.current(node, keys[0], key) if isinstance(node, dict) else key
                node[key] = value if isinstance(value, Word) else plain(value)
                break
            inner = opened(node[key]) if isinstance(node[key], Word) else node[key]
            node[key] = {"name": inner} if isinstance(inner, str) else inner
            node = node[key]
    return tree


def _assignment(text: str) -> tuple[str, Word]:
    path, equals, word = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--config.{text}: wanted --config.SECTION.KEY=VALUE.")
    return path, Word(word)


def resolve(schema, tree: dict) -> dict:
    """Checks a tree against a dataclass of sections and fills in every default.

    Raises:
      ConfigError: one error lists the problems: unknown keys and names with the nearest valid one, wrong
        types, values out of range, missing keys.
    """
    problems: list[str] = []
    resolved = _section(schema, settled(schema, tree), "", problems)
    refuse(problems, "the config")
    return resolved


def _section(target, tree, path: str, problems: list[str], name: str | None = None) -> dict:
    """One section: the keyword arguments of `target`."""
    known = {k: v for k, v in fields_of(target).items() if not marker(v[0], Injected)}
    dot = f"{path}." if path else ""
    out = {} if name is None else {"name": name}
    before = len(problems)
    for key in tree:
        if key not in known and not (key == "name" and name is not None):
            given = key in fields_of(target)
            why = "is filled in from the data: remove it." if given else "is not a key."
            near = "" if given or len(problems) > LISTED else hints.of_key(path, key, known)
            of = f" of {name!r}" if name else ""
            problems.append(f"{dot}{key} {why}{near} Keys{of}: {', '.join(known) or 'none'}.")
    for key, (hint, default) in known.items():
        if key in tree:
            part = marker(hint, Part)
            value = part.named(tree[key], default) if part else tree[key]
            out[key] = _value(hint, value, dot + key, problems)
        elif default is dataclasses.MISSING:
            problems.append(f"{dot}{key} is required and missing.")
        else:
            out[key] = _default(hint, default, dot + key, problems)
    if name is None and path and len(problems) == before:
        try:
            made(target, out)  # only its constructor notices fields that contradict each other
        except ValueError as error:
            problems.append(f"{path}: {error}")
    return out


def made(hint, value):
    """Turns a checked value into its Python object: a section into an object, a part into a factory."""
    if (part := marker(hint, Part)) and value is not None:
        built = factory(part, value)
        return tuple(built) if isinstance(built, list) else built
    if dataclasses.is_dataclass(hint):
        return hint(**{k: made(fields_of(hint)[k][0], v) for k, v in value.items()})
    if section := listed(hint):
        return tuple(made(section, v) for v in value)
    return value


def _default(hint, default, path, problems):
    if (part := marker(hint, Part)) and default is not None:  # the main class of its file
        return _value(hint, part.section(default), path, problems)
    if dataclasses.is_dataclass(default):
        return _section(type(default), plain(dataclasses.asdict(default)), path, problems)
    return plain(default)


def _value(hint, value, path: str, problems: list[str]):
    if part := marker(hint, Part):
        if value is None and mismatch(hint, None) is None:
            return None
        if part.many and isinstance(value, list) and value:
            return [_named(part, v, f"{path}.{i}", problems) for i, v in enumerate(value)]
        return _named(part, value, path, problems)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return _section(hint, value, path, problems)
        problems.append(f"{path}: got {shown(value)}, wanted a section with {', '.join(fields_of(hint))}.")
    elif section := listed(hint):
        if isinstance(value, list):
            return [_value(section, v, f"{path}.{i}", problems) for i, v in enumerate(value)]
        keys = list(fields_of(section))
        wanted = f'wanted a list of sections with {", ".join(keys)}: write [{{"{keys[0]}": ...}}]'
        problems.append(f"{path}: got {shown(value)}, {wanted}.")
    elif problem := mismatch(hint, value):
        problems.append(f"{path}: {problem}.")
    return value


def _named(part: Part, value, path: str, problems: list[str]):
    choices = ", ".join(lookup.names(part.package))
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        problems.append(f"{path}: got {shown(value)}, wanted a section whose name is one of {choices}.")
        return value
    name = value.get("name")
    if not isinstance(name, str):
        problems.append(f"{path}.name is required, got {shown(name)}; choose from {choices}.")
        return value
    try:
        target = lookup.find(name, part.package, part.symbol)
    except ConfigError as error:
        problems.append(f"{path}.name: {error}")
        return value
    if not (isinstance(target, type) and dataclasses.is_dataclass(target)):
        problems.append(f"{path}.name: {name!r} is {target!r}, wanted a dataclass or a module like {part.symbol}.")
        return value
    return _section(target, value, path, problems, name)


def factory(part: Part, section) -> functools.partial | list[functools.partial]:
    """The constructor that a resolved section names, with the section's options filled in."""
    if isinstance(section, list):
        return [factory(part, s) for s in section]
    target = lookup.find(section["name"], part.package, part.symbol)
    options = {}
    for key, value in section.items():
        if key == "name":
            continue
        inner = marker(fields_of(target)[key][0], Part)
        value = factory(inner, value) if inner and value is not None else value
        options[key] = tuple(value) if isinstance(value, list) else value
    return functools.partial(target, **options)


def build(part: Part, section: dict, path: str, **given):
    """Calls the constructor that a resolved section names, with the sizes from the data filled in.

    Raises:
      ConfigError: the constructor raised a ValueError; the error names the section.
    """
    try:
        return factory(part, section)(**given)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def digest(tree: dict) -> str:
    """sha256 of a JSON tree: it changes if the tree changes."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def differences(old, new, path: str = "") -> dict[str, tuple]:
    """`{"optim.learning_rate": (old, new)}` for every leaf that differs in two trees; None if a tree lacks it."""
    if isinstance(old, dict) and isinstance(new, dict):
        out = {}
        for key in [*old, *(k for k in new if k not in old)]:
            out |= differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        return out
    return {} if old == new else {path: (old, new)}
