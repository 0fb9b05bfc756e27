"""Options for the commands that read a trained run."""


def options(parser) -> None:
    """Adds `--workdir` and `--checkpoint`."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run folder")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )
