"""seqjax laws."""

from seqjax.types import ConfigError, SeqjaxError

ABOUT = "Hold a mixer, of your own or of seqjax, against the laws: masks, resets, chunks, steps, gradients."
EXAMPLES = """\
  seqjax laws mine:Decay
  seqjax laws mine:Heads --config.model.mixer.heads=16 --width 32
  seqjax laws mine:Decay --dtype bfloat16
  seqjax laws attention --config.model.mixer.max_length=8"""


def options(parser) -> None:
    """The options of the command."""
    parser.set_defaults(config=None, base="")  # there is no config file, only keys to override
    add = parser.add_argument
    add("mixer", metavar="NAME", help="which mixer, as in configs: mine:Decay is the class Decay of mine.py")
    add("--config.model.mixer.KEY", metavar="VALUE", dest="_override", help="an option of the mixer; repeatable")
    add("--width", type=int, default=8, metavar="D", help="width of the mixer (default: 8)")
    add("--dtype", default="float32", help="float32, bfloat16 or float16: its declared dtype (default: float32)")
    add("--tolerance", type=float, metavar="X", help="how far two results may be apart (default: as products are)")


def run(args) -> None:
    """Prints a line for each law, then the reports of those that are broken.

    Raises:
      ConfigError: there is no such mixer, or it cannot be built.
      SeqjaxError: it breaks a law.
    """
    import time

    import jax

    from seqjax import config, runtime
    from seqjax.testing import laws, record, rows
    from seqjax.training import progress

    section = record.resolve(args.mixer, args.overrides)
    runtime.setup()
    say = progress.console(soft_wrap=True).print
    try:
        mixer = config.build(record.PART, section, "model.mixer", width=args.width, dtype=args.dtype)
        subject = laws.Subject(mixer, laws.rounding(args.dtype) if args.tolerance is None else args.tolerance)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{error} The laws build it with width {args.width}: see --width.") from error
    say(
        f"{args.mixer}: width {args.width}, {args.dtype}, on {jax.devices()[0].platform}; results may be apart by "
        f"{subject.tolerance:.1g} of the largest number"
    )
    begin, reports, count = time.monotonic(), [], 0
    for verdict in laws.check(subject):
        outcome, law = verdict.outcome, verdict.law
        about = law.sentence if outcome in ("held", "broken") else verdict.text
        say(f"  {outcome.upper() if outcome == 'broken' else outcome:16}{law.name:15}{about}")
        count += outcome != "does not apply"
        if outcome == "broken":
            reports.append(verdict)
    for verdict in reports:
        say(f"\n{verdict.text}")
    if reports:
        say(f"\nrows are numbered from 0, tokens too: {rows.LEGEND}\n")
        names = ", ".join(verdict.law.name for verdict in reports)
        raise SeqjaxError(f"{args.mixer} breaks {len(reports)} of {count} laws: {names}.")
    say(f"{args.mixer} holds all {count} laws that apply to it; {time.monotonic() - begin:.0f} s")
    if args.dtype == "float32":
        record.remember(section)
