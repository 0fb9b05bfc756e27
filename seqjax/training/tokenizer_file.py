"""The tokenizer of a run: `tokenizer-<name>.json` in its folder, where the name is the hash of the content.

A tokenizer is trained once, before the first step. Its file is in the run folder, and its content in every checkpoint:
whoever goes on with the run, evaluates it, samples from it or begins with its parameters reads it, and trains none.
"""

import contextlib
import os

from seqjax import config
from seqjax.data._tokens import Tokenized
from seqjax.tokenizers._base import described, named
from seqjax.tokenizers._sides import Sides
from seqjax.training import files, stored
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.damage import Damaged
from seqjax.training.workdir import Workdir
from seqjax.types import Part, WorkdirError, marker

PATTERN = "tokenizer-*.json"
KEY = "tokenizer"  # of the metadata of a checkpoint


def of_run(workdir: Workdir) -> bytes | None:
    """The file of the tokenizer that the run in this folder trained; None: its tokens need none.

    Raises:
      WorkdirError: the file was changed, or cannot be read.
    """
    for path in sorted(workdir.path.glob(PATTERN)):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise WorkdirError(f"{path} cannot be read ({error.strerror}): make it readable.") from error
        if path.name != file_name(content):
            raise WorkdirError(
                f"{path} was changed after it was written: delete it, and its content is read from a checkpoint."
            )
        return content
    for checkpoints in (Checkpoints(workdir.checkpoints), Checkpoints(workdir.best)):
        for step in checkpoints.steps():
            with contextlib.suppress(Damaged):
                content = stored.metadata(checkpoints.root / str(step)).get(KEY)
                return content and content.encode()
    return None


def to_read(tree: dict, workdir: Workdir | None = None, restart: bool = False) -> bytes | None:
    """The file that an experiment reads in place of training a tokenizer; None: it trains its own, if it needs one.

    It is that of its own folder, if the run goes on there, else that of `init.run`, if `data.tokenizer` is the same.
    """
    if workdir and not restart and Checkpoints(workdir.checkpoints).used():
        return of_run(workdir)
    run = tree["init"]["run"]
    content = (
        of_run(Workdir(run)) if run is not None and os.path.isdir(run) else None
    )  # `Init.origin` refuses no folder
    return content if content is not None and _asks_for(tree["data"], content) else None


def _asks_for(section: dict, content: bytes) -> bool:
    """Whether a data section asks for the kind of tokenizer that a file holds."""
    while isinstance(section.get("of"), dict):  # a source made of another source
        section = section["of"]
    if not isinstance(section.get("tokenizer"), dict):
        return False
    make = lambda key: config.factory(marker(Tokenized, Part), section[key])()
    wanted = make("tokenizer")
    if "source_tokenizer" in section:
        source = wanted if section["source_tokenizer"] is None else make("source_tokenizer")
        wanted = Sides(source=source, tokens=wanted)
    return wanted.about == described(content, "the tokenizer file of init.run")


def file_name(content: bytes) -> str:
    """The name of the file that holds a tokenizer."""
    return PATTERN.replace("*", named(content))


def write(workdir: Workdir, content: bytes | None, begins: bool) -> None:
    """Writes the tokenizer file of a run, if it is not there; a run that begins first deletes that of the run before.

    Raises:
      WorkdirError: it cannot be written.
    """
    if not workdir.writes:
        return
    if begins:
        workdir.remove(*(path.name for path in workdir.path.glob(PATTERN)))
    if content is not None and not (path := workdir.path / file_name(content)).exists():
        workdir.check()
        files.write(path, content)
