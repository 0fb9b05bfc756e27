"""Options and loading for the commands that train from a config."""

import sys

from seqjax.types import ConfigError


def options(parser, function: str = "get_config", base: str = "") -> None:
    """Adds `--config`, a file with `function`, and its overrides; `base` comes before keys of the trained config."""
    parser.set_defaults(base=base)
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE[:VARIANT]",
        help=f"a .py file with {function} (seqjax new writes one), or the .json file of a run folder",
    )
    add("--config.SECTION.KEY", metavar="VALUE", dest="_override", help="override a key; repeatable")


def given(args, function: str = "get_config") -> dict:
    """The config that the options describe, before defaults; keys of 0.1 get their new names.

    Prints which options of the file the overrides dropped.

    Raises:
      ConfigError: `--config` is missing, or the config cannot be read.
    """
    if args.config is None:
        raise ConfigError(
            f"--config is missing: name a file, or write one with seqjax new; see seqjax {args.subcommand} --help."
        )
    from seqjax import config, renamed

    tree = config.load(args.config, function)
    changed = config.override(tree, args.overrides)
    if (lost := list(dropped(tree, changed))) and not getattr(args, "quiet", False):
        print(
            f"note: --config.SECTION=NAME replaces a section and drops what the file set in it: {', '.join(lost)}; "
            "--config.SECTION.name=NAME keeps it.",
            file=sys.stderr,
        )
    return renamed.told(changed)


def dropped(old: dict, new: dict, path: str = ""):
    """Yields the options of named sections that are in `old` but no longer in `new`, as `data.length=32`."""
    for key, was in old.items():
        now = {"name": new[key]} if isinstance(new[key], str) else new[key]
        if isinstance(was, dict) and isinstance(now, dict):
            lost = {k: v for k, v in was.items() if k not in now}
            if "name" in was:
                yield from (f"{path}{key}.{k}={v!r}" for k, v in lost.items())
            yield from dropped({k: v for k, v in was.items() if k not in lost}, now, f"{path}{key}.")


def resolved(tree: dict) -> dict:
    """Fills in every default, and sets up the process for training."""
    from seqjax import runtime
    from seqjax.training import experiment

    tree = experiment.resolve(tree)
    runtime.setup()
    return tree
