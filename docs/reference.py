"""Writes docs/reference.md and the table of names in README.md, from the constructors: `make reference`.

A script beside the page that it writes, and not a command of seqjax, because only this repository needs it. It knows
no part by its name: parts are found as a config finds them, and their annotations and docstrings say the rest.
"""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

from seqjax import lookup
from seqjax.commands.list import KINDS, families
from seqjax.search.plan import Comparison
from seqjax.training.experiment import Schema
from seqjax.types import Injected, Part, fields_of, hint_name, listed, marker

ROOT = Path(__file__).resolve().parents[1]
PAGE, README = ROOT / "docs" / "reference.md", ROOT / "README.md"
PARTS = {**KINDS, "executors": ("seqjax.search.executors", "Executor")}
TITLES = {package: kind for kind, (package, _) in PARTS.items()}
ITEM = re.compile(r"`[^`]+`(, `[^`]+`)*:")  # a line of a docstring that explains keys
BEGIN, END = "<!-- names: written by `make reference` -->\n", "<!-- end of names -->"
INTRO = """\
# Reference

Every name and key that a config may use, written from the constructors by `make reference`. The command line sets each
of them: `--config.optim.learning_rate=3e-3`, `--config.model.mixer.heads=8`. A key without a default is required.
[Configs](configs.md) explains sections, overrides and checks; `seqjax train --config FILE --print_config` prints all
keys of a config with their values.
"""


def reference() -> str:
    """The whole page."""
    body = [INTRO, names(), "## Sections\n", _sections(), "## Comparisons\n", _entry(Comparison, {})]
    shared = {}  # the bases from which several parts have keys
    for kind, (package, symbol) in PARTS.items():
        body.append(f"## {kind.capitalize()}\n")
        groups = families(kind) if kind in KINDS else {kind: lookup.names(package)}
        for title, found in groups.items():
            if title != kind:
                body.append(f"### {title.capitalize()}\n")
            for name in found:
                target = lookup.find(name, package, symbol)
                body.append(f"{'###' if title == kind else '####'} {kind[:-1]}: {name}\n")
                body.append(_entry(target, _others(target, shared)))
    body.append("## Shared keys\n\nThe keys that several parts have in common, explained once.\n")
    for title, base in sorted(shared.items()):
        body += [f"### {title}\n", _entry(base, {})]
    return "\n".join(part.rstrip("\n") + "\n" for part in body)


def names(page: str = "") -> str:
    """The table of all names, with links into `page`."""
    rows = [
        f"| {title} | {', '.join(f'[`{name}`]({page}#{kind[:-1]}-{name})' for name in found)} |"
        for kind in KINDS
        for title, found in families(kind).items()
    ]
    return "\n".join(["| | |", "| --- | --- |", *rows, ""])


def readme() -> str:
    """README.md with the table of today."""
    before, rest = README.read_text().split(BEGIN)
    return before + BEGIN + names("docs/reference.md") + END + rest.split(END)[1]


def _sections() -> str:
    rows, inner = [], {}
    for name, (hint, default) in fields_of(Schema).items():
        if dataclasses.is_dataclass(hint):
            inner[name] = hint
            inner |= {f"{name}.{key}": one for key, (h, _) in fields_of(hint).items() if (one := listed(h))}
            given = "" if default is dataclasses.MISSING else "their defaults"
            rows.append(f"| `{name}` | the keys of [{name}](#section-{name}) | {given} |")
        else:
            rows.append(f"| `{name}` | {_takes(hint)} | {_default(hint, default)} |")
    parts = ["\n".join(["| section | what it takes | default |", "| --- | --- | --- |", *rows])]
    parts += [f"### section: {name}\n\n{_entry(target, {}, f'{name}.')}" for name, target in inner.items()]
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _entry(target, others: dict, prefix: str = "") -> str:
    """The docstring of a constructor, and a table of its keys, of which `others` names those that a base explains."""
    keys = {k: field for k, field in fields_of(target).items() if marker(field[0], Injected) is None}
    inherited = {key for found in others.values() for key in found}
    order = sorted(keys, key=lambda key: key in inherited)
    rows = [f"| `{prefix}{k}` | {_takes(keys[k][0], prefix + k)} | {_default(*keys[k])} |" for k in order]
    table = ["| key | what it takes | default |", "| --- | --- | --- |", *rows] if rows else ["It has no keys."]
    see = [f"For {', '.join(f'`{key}`' for key in found)} see {link}." for link, found in others.items()]
    return "\n\n".join([_markdown(target.__doc__), "\n".join(table), *see])


