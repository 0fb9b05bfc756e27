"""What commands that train from a config have in common."""


def options(parser) -> None:
    """`--config`, and its overrides."""
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:VARIANT]", help="a .py with get_config, or config.json")
    add("--config.SECTION.KEY", metavar="VALUE", dest="_override", help="override a key; repeatable")


def resolved(args) -> dict:
    """The config that the options describe, with every default; the process is set up to train it."""
    from seqjax import config, runtime
    from seqjax.training import experiment

    tree = experiment.resolve(config.override(config.load(args.config), args.overrides))
    runtime.setup()
    return tree
