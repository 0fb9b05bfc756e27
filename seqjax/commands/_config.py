"""What commands that train from a config have in common."""

import sys

from seqjax.types import ConfigError


def options(parser, function: str = "get_config", base: str = "") -> None:
    """`--config`, a file with `function`, and its overrides; `base` comes before the keys of what is trained."""
    parser.set_defaults(base=base)
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE[:VARIANT]",
        help=f"a .py with {function} (seqjax new writes one), or a .json that a run left",
    )
    add("--config.SECTION.KEY", metavar="VALUE", dest="_override", help="override a key; repeatable")


def given(args, function: str = "get_config") -> dict:
    """The config that the options describe, as it is written; says what overrides took from the file.

    Raises:
      ConfigError: there is none.
    """
    if args.config is None:
        raise ConfigError(
            f"--config is missing: name a file, or write one with seqjax new; see seqjax {args.subcommand} --help."
        )
    from seqjax import config

    tree = config.load(args.config, function)
    changed = config.override(tree, args.overrides)
    if (lost := list(dropped(tree, changed))) and not getattr(args, "quiet", False):
        print(
            f"note: a section that is named anew drops what the file set in it: {', '.join(lost)}; "
            "--config.SECTION.name=NAME keeps it.",
            file=sys.stderr,
        )
    return changed


def dropped(old: dict, new: dict, path: str = ""):
    """The options of named sections of `old` that those of `new` have no more, as `data.length=32`."""
    for key, was in old.items():
        now = {"name": new[key]} if isinstance(new[key], str) else new[key]
        if isinstance(was, dict) and isinstance(now, dict):
            lost = {k: v for k, v in was.items() if k not in now}
            if "name" in was:
                yield from (f"{path}{key}.{k}={v!r}" for k, v in lost.items())
            yield from dropped({k: v for k, v in was.items() if k not in lost}, now, f"{path}{key}.")


def resolved(tree: dict) -> dict:
    """A config with every default; the process is set up to train it."""
    from seqjax import runtime
    from seqjax.training import experiment

    tree = experiment.resolve(tree)
    runtime.setup()
    return tree
