"""What only a device can tell of training and decoding: all its devices, its memory, and how it rounds."""

import json
import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest

from seqjax import lookup
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.step import zero_totals

pytestmark = pytest.mark.gpu


def test_all_devices_give_the_losses_of_one(tmp_path):
    """jit on a mesh, and pmap, over all devices of this machine, even if there is only one."""
    n = jax.device_count()
    config = launch.write(tmp_path / "c.json", launch.tiny(f"loader.batch_size={4 * n}", "model.mixer=lstm"))
    losses = {}
    for way in ("data=1", f"data={n}", "mode=pmap"):
        words = ("--workdir", tmp_path / way, f"--config.parallel.{way}", "--config.train.checkpoint_every=none")
        outcome = launch.main("train", "--config", config, *words)
        assert outcome.code == 0, outcome
        losses[way] = [row["loss"] for row in launch.rows(tmp_path / way)]
    one, *others = losses.values()
    assert all(other == pytest.approx(one, rel=1e-3) for other in others), losses


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_step_takes_the_place_of_the_one_before(mode):
    """All arrays of the state are donated, and JAX could use each of them."""
    n = jax.device_count()
    e = Experiment(resolve(launch.tiny(f"loader.batch_size={4 * n}", f"parallel.mode={mode}")))
    layout, batch = e.parallel.layout(e.loader.batch_size, 1), e.batches.first
    program = e.program(layout)
    step = layout.compile(program, layout.abstract(e.shapes), e.loader.batch_size)
    state, totals = layout.init(e.make_state), layout.spread(zero_totals(program, e.shapes, batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after, _ = step(state, totals, batch)
    jax.block_until_ready(after)
    assert all(a.is_deleted() for a in jax.tree.leaves(state))


MEMORY = """
import json, jax
from seqjax import runtime
{setting}
jax.block_until_ready(jax.numpy.ones(2))
print(json.dumps(jax.local_devices()[0].memory_stats()))
"""


@pytest.mark.parametrize(("setting", "most"), [("runtime.leave_memory()", 0.1), ("", 1.0)])
def test_a_process_whose_runs_are_others_leaves_the_memory_to_them(setting, most):
    if jax.local_devices()[0].memory_stats() is None:
        pytest.skip(f"{jax.default_backend()} has no memory of its own")
    environment = {k: v for k, v in os.environ.items() if k != "XLA_PYTHON_CLIENT_PREALLOCATE"}
    command = [sys.executable, "-c", MEMORY.format(setting=setting)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout.splitlines()[-1])
    share = stats["pool_bytes"] / stats["bytes_limit"]
    assert most / 2 < share <= most if most == 1.0 else share < most, stats


@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 1e-4), (None, 2e-2)])
@pytest.mark.parametrize("name", ["attention", "lstm", "gru", "rg_lru", "linear_attention"])
def test_decoding_is_reading(name, precision, tolerance):
    """Token by token as all at once, in float32 and as users have it: recent GPUs round products to TF32."""
    B, L, D = 2, 32, 16
    mixer = lookup.find(name, "seqjax.mixers", "Mixer")(width=D)
    x_BLD = jnp.asarray(np.random.default_rng(0).normal(size=(B, L, D)), "float32")

    @jax.jit
    def ways(x_BLD):
        params = mixer.init(jax.random.key(0), x_BLD)
        step = lambda state, x_BD: mixer.apply(params, x_BD, state, method="step")[::-1]
        _, y_LBD = jax.lax.scan(step, mixer.init_state(B), jnp.swapaxes(x_BLD, 0, 1))
        return mixer.apply(params, x_BLD)[0], jnp.swapaxes(y_LBD, 0, 1)

    with jax.default_matmul_precision(precision):
        whole, steps = ways(x_BLD)
    np.testing.assert_allclose(steps, whole, rtol=tolerance, atol=tolerance)
