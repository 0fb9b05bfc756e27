"""How fast are the sums and maxima over the paths of a hidden Markov model? `seqjax.ops.chain`, hmmlearn and dynamax.

    python -m benchmarks.chain --pin
    python -m benchmarks.chain --quick --pin --what viterbi --shapes 4,50,8

Given are the log-probabilities of the observations, so no emission is computed. `filter` computes log p(z_t | x_1..t)
and the likelihood, `smooth` log p(z_t | x_1..L) (hmmlearn: the probabilities), `viterbi` the best path and its weight,
`em` the likelihood and the expected counts of first states, moves and states; `em_logs` is the same for a model whose
states follow each other, with scores so far apart that scaled probabilities underflow in float32 (and hmmlearn's counts
by scaling are NaN at 64 states). Ours computes in float32, hmmlearn in float64: it has nothing else. `hmmlearn_log` and
`hmmlearn_scaling` are its two implementations (its Viterbi has one); it reads one sequence after the other, and its
filter is a forward pass that is then normalised. `dynamax` is in JAX, in float32, and takes part where it is installed
(`pip install dynamax==1.0.3`), but not in `em_logs`, where its counts are NaN. `plain` is a loop over `logsumexp` in
JAX, and its gradient by autodiff; `associative` is the filter by `jax.lax.associative_scan`. The last table has the
memory of `em` beside that of a (K, K) array for each token.
"""

import functools
import importlib.util
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import ready, results, session
from benchmarks.ready import Built
from benchmarks.results import Target

SHAPES = ((64, 200, 8), (16, 1000, 32), (1, 16_384, 64))
WHAT = ("filter", "smooth", "viterbi", "em", "em_logs")


def drawn(what: str, B: int, L: int, K: int):
    """log p of first states, moves and observations, float32."""
    rng = np.random.default_rng(0)
    p_XK, spread = np.float32(rng.dirichlet(np.ones(K), 1 + K)).clip(1e-6), 2
    if what == "em_logs":
        stay_KK, spread = np.eye(K, dtype="float32"), 50
        p_XK = np.concatenate([stay_KK[:1], 0.9 * stay_KK + 0.1 * np.roll(stay_KK, 1, axis=1)])
    with np.errstate(divide="ignore"):
        start_K, *transition_KK = np.log(p_XK)
    return start_K, np.stack(transition_KK), spread * rng.standard_normal((B, L, K), np.float32)


def asked(what, sizes, filter, viterbi, total, smooth=None) -> Built:
    """A question in JAX. The gradients of `total`, the likelihood, are the counts and, by the scores, the posterior."""
    import jax

    em = jax.value_and_grad(total, (0, 1, 2))
    calls = {"filter": filter, "smooth": smooth or jax.grad(total, 2), "viterbi": viterbi, "em": em, "em_logs": em}
    return ready.jitted(calls[what], *drawn(what, *sizes))


def ours(what, B, L, K) -> Built:
    """`seqjax.ops.chain`."""
    from seqjax.ops import chain

    total = lambda *arrays: chain.log_likelihood(*arrays).sum()
    return asked(what, (B, L, K), lambda *arrays: chain.filter(*arrays)[:2], chain.viterbi, total, chain.smooth)


