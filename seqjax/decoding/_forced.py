"""The probability of given continuations."""

import jax
import jax.numpy as jnp

from seqjax import masks


def log_p(net, reads, target_BT, target_mask_BT):
    """log p(target | prompt, and what else the model reads), in nats: (B,), float32.

    Args:
      reads: the prompts, as a decoder reads them; padding may be anywhere.
      target_BT: their continuations, padded on the right. target_mask_BT: True = real.
    """
    L, T = reads.x.shape[1], target_BT.shape[1]
    masks.check(target_mask_BT, target_BT.shape, "target_mask_BT")
    join = lambda one, two: jnp.concatenate([one, two], axis=1)
    reset_BL = None if reads.reset_BL is None else join(reads.reset_BL, jnp.zeros(target_BT.shape, bool))
    both = reads._replace(x=join(reads.x, target_BT), mask_BL=join(reads.mask_BL, target_mask_BT), reset_BL=reset_BL)
    prediction = net(both).prediction
    last_B = jnp.max(jnp.where(reads.mask_BL, jnp.arange(L)[None], 0), axis=1)
    first_B1V = jnp.take_along_axis(prediction, last_B[:, None, None], axis=1)
    logits_BTV = join(first_B1V, prediction[:, L : L + T - 1]).astype(jnp.float32)
    log_p_BT = jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), target_BT[:, :, None], axis=2)[..., 0]
    return jnp.sum(masks.fill(log_p_BT, target_mask_BT), axis=1)
