"""seqjax generate."""

from seqjax.commands import _run_folder
from seqjax.screen import clean

ABOUT = "Sample text, or answers to source sequences, from a checkpoint; writes samples.json."
EXAMPLES = """\
  seqjax generate --workdir runs/gru --prompt 'The ' --tokens 300
  seqjax generate --workdir runs/gru --temperature 0           (greedy)
  seqjax generate --workdir runs/gru --top_k 40 --top_p 0.95 --samples 3 --seed 1
  seqjax generate --workdir runs/reverse --samples 4           (answers to source sequences)"""


def options(parser) -> None:
    """The options of the command."""
    _run_folder.options(parser)
    add = parser.add_argument
    add("--prompt", help="text to continue (default: a newline; without newlines in the data, its first character)")
    add("--tokens", type=int, default=None, help="at most how many new tokens (default: up to the trained length)")
    add("--samples", type=int, default=1, help="continuations, or validation examples (default: 1)")
    add("--temperature", type=float, default=0.8, help="0 is greedy (default: 0.8)")
    add("--top_k", type=int, default=None, help="draw from the k likeliest (default: all)")
    add("--top_p", type=float, default=1.0, help="draw from the likeliest that make up p (default: 1)")
    add("--seed", type=int, default=0, help="the same seed gives the same text (default: 0)")


def run(args) -> None:
    """Samples, prints and writes."""
    _run_folder.check(args.workdir)
    import functools

    from seqjax import config, runtime, samples
    from seqjax.decoding.sample import Sample
    from seqjax.training.trained import Trained

    given = {key: getattr(args, key) for key in ("temperature", "top_k", "top_p")}
    checked = config.resolve(Sample, given)
    decoder = functools.partial(Sample, **{key: checked[key] for key in given})
    runtime.setup()
    trained = Trained.load(args.workdir, args.checkpoint)
    how = dict(prompt=args.prompt, tokens=args.tokens, samples=args.samples, seed=args.seed)
    print(clean(samples.show(trained, decoder, **how)))