def plain(what, B, L, K) -> Built:
    """A loop over logsumexp, or over max and argmax."""
    import jax
    import jax.numpy as jnp

    def filter(start_K, transition_KK, score_BLK):
        def step(state_BK, score_BK):
            joint_BK = jax.nn.logsumexp(state_BK[:, :, None] + transition_KK[None], axis=1) + score_BK
            evidence_B = jax.nn.logsumexp(joint_BK, axis=1)
            state_BK = joint_BK - evidence_B[:, None]
            return state_BK, (state_BK, evidence_B)

        first_BK = start_K[None] + score_BLK[:, 0]
        evidence_B = jax.nn.logsumexp(first_BK, axis=1)
        rest_LBK = jnp.swapaxes(score_BLK[:, 1:], 0, 1)
        first_BK -= evidence_B[:, None]
        _, (state_LBK, evidence_LB) = jax.lax.scan(step, first_BK, rest_LBK)
        join = lambda first_BX, rest_LBX: jnp.swapaxes(jnp.concatenate([first_BX[None], rest_LBX]), 0, 1)
        return join(first_BK, state_LBK), join(evidence_B, evidence_LB)

    total = lambda *arrays: filter(*arrays)[1].sum()

    def viterbi(start_K, transition_KK, score_BLK):
        def step(best_BK, score_BK):
            reached_BKK = best_BK[:, :, None] + transition_KK[None]
            return jnp.max(reached_BKK, axis=1) + score_BK, jnp.argmax(reached_BKK, axis=1)

        def back(z_B, before_BK):
            return jnp.take_along_axis(before_BK, z_B[:, None], axis=1)[:, 0], z_B

        best_BK, before_LBK = jax.lax.scan(step, start_K[None] + score_BLK[:, 0], jnp.swapaxes(score_BLK[:, 1:], 0, 1))
        first_B, path_LB = jax.lax.scan(back, jnp.argmax(best_BK, axis=1), before_LBK, reverse=True)
        return jnp.concatenate([first_B[None], path_LB]).T, jnp.max(best_BK, axis=1)

    return asked(what, (B, L, K), filter, viterbi, total)


def associative(what, B, L, K) -> Built:
    """The filter by `jax.lax.associative_scan` over the matrices exp(transition + score) of all tokens, each scaled."""
    import jax
    import jax.numpy as jnp

    def filter(start_K, transition_KK, score_BLK):
        def join(earlier, later):
            (a, log_a), (b, log_b) = earlier, later
            product = jnp.matmul(a, b, precision="highest")
            scale = jnp.max(product, axis=(2, 3), keepdims=True)
            return product / scale, log_a + log_b + jnp.log(scale)

        first_KK = jnp.broadcast_to(start_K[None], (K, K))
        move_BLKK = jnp.broadcast_to(transition_KK[None, None], (B, L, K, K)).at[:, 0].set(first_KK[None])
        log_BLKK = move_BLKK + score_BLK[:, :, None]
        peak_BL11 = jnp.max(log_BLKK, axis=(2, 3), keepdims=True)
        joint_BLKK, log_BL11 = jax.lax.associative_scan(join, (jnp.exp(log_BLKK - peak_BL11), peak_BL11), axis=1)
        total_BL = jnp.log(joint_BLKK[:, :, 0].sum(-1)) + log_BL11[:, :, 0, 0]
        evidence_BL = jnp.diff(total_BL, axis=1, prepend=jnp.zeros((B, 1)))
        return jnp.log(joint_BLKK[:, :, 0] / joint_BLKK[:, :, 0].sum(-1, keepdims=True)), evidence_BL

    return ready.jitted(filter, *drawn(what, B, L, K))


def hmmlearn(implementation, what, B, L, K) -> Built:
    """A model of hmmlearn whose observations are the log-probabilities of the states."""
    from hmmlearn import _hmmc, base
    from scipy.special import logsumexp

    class Given(base.BaseHMM):
        def _compute_log_likelihood(self, X):
            return X

        def _compute_likelihood(self, X):
            return np.exp(X)

    start_K, transition_KK, score_BLK = map(np.float64, drawn(what, B, L, K))
    model = Given(K, implementation=implementation, params="st", init_params="")
    model.startprob_, model.transmat_ = (np.exp(a - logsumexp(a, -1, keepdims=True)) for a in (start_K, transition_KK))
    X, lengths = score_BLK.reshape(B * L, K), [L] * B

    def filtered(X_LK):
        if implementation == "log":
            total, joint_LK = _hmmc.forward_log(model.startprob_, model.transmat_, X_LK)
            return joint_LK - logsumexp(joint_LK, 1, keepdims=True), total
        total, p_LK, _ = _hmmc.forward_scaling(model.startprob_, model.transmat_, np.exp(X_LK))
        return np.log(p_LK), total

    def em():
        sums, total = model._do_estep(X, lengths)
        return total, (sums["start"], sums["trans"])

    calls = {
        "filter": lambda: [filtered(X_LK) for X_LK in score_BLK],
        "smooth": lambda: model.score_samples(X, lengths)[1],
        "viterbi": lambda: model.decode(X, lengths)[::-1],
        "em": em,
        "em_logs": em,
    }
    return Built(calls[what], "cpu")


