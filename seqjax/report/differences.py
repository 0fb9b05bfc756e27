"""What differs between runs, as tables: config keys, hardware and versions.

Keys at their default that only some sections have are left out.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import MISSING

from seqjax import config, lookup
from seqjax.report import words
from seqjax.report.document import Column, Row, Table, row
from seqjax.training.experiment import Schema
from seqjax.types import Part, fields_of, marker


def table(columns: list[Column], trees: list[dict], more: Sequence[Row] = ()) -> Table:
    """The keys in which configs differ, one column per config, and `more` rows."""
    rows = [row(path, *(_leaf(tree, path) for tree in trees)) for path in paths(trees)]
    return Table("What differs between the configs", [Column("key"), *columns], [*rows, *more])


def machines(runs: Sequence[tuple[str, dict, dict, str | None]]) -> Table:
    """Hardware, versions and git revision of (name, hardware, versions, git); equal ones share a column."""
    groups: dict[tuple, list[str]] = {}
    for name, hardware, versions, git in runs:
        facts = {**hardware, **versions, "git": git or words.NONE}
        groups.setdefault(tuple(sorted((key, words.value(fact)) for key, fact in facts.items())), []).append(name)
    trees = [dict(facts) for facts in groups]
    keys = dict.fromkeys([*(key for _, hardware, versions, _ in runs for key in (*hardware, *versions)), "git"])
    rows = [row(key.replace("_", " "), *(tree.get(key, words.NONE) for tree in trees)) for key in keys]
    whole = len(groups) == 1 and len(runs) > 1
    columns = [Column("all runs" if whole else words.listed(names)) for names in groups.values()]
    return Table("Hardware and versions", [Column(""), *columns], rows)


def paths(trees: list[dict]) -> list[str]:
    """The keys in which configs differ.

    A key that only some of them have, such as an option of one mixer, counts only if it is not at its default.
    """
    found = dict.fromkeys(path for tree in trees[1:] for path in config.differences(trees[0], tree))
    return [path for path in found if _is_set(trees, path.split("."))]


def _leaf(tree: dict, path: str) -> str:
    """The value of a key as text, or a dash."""
    value = _get(tree, path.split("."))
    return words.NONE if value is MISSING else words.value(value)


def _get(tree, keys: list[str]):
    """The value of a key; MISSING if the tree lacks it."""
    for key in keys:
        tree = tree.get(key, MISSING) if isinstance(tree, dict) else MISSING
    return tree


def _is_set(trees: list[dict], keys: list[str]) -> bool:
    have = [tree for tree in trees if _get(tree, keys) is not MISSING]
    return len(have) == len(trees) or any(_get(tree, keys) != _default(tree, keys) for tree in have)


def _default(tree: dict, keys: list[str]):
    """The default of a key in its section; MISSING if the section is not part of seqjax, or the key has no default."""
    target = Schema
    for depth, key in enumerate(keys[:-1]):
        hint, _ = fields_of(target).get(key, (None, None))
        part, name = marker(hint, Part), _get(tree, [*keys[: depth + 1], "name"])
        if part and name in lookup.names(part.package):  # a report never runs code of users
            target = lookup.find(name, part.package, part.symbol)
        elif dataclasses.is_dataclass(hint):
            target = hint
        else:
            return MISSING
    return config.plain(fields_of(target).get(keys[-1], (None, MISSING))[1])
