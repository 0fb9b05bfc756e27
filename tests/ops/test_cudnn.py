"""cuDNN's LSTM: the packing of weights and lengths against JAX's own reference on any device, the real one on a GPU."""

import logging
import re
from types import SimpleNamespace

import cudnn
import hlo
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close

from seqjax.mixers.lstm import LSTM
from seqjax.ops import _nvidia, scan
from seqjax.ops._say import say

B, L, D, N = 4, 6, 5, 3
LENGTHS = np.array([6, 3, 0, 1])


def arguments():
    draw = lambda key, *shape: jax.random.normal(jax.random.key(key), shape) * 0.7
    state = (draw(3, B, N), draw(4, B, N))
    return draw(0, B, L, D), draw(1, D, 4 * N), draw(2, N, 4 * N), draw(5, 4 * N), state


MASKS = {
    "none": None,
    "padded": np.arange(L)[None] < LENGTHS[:, None],
    "holes": np.array([[1, 0, 1, 1, 0, 1]] * B, bool),
}


def taken(*args, **options) -> set[bool]:
    """Whether cuDNN may round to TF32, if it is taken."""
    program = str(jax.make_jaxpr(lambda *args: scan.lstm(*args, **options))(*args))
    return {found == "True" for found in re.findall(r"rnn_fwd\[[^]]*cudnn_allow_tf32=(\w+)", program)}


def values_and_gradients(backend, mask_BL):
    def loss(args):
        x, kernel, recurrent, bias, state = args
        zeros = jax.tree.map(jnp.zeros_like, state)
        y, last = scan.lstm(x, kernel, recurrent, bias, state, zeros, mask_BL, backend=backend)
        return jnp.sum(y**2) + sum(jnp.sum(jnp.sin(s)) for s in last), (y, last)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(arguments())


@pytest.fixture
def as_if_on_a_gpu(monkeypatch):
    """JAX's reference in the place of cuDNN: the same arguments, no GPU."""
    cudnn.stand_in(monkeypatch)


@pytest.mark.parametrize("mask", MASKS)
def test_weights_lengths_and_states_arrive(as_if_on_a_gpu, mask):
    close(values_and_gradients("cudnn", MASKS[mask]), values_and_gradients("scan", MASKS[mask]))


def needs_nvidia():
    if reason := _nvidia.hindrance():
        pytest.skip(reason)


@pytest.mark.gpu
@pytest.mark.parametrize("mask", MASKS)
def test_parity_on_a_gpu(mask):
    needs_nvidia()
    close(values_and_gradients("cudnn", MASKS[mask]), values_and_gradients("scan", MASKS[mask]))


@pytest.mark.gpu
def test_parity_on_a_gpu_as_users_have_it():
    """By default, products on recent GPUs round to the ten bits of TF32, in both; sums are short."""
    needs_nvidia()
    with jax.default_matmul_precision(None):
        got, wanted = (values_and_gradients(backend, MASKS["padded"]) for backend in ("cudnn", "scan"))
    close(got, wanted, tolerance=2e-2)


@pytest.mark.parametrize("precision", [None, "highest", "tensorfloat32", "bfloat16", "F32_F32_F32"])
def test_cudnn_rounds_as_the_setting_says_or_is_not_taken(as_if_on_a_gpu, precision):
    """JAX raises for 16 bits, and rounds to TF32 whatever algorithm is named."""
    with jax.default_matmul_precision(precision):
        rounds = taken(*arguments(), arguments()[-1])
    assert rounds == {None: {True}, "highest": {False}, "tensorfloat32": {True}}.get(precision, set())


