"""Hidden states: what each emits, how they follow each other, how long they last, and their posterior in an example."""

import math
import statistics

from seqjax.report import canvas, words
from seqjax.report.document import Cell, Column, Figure, Fold, Header, Number, Section, Table, Text, row, table
from seqjax.report.runs import Run
from seqjax.training.records import States

NUMBERS = 10  # up to so many states, the moves are a table


def section(run: Run) -> Section:
    """The hidden states of a run: of the whole model, or one part per class, of which the first is open."""
    first, *rest = run.states
    text = f"At step {words.count(first.step)}."
    if first.total > len(first.states):
        text = f"The most frequent {len(first.states)} of {words.count(first.total)} states, at step {first.step:,}."
    if first.transition:
        text += f" Shares, visits and examples are those of the most probable paths in {first.split}."
    title = [Header(f"Class {first.name}", level=3)] if first.name else []
    folds = [Fold(f"Class {of.name}", _elements(of)) for of in rest]
    return Section(f"Hidden states of {run.name}", [Text(text, soft=True), *title, *_elements(first), *folds])


def _elements(of: States) -> list:
    found = [_table(of)]
    if of.transition:
        found.append(_numbers(of) if len(of.states) <= NUMBERS else _moves(of))
    if of.path:
        found += [_visits(of), _example(of)]
    return found


def _table(of: States) -> Table:
    """What each state emits, how often it occurs, and how long it lasts."""
    columns = {Column("state"): lambda k: of.states[k]}
    if of.transition:
        columns |= {
            Number(f"share of {of.unit}s"): lambda k: f"{of.share[k]:.1%}",
            Number("visit lasts"): lambda k: _length(of.visits[k]),
            Number("expected"): lambda k: words.three(stay) if math.isfinite(stay := _expected(of, k)) else "∞",
        }
    columns[Column("emits")] = lambda k: of.emits[k] or words.NONE
    return table(_title("States", of), range(len(of.states)), columns)


def _length(visits: list[int]) -> str:
    """The mean length of visits."""
    total = sum(visits)
    return words.three(sum(n * count for n, count in enumerate(visits, 1)) / total) if total else words.NONE


def _expected(of: States, k: int) -> float:
    """The mean of the geometric distribution of how long a state lasts."""
    stay = of.transition[k][k]
    return 1 / (1 - stay) if stay < 1 else math.inf


def _numbers(of: States) -> Table:
    """The probabilities of the first state and of the next one, shaded; below half a percent they are left out."""
    cell = lambda p: Cell(f"{p:.2f}" if p >= 0.005 else "", mark=f"heat{round(10 * p)}")
    moves = zip(("start", *of.states), (of.start, *of.transition), strict=True)
    rows = [row(name, *map(cell, p_K)) for name, p_K in moves]
    return Table(_title("Moves", of), [Column("from"), *(Number(name, "to") for name in of.states)], rows)


def _moves(of: States) -> Figure:
    """The same as an image."""
    K = len(of.states)

    def draw(axes):
        canvas.cells(axes, of.transition)
        axes.set(xlim=(0.5, K + 0.5), title="next state, by state")
        axes.set_xticks(range(1, K + 1), map(words.clean, of.states), rotation=90, fontsize=6)
        _name(axes, of, K - 0.5)

    caption = "The probability of the next state (column) after each one."
    return Figure([canvas.panel(_title("p(next state | state)", of), draw, width=4.4, height=4.4)], caption)


def _visits(of: States) -> Figure:
    """How often a visit of each state lasts how long."""

    def draw(axes):
        canvas.cells(axes, [[count / max(*counts, 1) for count in counts] for counts in of.visits])
        expected = [_expected(of, k) for k in range(len(of.states))]
        axes.plot(expected, range(len(of.states)), "|", color=canvas.INK, markersize=9, markeredgewidth=1.6)
        axes.set(xlim=(0.5, len(of.visits[0]) + 0.5), title=f"{of.unit}s per visit, by state")
        axes.locator_params(axis="x", integer=True)
        _name(axes, of, len(of.states) - 0.5)

    caption = (
        f"How many {of.unit}s the visits of each state last: dark is the most frequent length, the bar the mean that "
        "the probability to stay implies."
    )
    return Figure([canvas.panel(_title("Lengths of visits", of), draw, height=_height(of))], caption)


def _example(of: States) -> Figure:
    """The posterior ribbon: states over time, the best path, and what was observed."""
    K, L = len(of.states), len(of.path)
    frames = 0.06 * K if of.frames else 0  # the height of a feature

    def draw(axes):
        canvas.cells(axes, of.posterior)
        shown = [t for t, k in enumerate(of.path) if k >= 0]
        begin, end = ([t + shift for t in shown] for shift in (0.5, 1.5))
        axes.hlines([of.path[t] for t in shown], begin, end, color=canvas.INK, linewidth=1.6)
        axes.set(xlim=(0.5, L + 0.5), title="states over time")
        bottom = K - 0.5
        if of.frames:
            canvas.cells(axes, [_standard(values) for values in zip(*of.frames, strict=True)], y=K, height=frames)
            bottom = K + frames * len(of.frames[0])
            axes.set_xlabel(of.unit)
            axes.locator_params(axis="x", integer=True)
        else:
            axes.set_xticks(range(1, L + 1), map(words.clean, of.tokens), fontsize=7)
            axes.tick_params("x", rotation=90 * (max(map(len, of.tokens)) > 3), length=0)
        _name(axes, of, bottom)

    beneath = "the features, blue where above their mean, orange below" if of.frames else f"the {of.unit}s"
    caption = f"The posterior of the states in an example; the line is the most probable path; beneath: {beneath}."
    label = _title("Posterior of the states in an example", of)
    return Figure([canvas.panel(label, draw, width=6.4, height=_height(of) + bool(of.frames))], caption, large=True)


def _title(text: str, of: States) -> str:
    return f"{text}, class {of.name}" if of.name else text


def _standard(values) -> list[float]:
    """1 and -1 stand for three standard deviations above and below the mean."""
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    return [(value - mean) / (3 * deviation) if deviation else 0.0 for value in values]


def _height(of: States) -> float:
    return 0.9 + 0.16 * max(len(of.states), 6)


def _name(axes, of: States, bottom: float) -> None:
    """States from the top down, with their names; the axis ends at `bottom`."""
    axes.set_yticks(range(len(of.states)), map(words.clean, of.states), fontsize=8 if len(of.states) <= 20 else 6)
    axes.set_ylim(bottom, -0.5)
