"""Samples of a trained model: continuations of a prompt, or answers to sources; what `seqjax generate` prints."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data import Source
from seqjax.evaluators import generate
from seqjax.tasks._base import Reads
from seqjax.training import cost
from seqjax.training.net import Net
from seqjax.training.trained import Trained
from seqjax.types import ConfigError, DataError


def show(
    trained: Trained, decoder: Callable, *, prompt: str | None, tokens: int | None, samples: int, seed: int
) -> str:
    """Continuations of a prompt (None: see `opening`), or answers to validation examples if they have a source.

    `decoder` makes a decoder that has the option `samples`; `tokens` is its `max_length`.

    Raises:
      ConfigError: a prompt is given, but the model answers sources; see also `texts` and `answers`.
    """
    if samples < 1 or (tokens is not None and tokens < 1):
        raise ConfigError(f"got tokens={tokens}, samples={samples}: wanted at least 1 of each.")
    how = dict(tokens=tokens, samples=samples, seed=seed)
    if trained.experiment.source.spec.source_vocabulary is not None:
        if prompt is not None:
            raise ConfigError("this model answers the sources of its data: leave --prompt out.")
        return "\n\n".join(map(_answer, answers(trained, decoder, **how)))
    prompt = opening(trained.experiment.source) if prompt is None else prompt
    rows = texts(trained, decoder, prompt, **how)
    if samples == 1:
        return prompt + rows[0]["text"]
    head = "--- sample {} of {}, step {}, log-probability {:.2f}\n"
    return "\n".join(
        head.format(i, samples, trained.step, row["score"]) + prompt + row["text"]
        for i, row in enumerate(rows, start=1)
    )


def _answer(row: dict) -> str:
    names = {"source": "source", "wanted": "wanted", "text": "generated"}
    lines = [f"{name:11}{row[key]}" for key, name in names.items()]
    return "\n".join([*lines, f"{'log p':11}{row['score']:.2f}"])


def answers(trained: Trained, decoder: Callable, *, tokens: int | None, samples: int, seed: int) -> list[dict]:
    """Answers the first `samples` validation examples, and writes them to samples.json; see the evaluator `generate`.

    Raises:
      ConfigError: there are fewer examples, or the data have no end token and `tokens` is None.
    """
    e = trained.experiment
    make = lambda spec: decoder(spec=spec, max_length=tokens)
    parts = dict(model=e.model, task=e.task, source=e.source, loader=e.loader, seed=seed)
    try:
        evaluator = generate.Evaluator(**parts, decoder=make, examples=samples, samples=samples)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    over = evaluator.over("validation", trained.layout)
    over(trained.params, trained.step, on_batch=lambda done: None, give_up=lambda: False, write=trained.workdir.write)
    return over.rows


def texts(
    trained: Trained, decoder: Callable, prompt: str, *, tokens: int | None = None, samples: int = 1, seed: int = 0
) -> list[dict]:
    """Continues a prompt `samples` times by up to `tokens` each, and writes the texts to samples.json.

    tokens=None continues to the length that the model was trained on; attention has not learnt later positions.

    Raises:
      ConfigError: the model has no state, its tokens are not text, the cache is too small for the length, or the tokens
        take more memory than there is.
      DataError: the prompt has a character that the model does not know.
    """
    e = trained.experiment
    spec = e.source.spec
    if spec.vocabulary is None:
        raise ConfigError("the data of this model have features, not tokens, so it cannot generate text.")
    if not prompt:
        raise ConfigError("the prompt is empty: give at least one character to continue.")
    try:
        ids = e.source.encode(prompt)
    except NotImplementedError as error:
        raise ConfigError(f"the tokens of data.name={e.config['data']['name']!r} are not text.") from error
    if not len(ids):
        raise ConfigError(f"the prompt {prompt!r} has no token: give a word to continue.")
    tokens = max(spec.length - len(ids), 1) if tokens is None else tokens
    try:
        _check_room(e.model, samples, len(ids), tokens, spec.vocabulary)
        made = decoder(spec=spec, max_length=tokens, samples=samples)
        x_BL = jnp.asarray(ids, jnp.int32)[None]
        decode = jax.jit(lambda params, reads, key: made(Net(e.model, params), reads, key))
        out = decode(trained.params, Reads(x_BL, jnp.ones(x_BL.shape, bool)), jax.random.key(seed))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    how = {**made.options, "seed": seed, "step": trained.step}
    # A word may need a space before it: the text is what the new tokens add to that of the prompt.
    begin = len(e.source.decode(ids))
    text = lambda new_L: e.source.decode(np.concatenate([ids, new_L]))[begin:]
    rows = [
        {"prompt": prompt, "text": text(new_L[real_L]), "score": float(score), **how}
        for new_L, real_L, score in zip(*(a[0] for a in jax.device_get(out)), strict=True)
    ]
    trained.workdir.write("samples.json", rows)
    return rows


def _check_room(model, samples: int, prompt: int, tokens: int, vocabulary: int) -> None:
    """Refuses samples that are too large for the memory, before any array is made."""
    state = cost.nbytes(jax.eval_shape(lambda: model.init_state(1)))
    # A row: its state, its logits, and its new tokens: five copies, each way round, here and there, and two masks. All
    # rows share the prompt and its logits.
    need = samples * (state + 4 * vocabulary + 22 * tokens) + state + 4 * prompt * (vocabulary + 1)
    have = cost.of_device() or cost.memory()
    if need > have:
        raise ConfigError(
            f"{samples:,} samples of {tokens:,} new tokens take {need:,} bytes of memory, and there are {have:,}: ask "
            "for fewer tokens or fewer samples."
        )


def opening(source: Source) -> str:
    """A new line; if the text has none, the first character of the first training example."""
    try:
        if source.decode(source.encode("\n")) == "\n":
            return "\n"
    except NotImplementedError:
        return "\n"  # `texts` raises the error that these tokens are not text
    except DataError:
        pass  # the alphabet has no new line
    return source.decode(source.example("train", 0)["tokens"][:1])
