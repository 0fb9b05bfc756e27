"""seqjax report."""

from pathlib import Path

from seqjax.commands import _run_folder
from seqjax.screen import clean
from seqjax.types import ConfigError

ABOUT = "Write report.html and report.md from one or several run folders."
EXAMPLES = "  seqjax report runs/gru runs/attention --out runs"


def options(parser) -> None:
    """The options of the command."""
    parser.add_argument("folders", nargs="+", metavar="DIR", help="run folders")
    parser.add_argument("--out", metavar="DIR", help="output folder (default: the first run folder)")
    parser.add_argument("--figure", metavar="FILE.svg", help="also save the main figure by itself")


def run(args) -> None:
    """Writes the page and prints its path."""
    if args.figure and not args.figure.endswith(".svg"):
        raise ConfigError(f"--figure {args.figure}: the figure is an SVG file, so choose a name that ends in .svg.")
    _run_folder.check(*args.folders)
    from seqjax import report

    folders = [Path(f) for f in args.folders]
    out = Path(args.out) if args.out else folders[0]
    path = report.write(folders, out)
    if args.figure:
        report.figure(folders, Path(args.figure))
    print(clean(f"report: {path}"))
