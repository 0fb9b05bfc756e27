"""Makes the text that `seqjax generate` prints."""

from seqjax.data import Source
from seqjax.decoding.answers import answer
from seqjax.decoding.sample import Sampling
from seqjax.decoding.text import generate
from seqjax.training.trained import Trained
from seqjax.types import ConfigError, DataError


def show(
    trained: Trained, *, prompt: str | None, tokens: int | None, samples: int, seed: int, sampling: Sampling
) -> str:
    """Continuations of a prompt (None: see `opening`), or answers to validation examples if they have a source.

    Raises:
      ConfigError: `prompt` or `tokens` is given, but the model answers sources; see also `generate` and `answer`.
    """
    how = dict(samples=samples, seed=seed, sampling=sampling)
    if trained.experiment.source.spec.source_vocabulary is not None:
        if prompt is not None or tokens is not None:
            raise ConfigError("this model answers the sources of its data: leave --prompt and --tokens out.")
        names = {"source": "source", "wanted": "wanted", "text": "generated"}
        rows = answer(trained, "validation", **how)
        return "\n\n".join("\n".join(f"{names[k]:11}{row[k]}" for k in names) for row in rows)
    prompt = opening(trained.experiment.source) if prompt is None else prompt
    texts = [prompt + text for text in generate(trained, prompt, tokens=tokens, **how)]
    if samples == 1:
        return texts[0]
    return "\n".join(f"--- sample {i} of {samples}, step {trained.step}\n{t}" for i, t in enumerate(texts, start=1))


def opening(source: Source) -> str:
    """A new line; if the text has none, the first character of the first training example."""
    try:
        if source.decode(source.encode("\n")) == "\n":
            return "\n"
    except NotImplementedError:
        return "\n"  # `generate` raises the error that these tokens are not text
    except DataError:
        pass  # the alphabet has no new line
    return source.decode(source.example("train", 0)["tokens"][:1])
