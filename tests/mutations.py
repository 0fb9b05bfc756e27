"""Mistakes made on purpose: each must be caught by a test that `make test` runs.

    python tests/mutations.py [WORD ...]    tries those whose file or text has a word, all without one

Each is made in a copy of the checkout, and what ought to see it is run there until the first failure.
"""

# ruff: noqa: E501
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAWS, CONTRACT, LIBRARY = "tests/test_laws.py", "tests/test_contract.py", "tests/testing/test_laws_library.py"
CELLS, ORACLES = "tests/ops/test_cells.py", "tests/ops/test_oracles.py"
ATTENTION, LINEAR, STEP = "tests/ops/test_attention.py", "tests/ops/test_linear.py", "tests/training/test_step.py"
LINEAR_ATTENTION, WEIGHTS = "tests/ops/test_linear_attention.py", "tests/ops/test_weights.py"
STATE_SPACE, DIAGONAL = "tests/ops/test_state_space.py", "tests/mixers/test_diagonal.py"
HMM = "tests/models/test_hmm.py"
EMISSIONS = "tests/emissions/test_emissions.py"
MASKS, LOADER, FIELDS = "tests/test_masks.py", "tests/data/test_loader.py", "tests/data/test_fields.py"

# File, what stands there, what is put there, which tests see it.
MUTATIONS = (
    # masks
    ("masks.py", "real = reset_BL if mask_BL is None else reset_BL & mask_BL", "real = reset_BL", MASKS),
    ("masks.py", "count_BL = count_BL + start_B[:, None]", "count_BL = count_BL", MASKS),
    ("masks.py", "before_BL = jnp.where(reset_BL & real, count_BL - 1, 0)", "before_BL = jnp.where(reset_BL & real, count_BL, 0)", MASKS),
    ("masks.py", "before_BL = jnp.where(reset_BL & real, count_BL - 1, 0)", "before_BL = jnp.where(reset_BL, count_BL - 1, 0)", MASKS),
    ("masks.py", "seen = back >= 0\n", "seen = back > 0\n", MASKS),
    ("masks.py", "(self.window - 1) * self.dilation", "self.window * self.dilation", MASKS),
    ("masks.py", "seen | (position_k < self.prefix)", "seen | (position_k <= self.prefix)", MASKS),
    ("masks.py", "allowed & keys.mask_BL[:, None, :]", "allowed | keys.mask_BL[:, None, :]", MASKS),
    ("masks.py", "return next_BL > segment_BL", "return next_BL >= segment_BL", "tests/mixers/test_bidirectional.py"),
    ("masks.py", "choice = block - self.local_blocks - self.global_blocks", "choice = block - self.global_blocks", MASKS),
    # hidden Markov models
    ("models/hmm.py", "mixed(mixed(filter_BLK, transition_CKK[0]), self.table_KV())", "mixed(filter_BLK, self.table_KV())", HMM),
    ("models/_topology.py", "jnp.where(self.allowed, counts + more_R1[None], 0)", "jnp.where(self.allowed, counts, 0)", HMM),
    ("models/_inference.py", "masks.ends(score_BLK.shape[:2], mask_BL, reset_BL)", "reset_BL", HMM),
    ("models/_expectation.py", "jnp.isfinite(log_p_B) & jnp.any(real_BL, axis=1)", "jnp.isfinite(log_p_B)", HMM),
    ("training/learners/em.py", "jnp.where(t == 0, 1.0, (t + 2) ** -self.decay)", "(t + 2) ** -self.decay", "tests/training/test_em.py"),
    # emissions
    ("emissions/gaussian.py", "square_KF - count_KF * step_KF**2 + extra", "square_KF + extra", EMISSIONS),
    ("emissions/gaussian.py", "jnp.maximum(d_GF, floor_1F)", "d_GF", EMISSIONS),
    ("emissions/gaussian.py", "offset_NF) + rest_FF", "offset_NF)", EMISSIONS),
    ("emissions/gaussian.py", "(shift_KF + 0.5 *", "(shift_KF +", EMISSIONS),
    ("emissions/mixture.py", "groups=self.states)", "groups=1)", EMISSIONS),
    ("emissions/poisson.py", "+ self.prior_shape - 1)", "+ self.prior_shape)", EMISSIONS),
    ("emissions/_kmeans.py", "np.where(scale_F > 0, scale_F, 1)", "1", "tests/emissions/test_kmeans.py"),
    ("models/gmm.py", "jnp.where(some_B[:, None], weight_BC, 0)", "weight_BC", "tests/models/test_gmm.py"),
    # ops
    ("ops/gaussian.py", "explains_X11 = pivot_X11 > RANK *", "explains_X11 = pivot_X11 > 0 *", "tests/ops/test_gaussian.py"),
    ("ops/scan.py", "c_BN = _half(f_BN) * state[1] + _half(i_BN) * g_BN", "c_BN = _half(i_BN) * state[1] + _half(f_BN) * g_BN", ORACLES),
    ("ops/scan.py", "factor_TBM = jnp.concatenate([0.25 * g, 0.25 * before[1]", "factor_TBM = jnp.concatenate([0.25 * g, 0.25 * after[1]", ORACLES),
    ("ops/scan.py", "dn * part * r * (1 - r)", "dn * part * r", ORACLES),
    ("ops/scan.py", "(before[0] - n) * z * (1 - z)", "(after[0] - n) * z * (1 - z)", ORACLES),
    ("ops/scan.py", "return (dh_BN * z_BN,), jnp", "return (dh_BN,), jnp", ORACLES),
    ("ops/_generic.py", "old + share * (new - old)", "new + share * (old - new)", CELLS),
    ("ops/linear.py", "a_BLX = masks.fill(a_BLX, ~reset_BL)", "b_BLX = masks.fill(b_BLX, ~reset_BL)", LINEAR),
    ("ops/linear.py", "masks.fill(a_BLX, mask_BL, 1), masks", "masks.fill(a_BLX, mask_BL, 0), masks", LINEAR),
    ("ops/linear.py", "return a * c, b * c + d", "return a * c, b + d", LINEAR),
    ("ops/linear.py", "return d_BLN * before_BLN, d_BLN", "return d_BLN * h_BLN, d_BLN", LINEAR),
    ("ops/state_space.py", "return 2 * a_BTND - 1 if signed else a_BTND", "return a_BTND", STATE_SPACE),
    ("ops/state_space.py", "b_BTN, dt_BTD * x_BTD", "b_BTN, x_BTD", STATE_SPACE),
    ("ops/state_space.py", "g_X: (_spread(g_X, axis, n),)", "g_X: (_spread(g_X, axis, n) / n,)", STATE_SPACE),
    ("ops/linear_attention.py", "1 + weight_BHTS + weight_BHTS**2 / 2", "1 + weight_BHTS + weight_BHTS**2", LINEAR_ATTENTION),
    ("ops/linear_attention.py", "jnp.where(chunk.old_BT[:, None, :, None], phi_q_BHTF, 0)", "phi_q_BHTF", LINEAR_ATTENTION),
    ("ops/linear_attention.py", "S_BHFK, z_BHF = chunk.keep(state)", "S_BHFK, z_BHF = state", LINEAR_ATTENTION),
    ("ops/linear_attention.py", "return S_BHFK / scale_BH11, scale_BH11", "return S_BHFK, scale_BH11", LINEAR_ATTENTION),
    ("ops/weights.py", "maximum(z_XS - _at(threshold_XS, support_X1), 0.0)", "maximum(z_XS - threshold_XS[..., :1], 0.0)", WEIGHTS),
    ("ops/weights.py", "hard_XS + (soft_XS - jax.lax.stop_gradient(soft_XS))", "hard_XS", WEIGHTS),
    ("ops/positions.py", "b_BLHK * cos + a_BLHK * sin", "b_BLHK * cos - a_BLHK * sin", ORACLES),
    ("ops/positions.py", "jnp.clip(back if causal else back + N // 2", "jnp.clip(back if causal else back", ATTENTION),
    ("ops/positions.py", "* jnp.abs(back_BLS)", "* back_BLS", ATTENTION),
    ("ops/pooling.py", "jnp.maximum(count_B1, 1.0)", "mask_BL.shape[1]", ORACLES),
    ("ops/losses.py", "jax.nn.logsumexp(logits_XC, axis=-1) - picked_X", "jnp.log(jnp.exp(logits_XC).sum(-1)) - picked_X", ORACLES),
    # mixers
    ("mixers/min_gru.py", "linear.diagonal(keep_BLN, take_BLN * n_BLN, state, mask_BL, reset_BL)", "linear.diagonal(keep_BLN, take_BLN * n_BLN, state, mask_BL)", LAWS + " -k min_gru"),
    ("mixers/_linear.py", "None if state is None else end", "None if state is None else end.astype(x_BLD.dtype)", CONTRACT + " -k min_gru"),
    ("mixers/_linear.py", "self.mix(masks.fill(x_BLD, mask_BL), start", "self.mix(x_BLD, start", LAWS + " -k lru"),
    ("mixers/lru.py", "jnp.exp(self.gamma)[None, None]", "self.gamma[None, None]", LINEAR),
    ("mixers/min_lstm.py", "jax.nn.softplus(-f_BLN) - jax.nn.softplus(-i_BLN)", "i_BLN - f_BLN", DIAGONAL),
    ("mixers/hgrn.py", "(1 - self.lower_bound) * ", "", DIAGONAL),
    ("mixers/s5.py", "jnp.expm1(step_N) / lambda_N", "jnp.expm1(step_N)", DIAGONAL),
    ("mixers/mamba.py", "reset_BL, self.signed", "None, self.signed", LAWS + " -k mamba"),
    ("mixers/qrnn.py", "self.filter, inputs_BRD, mask_BL, reset_BL)", "self.filter, inputs_BRD, mask_BL)", LAWS + " -k qrnn"),
    ("mixers/linear_attention.py", "jnp.where(wide_BL2HE > 0, wide_BL2HE + 1,", "jnp.where(wide_BL2HE > 0, wide_BL2HE,", LINEAR_ATTENTION),
    ("mixers/_cache.py", "count_B if mask_BL is None else jnp.where(mask_BL.any(axis=1), count_B, self.count_B)", "count_B", "tests/mixers/test_attention_scores.py"),
    ("mixers/_cache.py", "put(jnp.where(again_B1, -1, self.position_BW), position_BL, slot_BL)", "put(self.position_BW, position_BL, slot_BL)", LAWS + " -k attention-2"),
    ("mixers/_cache.py", "position_BL > position_BL[:, -1:] - W if rolls", "position_BL > position_BL[:, -1:] - W + 1 if rolls", "tests/mixers/test_attention_options.py"),
    ("mixers/_cache.py", "join(self.position_BW >= 0, real_BL)", "join(self.position_BW >= -1, real_BL)", LAWS + " -k attention-2"),
    ("mixers/attention.py", "y_BLHK = masks.fill(y_BLHK, fits_BL, jnp.nan)", "y_BLHK = masks.fill(y_BLHK, fits_BL)", LAWS + " -k attention-2"),
    ("mixers/attention.py", "return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), state", "return y_BLD.astype(x_BLD.dtype), state", LAWS + " -k attention-2"),
    ("mixers/attention.py", "masks.positions((B, L), mask_BL, reset_BL, start_B)", "masks.positions((B, L), mask_BL, reset_BL)", LAWS + " -k attention-2"),
    ("models/_blocks.py", "return masks.fill(x_BLD, mask_BL).astype(dtype), state", "return x_BLD.astype(dtype), state", LAWS + " -k blocks"),
    # the laws themselves
    ("testing/ways.py", "c[~at] = 0", "c = c", LIBRARY),
    ("testing/differences.py", "far <= bound", "far < np.inf", LIBRARY),
    ("testing/differences.py", "t = int(np.argmax(differs[b]))", "t = 0", LIBRARY),
    ("testing/_values.py", "return together if any(both(", "return by_itself if any(both(", LIBRARY),
    ("testing/record.py", "file is None or not file.exists()", "file is None", "tests/testing/test_laws_command.py"),
    # loader
    ("data/_batches.py", "np.random.Philox(key=[self.seed, epoch])", "np.random.Philox(key=[self.seed, 0])", LOADER),
    ("data/_batches.py", "start = (self.seed << 32) + step * B", "start = step * B", LOADER),
    ("data/_padding.py", "batch[\"weight\"][at] = 1", "batch[\"weight\"][: len(at) + 1] = 1", LOADER),
    ("data/_batches.py", "members[bucket][k * B : (k + 1) * B]", "members[bucket][k * B : (k + 1) * B - 1]", LOADER),
    ("data/_batches.py", "(length - longest + 1)", "(length - longest)", LOADER),
    ("data/_padding.py", "np.less(", "np.less_equal(", LOADER),
    ("data/_padding.py", "value.astype(np.int64) - start", "value.astype(np.int64)", FIELDS),
    ("data/_padding.py", "(value >= length)", "(value > length)", FIELDS),
    ("data/_padding.py", "np.where(observed, flat, 0)", "flat", FIELDS),
    # step
    ("training/learners/gradient.py", "jnp.where(weight > 0, weight, 1.0)", "weight", STEP),
    ("training/learners/gradient.py", "(_largest(weights) / _safe(weights[name]))", "1.0", STEP),
    ("training/step.py", "weights = jax.lax.psum(weights, axis)", "weights = weights", STEP),
    ("training/step.py", "ok &= jnp.isfinite(norm)", "ok = jnp.isfinite(norm) | True", STEP),
    ("training/step.py", "ema * a + (1 - ema) * p", "(1 - ema) * a + ema * p", STEP),
    ("training/step.py", "opt_state=keep(opt_state, state.opt_state)", "opt_state=opt_state", STEP),
    ("training/step.py", "bad=jnp.where(ok, 0, state.bad + 1)", "bad=state.bad + jnp.where(ok, 0, 1)", STEP),
    ("training/step.py", "jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)", "jax.random.wrap_key_data(state.key)", STEP),
    ("training/learners/gradient.py", "g / weight.astype(g.dtype)", "g", STEP),
    ("training/guard.py", "WARM_UP = 10", "WARM_UP = 9", STEP),
)  # fmt: skip


def caught(file: str, old: str, new: str, tests: str) -> str | None:
    """The test that fails; None: none does."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("seqjax", "tests", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder) / name)
        path = Path(folder) / "seqjax" / file
        text = path.read_text()
        assert text.count(old) >= 1, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1))
        env = {**os.environ, "PYTHONPATH": folder, "SEQJAX_CACHE": os.environ.get("SEQJAX_CACHE") or f"{folder}/cache"}
        command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", *tests.split()]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        assert done.returncode in (0, 1), done.stdout
        return failed[0] if failed else None


def main(words: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not words or any(word in m[0] or word in m[1] for word in words)]
    missed = 0
    for file, old, new, tests in chosen:
        test = caught(file, old, new, tests)
        missed += test is None
        print(f"{test or 'NOT CAUGHT'}\n    {file}: {old!r} -> {new!r}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} are caught")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
