"""Reads words of the command line by the types of their keys: `0` is a number for one key and text for another.

0                for an int      0            for a str          "0"
none             for int | None  None         for str | None     None; '"none"', in quotes, is text
[embedding,head] for tuple[str, ...]          ["embedding", "head"]
"""

import ast
import contextlib
import dataclasses
import functools
import json
import re
import types
import typing
import warnings
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict

from seqjax import lookup
from seqjax.types import ConfigError, Part, fields_of, marker, mismatch

DEPTH = 64  # of nested sections
_BARE = re.compile(r"[\[(]([^][(){}'\"]*)[\])]")  # a list of words without quotes


class Word(str):
    """Text from the command line that is not read yet: the type of its key decides which value it stands for."""


def plain(tree, depth: int = DEPTH):
    """Turns a tree into the types of JSON: dicts for ConfigDicts, lists for tuples and arrays, Python's numbers.

    Raises:
      RecursionError: there are more than 64 levels.
    """
    if not depth:
        raise RecursionError(f"more than {DEPTH} levels of nested sections")
    if isinstance(tree, ConfigDict):
        tree = tree.to_dict()
    if hasattr(tree, "tolist"):
        tree = tree.tolist()
    if isinstance(tree, dict):
        return {str(k): plain(v, depth - 1) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain(v, depth - 1) for v in tree]
    return tree


def parse(text: str):
    """Reads a word as a Python or JSON value, else as text. This is for words whose key has no more exact type."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    # JSON has no NaN and no Infinity: a list with them stays text, because int raises a ValueError.
    for read in (ast.literal_eval, functools.partial(json.loads, parse_constant=int)):
        with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError), _silence():
            value = plain(read(text))
            json.dumps(value, allow_nan=False)  # raises for sets, bytes and 1e999
            return value
    return float(text) if text.lower() in ("nan", "inf", "-inf") else str(text)


def settled(hint, value):
    """Reads every word of the command line in a tree by the type of its key; nothing else changes."""
    if isinstance(value, Word):
        return read(hint, value)
    if isinstance(value, dict):
        hints = _hints(hint, value)
        return {key: _of_key(*hints.get(key, (Any, None)), inner) for key, inner in value.items()}
    if isinstance(value, list):
        inner = hint if marker(hint, Part) else (*typing.get_args(hint), Any)[0]
        return [settled(inner, one) for one in value]
    return value


def _of_key(hint, default, value):
    part = marker(hint, Part)
    return settled(hint, part.named(value, default) if part else value)


def _hints(hint, section: dict) -> dict:
    """The types and defaults of the keys of a section."""
    if part := marker(hint, Part):
        hint = None
        with contextlib.suppress(ConfigError):  # the check of the section reports it later
            hint = lookup.find(str(section.get("name")), part.package, part.symbol)
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return {"name": (str, None)} if part else {}
    return fields_of(hint) | ({"name": (str, None)} if part else {})


def opened(word: str):
    """Reads a word as a section or a list, because a longer key sets something in it."""
    value, bare = parse(word), _BARE.fullmatch(word)
    return _items(bare) if bare and isinstance(value, str) else value


def read(hint, word: str):
    """Reads a word by an annotation. If it does not fit, returns what `parse` reads, which the check then refuses."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if part := marker(hint, Part):
        return opened(word) if part.many else parse(word)
    if origin is Annotated:
        return read(args[0], word)
    if origin is Literal and word in args:
        return str(word)
    if origin in (typing.Union, types.UnionType):
        return _either(args, word)
    if hint is str:
        return _text(word)
    value = parse(word)
    if origin in (tuple, list) and mismatch(hint, value) and (bare := _BARE.fullmatch(word)):
        return [read(args[0], item) for item in _items(bare)]
    return value


def _either(args, word: str):
    if type(None) in args and word.lower() in ("none", "null"):
        return None
    for arg in args:
        if arg not in (str, type(None)) and mismatch(arg, value := read(arg, word)) is None:
            return value
    return _text(word) if str in args else parse(word)


def _text(word: str) -> str:
    """The word itself, without the quotes if it stands in quotes."""
    if word[:1] == word[-1:] and word[:1] in ("'", '"'):
        with contextlib.suppress(ValueError, SyntaxError), _silence():
            if isinstance(value := ast.literal_eval(word), str):
                return value
    return str(word)


def _items(bare: re.Match) -> list[str]:
    return [item.strip() for item in bare[1].split(",") if item.strip()]


@contextlib.contextmanager
def _silence():
    """Hides Python's warnings about text that is almost a number or an escape sequence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
