"""How fast are the loss of a conditional random field and its gradient? `seqjax.ops.crf` and torch.

    python -m benchmarks.crf --pin
    python -m benchmarks.crf --quick --pin --opponents plain --shapes 4,20,5

Given are the scores of tags; the result are the loss and its gradients by all scores. Sentences have from half of L to
L tokens. `torch` is written as pytorch-crf is: a loop in Python over the tokens, one for the numerator and one for the
normaliser, with autograd. `plain` is the same as a scan over `logsumexp` in JAX, with its gradient by autodiff.
"""

import numpy as np

from benchmarks import ready, session
from benchmarks.ready import Built
from benchmarks.results import Target

SHAPES = ((32, 50, 20), (32, 50, 72), (8, 400, 20))


def drawn(B: int, L: int, C: int):
    """Scores of tags, of first tags, moves and last tags; tags; and how many tokens each row has."""
    rng = np.random.default_rng(0)
    score = lambda *shape: rng.standard_normal(shape, np.float32)
    lengths_B = np.linspace((L + 1) // 2, L, B).astype(int)
    return score(B, L, C), score(C), score(C, C), score(C), rng.integers(0, C, (B, L)), lengths_B


def _gradients(loss, B, L, C) -> Built:
    """The loss and its gradients by the four kinds of scores."""
    import jax

    *scores, tags_BL, lengths_B = drawn(B, L, C)
    mask_BL = np.arange(L) < lengths_B[:, None]
    return ready.jitted(jax.value_and_grad(loss, (0, 1, 2, 3)), *scores, tags_BL, mask_BL)


def ours(B, L, C) -> Built:
    """`seqjax.ops.crf`."""
    from seqjax.ops import crf

    def loss(unary_BLC, start_C, transition_CC, end_C, tags_BL, mask_BL):
        potentials = crf.Potentials(unary_BLC, start_C, transition_CC, end_C)
        return -crf.log_likelihood(potentials, tags_BL, mask_BL=mask_BL).mean()

    return _gradients(loss, B, L, C)


def plain(B, L, C) -> Built:
    """A scan over logsumexp."""
    import jax
    import jax.numpy as jnp

    def loss(unary_BLC, start_C, transition_CC, end_C, tags_BL, mask_BL):
        real_BL, last_B = mask_BL.astype(jnp.float32), mask_BL.sum(1) - 1
        picked_BL = jnp.take_along_axis(unary_BLC, tags_BL[..., None], axis=2)[..., 0]
        moved_BL = transition_CC[tags_BL[:, :-1], tags_BL[:, 1:]]
        path_B = start_C[tags_BL[:, 0]] + (picked_BL * real_BL).sum(1) + (moved_BL * real_BL[:, 1:]).sum(1)
        path_B += end_C[jnp.take_along_axis(tags_BL, last_B[:, None], axis=1)[:, 0]]

        def step(state_BC, slices):
            score_BC, real_B = slices
            next_BC = jax.nn.logsumexp(state_BC[:, :, None] + transition_CC[None], axis=1) + score_BC
            return jnp.where(real_B[:, None], next_BC, state_BC), None

        rest = jnp.swapaxes(unary_BLC[:, 1:], 0, 1), mask_BL[:, 1:].T
        state_BC, _ = jax.lax.scan(step, start_C[None] + unary_BLC[:, 0], rest)
        return (jax.nn.logsumexp(state_BC + end_C[None], axis=1) - path_B).mean()

    return _gradients(loss, B, L, C)


def torch(B, L, C) -> Built:
    """A loop in Python over the tokens, as in pytorch-crf 0.7.2."""
    import torch

    *scores, tags_BL, lengths_B = drawn(B, L, C)
    unary_BLC, start_C, transition_CC, end_C = wanted = [a.requires_grad_() for a in ready.tensors(*scores)]
    tags_LB, mask_LB = ready.tensors(tags_BL.T.copy(), np.arange(L)[:, None] < lengths_B)
    row_B, last_B = torch.arange(B), torch.from_numpy(lengths_B - 1)

    def loss():
        unary_LBC, real_LB = unary_BLC.transpose(0, 1), mask_LB.float()
        path_B = start_C[tags_LB[0]] + unary_LBC[0, row_B, tags_LB[0]]
        for t in range(1, L):
            path_B = path_B + transition_CC[tags_LB[t - 1], tags_LB[t]] * real_LB[t]
            path_B = path_B + unary_LBC[t, row_B, tags_LB[t]] * real_LB[t]
        path_B = path_B + end_C[tags_LB[last_B, row_B]]
        state_BC = start_C + unary_LBC[0]
        for t in range(1, L):
            next_BC = torch.logsumexp(state_BC[:, :, None] + transition_CC + unary_LBC[t][:, None], dim=1)
            state_BC = torch.where(mask_LB[t][:, None], next_BC, state_BC)
        return (torch.logsumexp(state_BC + end_C, dim=1) - path_B).mean()

    return ready.eager(loss, wanted, torch.ones(1, device=unary_BLC.device))


OPPONENTS = {"torch": torch, "plain": plain}


def targets(B, L, C) -> list[Target]:
    """The targets of one case."""
    return [Target("torch", least=5.0)] if (B, L, C) in SHAPES[:1] else []


def main(argv: list[str] | None = None) -> None:
    """Parses, times case by case, and writes the results after each."""
    args = session.parse(session.parser("crf", __doc__, OPPONENTS, "B,L,C"), argv)
    cases = [dict(zip("BLC", shape, strict=True)) for shape in args.shapes or SHAPES]
    session.run(args, cases, session.contenders(args, ours, OPPONENTS, ("plain",)), targets)


if __name__ == "__main__":
    main()
