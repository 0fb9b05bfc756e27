"""Text from a trained language model."""

import jax
import jax.numpy as jnp

from seqjax.decoding.sample import Sampling, sample
from seqjax.training import cost
from seqjax.training.trained import Trained
from seqjax.types import ConfigError


def generate(
    trained: Trained, prompt: str, *, sampling: Sampling, tokens: int | None = None, samples: int = 1, seed: int = 0
) -> list[str]:
    """Continues a prompt `samples` times by `tokens` each and writes the texts to samples.json.

    tokens=None continues to the length that the model was trained on; attention has not learnt later positions.

    Raises:
      ConfigError: the model has no state, its tokens are not text, the cache is too small for the length, or the tokens
        take more memory than there is.
      DataError: the prompt has a character that the model does not know.
    """
    e = trained.experiment
    if e.source.spec.vocabulary is None:
        raise ConfigError("the data of this model have features, not tokens, so it cannot generate text.")
    if not prompt:
        raise ConfigError("the prompt is empty: give at least one character to continue.")
    if (tokens is not None and tokens < 1) or samples < 1:
        raise ConfigError(f"got tokens={tokens}, samples={samples}: wanted at least 1 of each.")
    try:
        ids = e.source.encode(prompt)
    except NotImplementedError as error:
        raise ConfigError(f"the tokens of data.name={e.config['data']['name']!r} are not text.") from error
    try:
        tokens = max(e.source.spec.length - len(ids), 1) if tokens is None else tokens
        _check_room(e.model, samples, len(ids), tokens, e.source.spec.vocabulary)
        prompt_BL = jnp.tile(jnp.asarray(ids, jnp.int32)[None], (samples, 1))
        out_BL = sample(e.model, trained.params, prompt_BL, jax.random.key(seed), length=tokens, sampling=sampling)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    texts = [e.source.decode(row) for row in jax.device_get(out_BL)]
    drawn = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    rows = [{"prompt": prompt, "text": t, **drawn, "seed": seed, "step": trained.step} for t in texts]
    trained.workdir.write("samples.json", rows)
    return texts


def _check_room(model, samples: int, prompt: int, tokens: int, vocabulary: int) -> None:
    """Refuses samples that are too large for the memory, before any array is made."""
    state = cost.nbytes(jax.eval_shape(lambda: model.init_state(1)))
    # A row: its state, the ids and logits of the prompt, and three copies of its new tokens. All rows share the keys.
    need = samples * (state + 4 * prompt * (vocabulary + 1) + 12 * tokens) + 8 * tokens
    have = cost.of_device() or cost.memory()
    if need > have:
        raise ConfigError(
            f"{samples:,} samples of {tokens:,} new tokens take {need:,} bytes of memory, and there are {have:,}: ask "
            "for fewer tokens or fewer samples."
        )
