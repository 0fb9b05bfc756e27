"""From which length on is recurrence faster than attention? Layers with equal parameters, from 128 tokens to 32,768.

    python -m benchmarks.attention_vs_recurrence --pin --quick
    python -m benchmarks.attention_vs_recurrence --mixers attention lstm rg_lru --what decode --lengths 1024 4096

Only the mixer is timed, because the rest of a block costs the same with every mixer. Attention has `--width` and 4
heads (`attention_window` sees the last 256 tokens); every other layer has the width at which it has as many parameters,
within 2 % (4 % where its heads allow no nearer width). training: <y, dy> and its gradients by parameters and x;
prefill: y and the final state; decode: 16 tokens, one after the other, after a state of L tokens. A call trains on or
reads 4096 tokens, or one row if that is longer, and decodes 8 rows. Calls that would take too long, or need more memory
than is free, are left out and listed.
"""

import functools

from rich.console import Console

from benchmarks import _curves, _layers, _programs, _roofline, harness, results, session
from benchmarks.decoding import STEPS
from benchmarks.harness import Contender, Timing

CHECK = session.Check(
    device="--mixers attention attention_window lstm rg_lru --what training decode --lengths 1024 8192",
    cpu="--mixers attention lstm --what training --lengths 64 128",
    tables=("Crossover with attention:", "Tokens per second"),
)
WHAT = ("training", "prefill", "decode")
LENGTHS = tuple(2**k for k in range(7, 16))
FEW = (512, 4096)  # with --quick
TOKENS, ROWS = 4096, 8
SECONDS = 60.0  # the longest call
QUICK = 5.0  # the same with --quick


def expected(seen: list[tuple[int, float]], tokens: int, L: int) -> float:
    """The estimated seconds of a call of `tokens` tokens at length L, from the two longest lengths that were `seen`.

    `seen` holds (length, seconds per token). Time per token grows at most in proportion to the length; with only one
    length this growth is assumed.
    """
    if not seen:
        return 0.0
    L1, s1 = seen[-1]
    growth = 1.0
    if len(seen) > 1:
        L0, s0 = seen[-2]
        growth = min(max(_curves.slope(L0, s0, L1, s1), 0.0), 1.0)
    return tokens * s1 * (L / L1) ** growth


def figures(timing: Timing, clock: str, rates: _roofline.Rates) -> dict:
    """The measured figures of a layer, with the share of the machine's peak that it reaches."""
    work, found = timing.work, results.summary(timing, clock)
    share, bound = _roofline.share(work, found["ms"] / 1e3, rates)
    return {
        **found,
        "us_token": 1e3 * found["ms"] / work.tokens,
        "tokens_s": 1e3 * work.tokens / found["ms"],
        "peak_mb": work.peak / 2**20,
        "state_bytes": work.held,
        "share": share,
        "bound": bound,
        "gflop": work.flops / 1e9,
        "moved_mb": work.moved / 2**20,
        "width": work.width,
        "parameters": work.parameters,
    }


def run(args, absent: dict[str, str]) -> dict:
    """Times all layers, length by length; saves after each; returns the result."""
    most = QUICK if args.quick else SECONDS
    facts = session.about(args, []) | {
        "allocators": "keep for all",
        "layer": {"dtype": args.dtype, "width of attention": args.width, "tokens a call": TOKENS, "decoded rows": ROWS},
        "left out above": f"{most:g} s a call",
        "not asked": absent,
    }
    plan, result = session.plan_of(args), session.resumed(facts, args.resume)
    if "roofline" not in result:
        found, device = _roofline.rates(args.dtype, plan, result["clock"])
        session.place(result, device)
        giga = lambda rate: float(f"{rate / 1e9:.4g}")  # digits, not places: a rate is never 0
        result["roofline"] = {"GFLOP/s": giga(found.flops), "GB/s": giga(found.bytes)}
    rates = _roofline.Rates(*(1e9 * rate for rate in result["roofline"].values()))
    rows = result["rows"] = result.pop("rows")  # last in the file, too
    build = functools.partial(
        _programs.build, like=args.width, dtype=args.dtype, limits=_programs.Limits(most, rates.flops)
    )
    contenders = [Contender(name, functools.partial(build, name), "keep") for name in args.mixers]
    console = Console(highlight=False, soft_wrap=True)
    for what in args.what:
        seen: dict[str, list] = {name: [] for name in args.mixers}
        for L in sorted(args.lengths):
            B = ROWS if what == "decode" else max(1, TOKENS // L)
            tokens = B * (STEPS if what == "decode" else L)
            case = {"what": what, "B": B, "L": L}
            if case not in [row["case"] for row in rows]:
                rows.append({"case": case, "contenders": {}, "left_out": {}})
            row = next(row for row in rows if row["case"] == case)
            new = [c for c in contenders if c.name not in row["contenders"] | row["left_out"]]
            wait = {c.name: expected(seen[c.name], tokens, L) for c in new}
            left = {name: f"about {s:,.0f} s a call" for name, s in wait.items() if s > most}
            timings = harness.race([c for c in new if c.name not in left], case, plan)
            left |= {name: timing.left_out for name, timing in timings.items() if timing.left_out}
            found = {n: figures(t, result["clock"], rates) for n, t in timings.items() if n not in left}
            row["contenders"] |= found
            row["left_out"] |= left
            for name in seen.keys() & row["contenders"].keys():
                seen[name].append((L, row["contenders"][name]["us_token"] / 1e6))
            line = [f"{name} {'~' * f['noisy']}{f['us_token']:.3g}" for name, f in found.items()]
            console.print(f"{results.title(case)}: µs per token: {', '.join(line)}")
            results.save(result, args.out / session.stem(result), _curves.tables([result]), _curves.picture)
    for caption, (head, *lines) in _curves.crossovers([result]):
        console.print("\n".join([caption, *(" ".join(f"{cell:>24}" for cell in line) for line in [head, *lines])]))
    return result


def main(argv: list[str] | None = None) -> None:
    """Parses the options and runs."""
    known, absent = _layers.names()
    parser = session.options("attention_vs_recurrence", __doc__, mixers=known, what=WHAT)
    session.add_plan(parser)
    parser.add_argument("--lengths", nargs="+", type=int, help="default: 128 to 32768; with --quick 512 and 4096")
    parser.add_argument("--width", type=int, default=256, help="of attention; other layers have as many parameters")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of products and caches")
    args = session.parse(parser, argv)
    args.lengths = args.lengths or list(FEW if args.quick else LENGTHS)
    if min(args.lengths) < 2:
        parser.error(f"--lengths: got {min(args.lengths)}, wanted at least 2 tokens each.")
    args.shared = True
    run(args, absent)


if __name__ == "__main__":
    main()
