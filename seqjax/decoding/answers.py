"""Answers of a trained model that reads a source, next to the wanted answers of its data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data import Batches, Loader
from seqjax.decoding.sample import Sampling, sample
from seqjax.training.trained import Trained
from seqjax.types import ConfigError


def answer(trained: Trained, split: str, *, sampling: Sampling, samples: int = 1, seed: int = 0) -> list[dict]:
    """Answers the first `samples` examples of a split and writes them to samples.json.

    An answer begins at the first `scored` token, but not before the second token, and is as long as the wanted one.

    Returns:
      One dict per example: `source`, `wanted` and `text` (the answer) in words or numbers; how it was drawn.

    Raises:
      ConfigError: no such split, the split has fewer examples than `samples`, or the cache is too small for the length.
    """
    e = trained.experiment
    if samples < 1:
        raise ConfigError(f"got samples={samples}: wanted at least 1.")
    if split in e.source.spec.splits and samples > (size := e.source.size(split) or samples):
        raise ConfigError(f"split {split!r} has {size:,} examples, asked for {samples:,}.")
    first = Batches(e.source, split, Loader(batch_size=samples, too_long=e.loader.too_long))[0]
    mask_BL, length_B = first["mask"], first["mask"].sum(axis=1)
    scored_BL = first.get("scored", mask_BL) & mask_BL & (np.arange(mask_BL.shape[1])[None] > 0)
    begin_B = np.where(scored_BL.any(axis=1), scored_BL.argmax(axis=1), length_B)
    prompt_BL = np.arange(begin_B.max())[None] < begin_B[:, None]
    try:
        out_BL = sample(
            e.model,
            trained.params,
            jnp.asarray(first["tokens"][:, : begin_B.max()]),
            jax.random.key(seed),
            length=max(int((length_B - begin_B).max()), 1),
            sampling=sampling,
            mask_BL=jnp.asarray(prompt_BL),
            **e.task.reads(first).side,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    how, rows = {**dataclasses.asdict(sampling), "seed": seed, "step": trained.step}, []
    for i, drawn_L in enumerate(jax.device_get(out_BL)):
        source = " ".join(map(str, first["source"][i][first["mask_S"][i]]))
        wanted_L = first["tokens"][i, begin_B[i] : length_B[i]]
        wanted, text = (_words(e.source, ids) for ids in (wanted_L, drawn_L[: len(wanted_L)]))
        prompt = f"{source} \N{RIGHTWARDS ARROW} "  # for the report, which shows prompts but no sources
        rows.append({"source": source, "wanted": wanted, "prompt": prompt, "text": text, **how})
    trained.workdir.write("samples.json", rows)
    return rows


def _words(source, ids) -> str:
    """Tokens as text, or as numbers if they are not text."""
    try:
        return source.decode(ids)
    except NotImplementedError:
        return " ".join(map(str, ids))
