"""Shows what a config would cost, without training."""

import contextlib

import jax
from rich.table import Table

from seqjax.spec import mask_name
from seqjax.training import cost, history, progress
from seqjax.training.experiment import Experiment
from seqjax.training.step import zero_totals
from seqjax.types import ConfigError


def show(experiment: Experiment) -> None:
    """Prints parameters, FLOPs, memory and the first batch. Compiles the step and runs nothing.

    Raises:
      ConfigError: the memory is too small for the parameters. What is known of them is printed first.
    """
    e, console = experiment, progress.console(soft_wrap=True)
    params = e.shapes.params
    notes = e.optim.rules(params).values() if e.optim.told(params) else ()
    console.print(progress.parameters(cost.parameter_table(params), notes))

    batch = e.batches.first
    layout = e.parallel.layout(e.loader.batch_size, e.train.accumulation_steps)
    state = layout.abstract(e.shapes)
    step = e.program(layout)
    totals = zero_totals(step, state, batch)
    flops = e.batches.mean(lambda batch: cost.flops(step, state, totals, batch))
    mib = lambda n: f"{n / 2**20:,.1f} MiB"
    tokens, epoch = e.batches.tokens, e.batches.per_epoch
    epochs = f"{e.train.steps / epoch:.1f} epochs of {epoch:,}" if epoch else "endless data"
    rows = [
        ("matmul FLOPs", f"{flops:,.0f} a step, {flops / tokens:,.0f} a token, {flops * e.train.steps:.3g} in all"),
        ("memory", f"{mib(cost.nbytes(params))} parameters, {mib(cost.nbytes(state))} whole state"),
        ("steps", f"{e.train.steps:,} of {e.batches.mean(lambda batch: len(batch['weight'])):g} sequences, {epochs}"),
        ("fill", f"{e.batches.fill():.1%} of the places of its first batches are real tokens"),
    ]
    rows += [("data", note) for note in e.source.notes]
    rows += [("optim", line) for line in e.optim.told(params)]
    try:
        cost.check_room(state)
    except ConfigError:
        _print(console, rows)
        raise
    longest, _ = e.batches.kinds[-1]
    memory = jax.jit(step, donate_argnums=0).lower(state, totals, longest).compile().memory_analysis()
    temporary = mib(memory.temp_size_in_bytes) if memory else "unknown"
    rows.insert(2, ("", f"{temporary} temporary in a step, {mib(cost.nbytes(longest))} a batch"))
    if origin := e.init.origin(params):
        history.check_tokenizer(origin.meta, e)
        rows.append(("init", str(origin)))
        rows += [("", line) for line in history.other_model(origin.meta, e)]
    if carried := cost.nbytes(e.shapes.carry):
        rows.append(("carried state", f"{carried:,} bytes, in {e.loader.batch_size} streams of {epoch:,} windows"))
    for name, field in e.source.spec.fields.items():
        if field.kind == "ids" and field.axis is not None:
            ids = batch[name][0][batch[mask_name(field.axis)][0]]
            rows.append((f"first {name}", _shown(e.source, name, ids)))
    _print(console, rows)
    table = Table("batch[0]", "dtype", "shape", "range", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for key, value in batch.items():
        table.add_row(key, str(value.dtype), str(list(value.shape)), f"{value.min():g} to {value.max():g}")
    console.print(table)


def _print(console, rows) -> None:
    for name, text in rows:
        console.print(f"{name:17}{text}")


def _shown(source, name: str, ids) -> str:
    """The first ids as text, if they are tokens that the source can decode, else as numbers."""
    with contextlib.suppress(NotImplementedError):
        if name in ("tokens", "source"):
            return repr(source.decode(ids, **({} if name == "tokens" else {"field": name}))[:160])
    return str(ids[:32].tolist())
