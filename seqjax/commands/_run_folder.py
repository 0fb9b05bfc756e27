"""What commands that read a trained run have in common."""


def options(parser) -> None:
    """`--workdir` and `--checkpoint`."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run folder")
    parser.add_argument("--checkpoint", default="best", metavar="best|latest|STEP", help="which one (default: best)")