def dynamax(what, B, L, K) -> Built:
    """`dynamax.hidden_markov_model.inference`, mapped over the rows."""
    import jax
    from dynamax.hidden_markov_model import inference
    from scipy.special import logsumexp

    start_K, transition_KK, score_BLK = drawn(what, B, L, K)
    p_K, p_KK = (np.exp(a - logsumexp(a, -1, keepdims=True)) for a in (start_K, transition_KK))

    def over(function):
        return lambda p_K, p_KK, score_BLK: jax.vmap(lambda score_LK: function(p_K, p_KK, score_LK))(score_BLK)

    def filter(*arrays):
        found = inference.hmm_filter(*arrays)
        return jax.numpy.log(found.filtered_probs), found.marginal_loglik

    def em(*arrays):
        found = over(inference.hmm_smoother)(*arrays)
        return found.marginal_loglik.sum(), (found.smoothed_probs[:, 0].sum(0), found.trans_probs.sum(0))

    smooth = over(lambda *arrays: inference.hmm_smoother(*arrays).smoothed_probs)  # XLA leaves the counts out
    calls = {
        "filter": over(filter),
        "smooth": smooth,
        "viterbi": over(inference.hmm_posterior_mode),
        "em": em,
        "em_logs": em,
    }
    return ready.jitted(calls[what], p_K, p_KK, score_BLK)


OPPONENTS = {
    "hmmlearn_log": functools.partial(hmmlearn, "log"),
    "hmmlearn_scaling": functools.partial(hmmlearn, "scaling"),
    "dynamax": dynamax,
    "plain": plain,
    "associative": associative,
}
OWN = ("plain", "associative")


def serves(name: str, case: dict) -> bool:
    """Whether a contender takes part: hmmlearn has one Viterbi; `plain` and `dynamax` give NaN in `em_logs`."""
    logs = ("em_logs",)
    left_out = {"hmmlearn_scaling": ("viterbi",), "plain": logs, "dynamax": logs, "associative": WHAT[1:]}
    return case["what"] not in left_out.get(name, ())


def targets(what, B, L, K) -> list[Target]:
    """The targets of one case."""
    least = {"viterbi": 1.0, "em_logs": None}.get(what, 10.0)
    return [Target("hmmlearn_log", least=least)] if least else []


def memory(rows: list[dict]) -> tuple[str, list[list[str]]]:
    """The temporary memory of `em`, beside that of a (K, K) array of float32 for each token: a table."""
    lines = [["(B, L, K)", "em, MB", "(K, K) of each token, MB", "share"]]
    for row in rows:
        if row["case"]["what"] == "em":
            B, L, K = (row["case"][letter] for letter in "BLK")
            mine, every = row["contenders"][results.OURS]["temp_mb"], 4 * B * L * K * K / 2**20
            lines.append([f"({B}, {L}, {K})", f"{mine:.1f}", f"{every:.1f}", f"{mine / every:.3f}"])
    return "Memory of the counts", lines


def main(argv: list[str] | None = None) -> None:
    """Parses, times case by case, and writes the results after each."""
    args = session.parse(session.parser("chain", __doc__, OPPONENTS, "B,L,K", what=WHAT), argv)
    if importlib.util.find_spec("hmmlearn") is None and any(name.startswith("hmmlearn") for name in args.opponents):
        sys.exit("hmmlearn not found: pip install -e '.[test]', or choose other --opponents.")
    shapes = [dict(zip("BLK", shape, strict=True)) for shape in args.shapes or SHAPES]
    cases = [{"what": what, **shape} for what in args.what for shape in shapes]
    result = session.run(args, cases, session.contenders(args, ours, OPPONENTS, OWN), targets, serves)
    caption, lines = memory(result["rows"])
    table = Table(*lines[0], title=caption)
    for line in lines[1:]:
        table.add_row(*line)
    Console().print(table)
    results.save(result, args.out / session.stem(result), [(caption, lines), *results.tables(result["rows"])])


if __name__ == "__main__":
    main()
