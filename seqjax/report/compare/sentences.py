"""Describes the results of a comparison and their limits in sentences."""

import itertools

from seqjax.metrics import is_better
from seqjax.report import words
from seqjax.search.findings import ALPHA, Findings, Found, Pair
from seqjax.search.match import QUANTITIES, sized_by
from seqjax.search.statistics import LEVEL, Summary, smallest_p

EQUAL = 0.05  # up to this relative difference, budgets count as equal


def metric(f: Findings) -> str:
    """`test accuracy`."""
    return f"test {f.metric.replace('_', ' ')}"


def key(axis: str | None) -> str:
    """`data.pairs` -> `pairs`."""
    return (axis or "").split(".")[-1].replace("_", " ")


def spread(s: Summary | None) -> str:
    """`0.512 [0.48, 0.55]`."""
    if s is None:
        return words.NONE
    return words.number(s.mean) + (f" [{words.number(s.low)}, {words.number(s.high)}]" if s.n > 1 else "")


def budget(f: Findings, value) -> str:
    """`At equal state bytes (2,048)` and the value of the key that varies; a larger difference is written out."""
    c = f.comparison
    at = "" if value is None else f" and {key(c.axis)} {value}"
    if c.match is None:
        return f"As configured{at}"
    sizes, matched = [found.size for found in f.at(value)], QUANTITIES[c.match]
    target = next((s for s, name in zip(sizes, c.contenders, strict=True) if name == c.target), None)
    amount = c.target if target is None else getattr(target, matched.field)
    shown = words.seconds(amount) if c.match == "step_time" else words.flops(amount) if c.match == "flops" else None
    off = max(abs(size.matched - 1) for size in sizes)
    if off > EQUAL:
        return f"At {matched.words} within {off:.0%} of {shown or words.count(amount)}{at}"
    return f"At equal {matched.words} ({shown or words.count(amount)}){at}"


def verdict(f: Findings, value) -> str:
    """Which contender is first at a value, by how much, and whether the lead is significant."""
    ranked = f.ranked(value)
    if not ranked:
        return f"{budget(f, value)}, no contender has a finite {metric(f)}."
    first, s = f.winners(value), f.summary(ranked[0])
    has = "share" if len(first) > 1 else "has"
    order = "highest" if f.sign > 0 else "lowest"
    text = f"{budget(f, value)}, {_names(first)} {has} the {order} mean {metric(f)}, "
    if len(first) > 1:
        return f"{text}{words.number(s.mean)}."
    text += f"{spread(s)} over {words.counted(s.n, 'seed')}"
    if len(ranked) == 1:
        return f"{text}; no other contender has a score."
    ahead = f"{text}, ahead of {ranked[1].cell.name} with {spread(f.summary(ranked[1]))}."
    pair = _lead(f, value)
    return f"{ahead} {chance(pair, len(f.pairs()))}" if pair else ahead


def _names(founds: list[Found]) -> str:
    return words.listed([found.cell.name for found in founds])


def _lead(f: Findings, value) -> Pair | None:
    """The first and the second at a value; None if they share no seed."""
    names = {found.cell.name for found in f.ranked(value)[:2]}
    return next((p for p in f.pairs() if p.value == value and {p.first, p.second} == names), None)


def chance(pair: Pair, pairs: int) -> str:
    """A sentence: whether the difference of two contenders is significant in a paired permutation test."""
    over = f" (Holm's correction over {pairs} pairs)" if pairs > 1 else ""
    agree = f"{pair.first} is ahead with {pair.agree} of {pair.n} seeds"
    if pair.adjusted > ALPHA and pair.floor * pairs > ALPHA:
        return (
            f"{agree}, but this may be chance: with {pair.n} seeds, the p of a paired permutation test is never below "
            f"{pair.floor:.2g}; a significant p needs at least {enough(pairs)} seeds{over}."
        )
    significant = "significant" if pair.adjusted <= ALPHA else "not significant"
    return f"The difference is {significant} in a paired permutation test, p = {pair.adjusted:.2g}{over}; {agree}."


def enough(pairs: int) -> int:
    """The smallest number of seeds with which a test can be significant if there are `pairs` pairs."""
    return next(n for n in itertools.count(1) if smallest_p(n) * pairs <= ALPHA)