@pytest.mark.parametrize(
    ("version", "capability", "reason"),
    [
        ("PJRT C API\ncuda 13000", "9.0", None),
        ("cuda 12080", "10.3", None),
        ("cuda 12080", "7.5", "it needs compute capability 8.0, Some GPU has 7.5"),
        ("rocm 70000", "gfx942", "it needs an NVIDIA GPU, this is Some GPU"),
        ("cpu", None, "it needs an NVIDIA GPU, this is Some GPU"),
    ],
)
def test_only_nvidias_gpus_have_cudnn(monkeypatch, version, capability, reason):
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(client=client, device_kind="Some GPU", compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert _nvidia.hindrance("8.0") == reason


def test_auto_chooses_by_what_stands_in_the_way_and_says_so_once(as_if_on_a_gpu, caplog):
    say.cache_clear()
    x, *rest = arguments()
    state = rest[-1]
    reset_BL = jnp.zeros((B, L), bool)
    with caplog.at_level(logging.INFO, "seqjax"):
        for _ in range(2):
            assert taken(x, *rest, state)
            assert not taken(x.astype(jnp.bfloat16), *rest, state)
            assert not taken(x, *rest, state, reset_BL=reset_BL)
            assert not taken(x, *rest, state, remat=True)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4 and "backend cudnn" in said[0]
    assert "float32 only, got bfloat16" in said[1] and "does not support reset_BL" in said[2]
    assert "it keeps all gates" in said[3]
    with pytest.raises(
        ValueError, match=r"backend='cudnn' cannot compute this LSTM: it does not support reset_BL.*Use 'auto'"
    ):
        scan.lstm(x, *rest, state, None, reset_BL, backend="cudnn")


def test_a_step_can_be_mapped_over_the_hypotheses_of_a_beam(as_if_on_a_gpu):
    x, *rest, state = arguments()
    step = lambda x: scan.lstm(x, *rest, state, state)[0]
    assert "rnn_fwd" in str(jax.make_jaxpr(step)(x))
    assert jax.eval_shape(jax.vmap(step), jnp.stack([x[:, :1]] * 3)).shape == (3, B, 1, N)


def test_forced_where_it_cannot_serve_it_refuses():
    with pytest.raises(ValueError, match="computes the plain LSTM only, without peepholes, zoneout"):
        LSTM(width=4, backend="cudnn", peepholes=True, zoneout=0.1)
    if jax.default_backend() != "gpu":
        module = LSTM(width=4, backend="cudnn")
        with pytest.raises(ValueError, match="needs an NVIDIA GPU, this is cpu"):
            module.init(jax.random.key(0), jnp.zeros((1, 2, 4)))


HEADS = """
import json
import cudnn, jax, pytest
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from seqjax.mixers.attention import Attention

cudnn.stand_in(pytest.MonkeyPatch())
x_BLD, found = jnp.asarray(np.random.default_rng(0).normal(size=(8, 16, 32)), "bfloat16"), {}
for groups, tensor in ((4, 2), (2, 2), (2, 4), (1, 2)):
    mixer = Attention(width=32, heads=4, kv_heads=groups, dtype="bfloat16", max_length=16)
    params = mixer.init(jax.random.key(0), x_BLD)
    slopes = jax.grad(lambda params, x_BLD: jnp.sum(mixer.apply(params, x_BLD)[0].astype("float32") ** 2))
    mesh = jax.make_mesh((8 // tensor, tensor), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    place = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
    kernels = {"params": {"qkv": {"kernel": place(None, "tensor")}, "out": {"kernel": place("tensor")}}}
    wanted = jax.jit(slopes)(params, x_BLD)
    with jax.set_mesh(mesh):
        taken = "dot_product_attention_bwd" in str(jax.make_jaxpr(slopes)(params, x_BLD))
        got = jax.jit(slopes, in_shardings=(kernels, place("data")))(params, x_BLD)
    apart = jax.tree.map(lambda a, b: float(np.max(np.abs(a - b)) / np.max(np.abs(b))), *jax.device_get((got, wanted)))
    found[f"{groups} over {tensor}"] = taken, max(jax.tree.leaves(apart))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_heads_that_devices_divide_are_computed_by_cudnn_on_each(tmp_path):
    """What JAX's partitioning of cuDNN's attention refuses is not given to it: key heads that parallel.tensor cuts."""
    (tmp_path / "heads.py").write_text(HEADS)
    found = hlo.eight_devices(str(tmp_path / "heads.py"))
    assert {name for name, (taken, _) in found.items() if taken} == {"4 over 2", "2 over 2"}
    assert all(apart < 0.02 for _, apart in found.values()), found