def _others(target, shared: dict) -> dict[str, list[str]]:
    """Link to a base -> the keys that it defines. A base that is not a part itself is added to `shared`."""
    found = {}
    for key, (hint, _) in fields_of(target).items():
        base = next(c for c in target.__mro__ if key in inspect.get_annotations(c))
        if base is target or marker(hint, Injected) is not None:
            continue
        package, _, module = base.__module__.rpartition(".")
        kind, title = TITLES[package], module
        if module.startswith("_"):
            title = f"all {kind}" if PARTS[kind][1] == base.__name__ else base.__name__
            heading = f"shared by {title}" if title != base.__name__ else f"shared by {kind}: {title}"
            shared[heading] = base
        else:
            heading = f"{kind[:-1]}: {module}"
        found.setdefault(f"[{title}](#{_anchor(heading)})", []).append(key)
    return found


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _takes(hint, path: str = "") -> str:
    """What a key takes, in the words of the error that refuses anything else."""
    if part := marker(hint, Part):
        kind = TITLES[part.package]
        optional = type(None) in typing.get_args(typing.get_args(hint)[0])
        return f"[{kind[:-1]}](#{kind})" + ", or a list" * part.many + ", or None" * optional
    if listed(hint):
        return f"a list of [sections](#section-{path.replace('.', '')})"
    return hint_name(hint).replace("|", "\\|").replace("'", '"')


def _default(hint, default) -> str:
    if default is dataclasses.MISSING:
        return ""
    return "`" + repr(_plain(hint, default)).replace("'", '"') + "`"


def _plain(hint, value):
    """A default as a config has it: a part by its name, or as a section if it has options."""
    part = marker(hint, Part)
    if part is None or value is None:
        return list(value) if isinstance(value, tuple) else value
    return _short(part.section(value))


def _short(value):
    """A section, or a list of sections; those without options by their names."""
    if isinstance(value, list):
        return [_short(one) for one in value]
    if not isinstance(value, dict):
        return value
    return value["name"] if [*value] == ["name"] else {key: _short(one) for key, one in value.items()}


def _markdown(doc: str) -> str:
    """A docstring: indented blocks as they are, items as a list, papers as links."""
    out = []
    for block in re.split(r"\n\n+", inspect.cleandoc(doc)):
        first, *lines = block.split("\n")
        if first.startswith("    "):
            out.append("\n".join(["```text", *(line.removeprefix("    ") for line in (first, *lines)), "```"]))
            continue
        first, *lines = re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", block).split("\n")
        if first.startswith("Raises"):
            out.append("\n".join([first, "", *_items([line.removeprefix("  ") for line in lines])]))
        elif any(re.match(r"  \S", line) for line in lines) or sum(map(bool, map(ITEM.match, (first, *lines)))) > 1:
            out.append("\n".join(_items([first, *lines])))
        else:
            out.append("\n".join([first, *lines]))
    text = "\n\n".join(out).replace("\n```\n\n```text\n", "\n\n")
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _items(lines: list[str]) -> list[str]:
    """Each line without an indent begins an item; below it, so does each that begins with a quoted word and a colon."""
    return [
        f"- {line}" if line[0] != " " else f"  - {line.lstrip()}" if re.match(r' +"\w+":', line) else line
        for line in lines
    ]


if __name__ == "__main__":
    PAGE.write_text(reference())
    README.write_text(readme())