def headline(f: Findings) -> str:
    """The answer in one or two sentences."""
    values = f.comparison.values
    if len(values) == 1:
        return verdict(f, values[0])
    firsts: dict[str, list] = {}
    for value in values:
        if first := f.winners(value):
            firsts.setdefault(_names(first), []).append(str(value))
    if not firsts:
        return f"No contender has a finite {metric(f)}."
    name = key(f.comparison.axis)
    parts = [f"{contender} at {name} {words.listed(at)}" for contender, at in firsts.items()]
    leads = {value: pair for value in values if (pair := _lead(f, value)) and pair.adjusted <= ALPHA}
    sure = [str(value) for value, pair in leads.items() if pair.first == f.ranked(value)[0].cell.name]
    lead = f"at {name} {words.listed(sure)} the lead over the second" if sure else "no lead"
    significant = f"{lead} is significant with {len(f.comparison.seeds)} seeds"
    return f"First in mean {metric(f)}: {words.listed(parts)}; {significant}."


def notes(f: Findings) -> list[str]:
    """Notes that a reader needs to judge the results."""
    c = f.comparison
    out = [verdict(f, value) for value in c.values] if len(c.values) > 1 else []
    out.append(
        f"Numbers are means over {len(c.seeds)} seeds; in brackets the {100 * LEVEL:.0f}\u00a0% percentile bootstrap "
        "interval of the mean over seeds. With few seeds it is too narrow: for normally distributed scores it "
        "contains the true mean in 75\u00a0% of cases with 3 seeds, 85\u00a0% with 5, 91\u00a0% with 10. It does not "
        "include the variation over test examples."
    )
    out.append(
        f"Learning rates were chosen on validation ({f.monitor.replace('_', ' ')}, best checkpoint, mean of "
        f"{words.counted(len(c.learning_rate_seeds), 'seed')}); each chosen run was evaluated on test once. With the "
        "same seed, every contender gets the same batches in the same order."
    )
    if c.match is not None:
        off = max(abs(found.size.matched - 1) for found in f.founds)
        out.append(f"{QUANTITIES[c.match].words.capitalize()} are matched within {off:.2%} by the {_sizes(f)}.")
    if slots := c.executor.keywords.get("slots", 1) - 1:
        out.append(f"{slots + 1} runs shared the machine, so training times are longer than on an idle machine.")
    for found in f.founds:
        out += [f"{found.cell.folder}: {note}" for note in _of(f, found)]
    for (contender, value, assignment), why in f.impossible.items():
        at = "" if value is None else f", {key(c.axis)} {value}"
        out.append(f"{contender}{at} has no score at {assignment}: {why}")
    return out


def _sizes(f: Findings) -> str:
    """`width of the models`, or also `width (hmm: states) of the models`."""
    solved = [found.cell for found in f.founds if found.cell.name != f.comparison.target]
    others = {cell.name: sized_by(cell.config) for cell in solved}
    listed = ", ".join(f"{name}: {option}" for name, option in others.items() if option != "width")
    return f"width{f' ({listed})' * bool(listed)} of the models"


def _of(f: Findings, found: Found) -> list[str]:
    out = []
    if found.rate is None and not found.cell.optimises:
        return ["it diverged."]
    if found.rate is None:
        return [f"no learning rate from {min(found.rates):g} to {max(found.rates):g} trained without diverging."]
    if found.edge:
        out.append(
            f"its best learning rate, {found.rate:g}, is the {found.edge} of the grid, even after an extension: "
            "a rate beyond may be better."
        )
    if diverged := found.diverged():
        out.append(f"{_seeds(diverged)} diverged at the chosen learning rate and {_out(diverged)} of all means.")
    for at in (None, *f.comparison.away(found.cell.value)[1].values()):
        scores, where = f.scores(found, at), f" at {at}" if at else ""
        if lost := [seed for seed in found.runs if found.judged(seed, at) and seed not in scores]:
            has = "has" if len(lost) == 1 else "have"
            out.append(f"{_seeds(lost)} {has} no finite {metric(f)}{where} and {_out(lost)} of this mean.")
    return out


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {words.listed(list(map(str, seeds)))}"


def _out(seeds: list[int]) -> str:
    return f"{'is' if len(seeds) == 1 else 'are'} left out"


def beaten(f: Findings, found: Found, value: float) -> bool:
    """Whether the mean of a contender is better than a baseline."""
    s = f.summary(found)
    return s is not None and is_better(f.metrics[f.metric], s.mean, value)
