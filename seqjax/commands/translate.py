"""seqjax translate."""

from seqjax.commands import _run_folder

ABOUT = "Translate a text line by line, by beam search; writes a line for each line."
EXAMPLES = """\
  seqjax translate --workdir runs/de --in test.en --out test.de
  seqjax translate --workdir runs/de --beam 10 --penalty gnmt --alpha 0.6 < test.en
  seqjax translate --workdir runs/de --in test.en --n_best 3     (3 lines for each: line ||| text ||| log p)"""


def options(parser) -> None:
    """The options of the command."""
    _run_folder.options(parser)
    add = parser.add_argument
    add("--in", dest="source", default="-", metavar="FILE", help="the text, UTF-8, or .gz (default: -, standard input)")
    add("--out", default="-", metavar="FILE", help="where to write (default: -, standard output)")
    add("--beam", type=int, default=5, help="hypotheses of the search; 1 with --penalty none is greedy (default: 5)")
    add("--penalty", default="average", help="for long answers: none, average or gnmt (default: average)")
    add("--alpha", type=float, default=None, help="of the penalty gnmt")
    add("--n_best", type=int, default=1, help="how many answers to each line (default: 1)")
    add("--tokens", type=int, default=None, help="at most how many tokens (default: 2 S + 5 for a line of S tokens)")
    add("--batch_size", type=int, default=32, help="lines that are translated together (default: 32)")


def run(args) -> None:
    """Translates, writes, and says what was odd."""
    _run_folder.check(args.workdir)
    import functools
    import sys
    import time

    from seqjax import config, runtime
    from seqjax.decoding.beam import Beam
    from seqjax.training.trained import Trained
    from seqjax.translations import Translator
    from seqjax.types import ConfigError

    named = {"beam_size": args.beam, "penalty": args.penalty, "alpha": args.alpha, "n_best": args.n_best}
    given = {**named, "max_length": args.tokens}
    checked = config.resolve(Beam, given)
    if args.batch_size < 1:
        raise ConfigError(f"got --batch_size {args.batch_size}: wanted at least 1.")
    where, lines = _read(args.source)
    runtime.setup()
    trained = Trained.load(args.workdir, args.checkpoint)
    translator = Translator(trained, functools.partial(Beam, **{key: checked[key] for key in given}), args.batch_size)
    start = time.perf_counter()
    found = translator(lines, where)
    spent = time.perf_counter() - start
    _write(args.out, list(_shown(found, args.n_best)))
    say = lambda text: print(text, file=sys.stderr)
    say(f"{len(lines):,} lines in {spent:.1f} s, compilation included, step {trained.step}")
    odd = {
        "empty, and so is what was written for it": [i for i, line in enumerate(lines, 1) if not line.strip()],
        f"longer than {translator.pads[-1]} tokens, and cut": translator.cut,
        "given an answer that did not end within its limit": [
            i for i, answers in enumerate(found, 1) if answers and not answers[0].ended
        ],
    }
    for what, numbers in odd.items():
        if numbers:
            more = ", ..." if len(numbers) > 5 else ""
            say(f"{len(numbers):,} of {len(lines):,} lines were {what}: line {', '.join(map(str, numbers[:5]))}{more}")


def _shown(found, n_best: int):
    """The lines to write: a text for each line, or, of several, `line ||| text ||| log p`."""
    for i, answers in enumerate(found, 1):
        if n_best == 1:
            yield answers[0].text if answers else ""
        else:
            yield from (f"{i} ||| {answer.text} ||| {answer.log_p:.4f}" for answer in answers)


def _read(path: str) -> tuple[str, list[str]]:
    """What errors call the text, and its lines.

    Raises:
      DataError: it cannot be read, or is not UTF-8.
    """
    import sys

    from seqjax.data import _files
    from seqjax.types import DataError

    if path != "-":
        return str(_files.absolute(path)), _files.read_text(path).removesuffix("\n").split("\n")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input, byte offset {error.start}: it is not UTF-8: convert it first.") from error
    return "standard input", text.removesuffix("\n").split("\n")


def _write(path: str, lines: list[str]) -> None:
    """Raises ConfigError: the file cannot be written."""
    from seqjax.types import ConfigError

    if path == "-":
        print(*lines, sep="\n")
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be written ({error.strerror}): choose another file.") from error
