"""Options for the commands that read a trained run."""

import os

from seqjax.types import ConfigError


def options(parser) -> None:
    """Adds `--workdir` and `--checkpoint`."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run folder")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )


def check(*folders: str) -> None:
    """Checks, before anything heavy is imported, that run folders exist.

    Raises:
      ConfigError: a folder does not exist.
    """
    for folder in folders:
        try:
            os.stat(folder)
        except FileNotFoundError as error:
            where = os.path.abspath(folder)
            raise ConfigError(f"{where} does not exist: pass the folder of a run, which has a config.json.") from error
        except OSError:  # the command reports it when it reads the folder
            continue
