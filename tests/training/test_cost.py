"""FLOPs against formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental import pallas as pl
from jax.experimental import rnn

from seqjax.mixers import attention, gru
from seqjax.ops import _cudnn
from seqjax.ops import attention as attention_op
from seqjax.training import cost

B, L, S, D, H, K, M = 2, 5, 7, 6, 3, 4, 8
zeros = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)


def applied(module, *args):
    params = jax.eval_shape(module.init, jax.random.key(0), *args)
    return lambda params, *args: module.apply(params, *args), params


DENSE = 2 * B * L * D * M


def test_a_dense_layer_is_two_operations_per_weight_and_row():
    function, params = applied(nn.Dense(M), zeros(B, L, D))
    assert cost.flops(function, params, zeros(B, L, D)) == DENSE


@pytest.mark.parametrize(("wrt", "times"), [(0, 2), ((0, 1), 3)])
def test_a_gradient_costs_once_more_per_argument(wrt, times):
    function, params = applied(nn.Dense(M), zeros(B, L, D))
    loss = lambda params, x: jnp.sum(jnp.square(function(params, x)))
    assert cost.flops(jax.grad(loss, argnums=wrt), params, zeros(B, L, D)) == times * DENSE


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.vmap(f), lambda f: jax.jit(jax.jit(f))])
def test_wrappers_cost_nothing(wrap):
    assert cost.flops(wrap(lambda x, w: x @ w), zeros(B, L, D), zeros(B, D, M)) == DENSE


def test_hand_written_gradients_are_looked_into():
    @jax.custom_vjp
    def matmul(x, w):
        return x @ w

    matmul.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, dy: (dy @ saved[1].T, saved[0].T @ dy))
    loss = lambda x, w: jnp.sum(jnp.square(matmul(x, w)))
    one = 2 * L * D * M
    assert cost.flops(matmul, zeros(L, D), zeros(D, M)) == one
    assert cost.flops(jax.grad(loss, argnums=(0, 1)), zeros(L, D), zeros(D, M)) == 3 * one


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution(groups):
    function, params = applied(nn.Conv(M, (K,), feature_group_count=groups), zeros(B, L, D))
    assert cost.flops(function, params, zeros(B, L, D)) == 2 * B * L * K * D * M / groups


def test_a_loop_counts_as_often_as_it_runs():
    body = lambda x, w: (x @ w, None)
    scan = lambda x, w_LDD: jax.lax.scan(body, x, w_LDD)[0]
    assert cost.flops(scan, zeros(B, D), zeros(L, D, D)) == L * 2 * B * D * D
    nested = lambda x, w: jax.lax.scan(lambda x, _: (scan(x, w), None), x, None, length=3)[0]
    assert cost.flops(nested, zeros(B, D), zeros(L, D, D)) == 3 * L * 2 * B * D * D
    gradient = jax.grad(lambda x, w: jnp.sum(scan(x, w)), argnums=(0, 1))
    assert cost.flops(gradient, zeros(B, D), zeros(L, D, D)) == 3 * L * 2 * B * D * D


def test_of_two_branches_the_dearer_counts():
    either = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)
    assert cost.flops(either, zeros(D, D)) == 2 * 2 * D**3


def test_attention():
    q, k = zeros(B, L, H, K), zeros(B, S, H, K)
    allowed = jax.ShapeDtypeStruct((B, L, S), bool)
    assert cost.flops(attention_op.attend, q, k, k, allowed) == 2 * (2 * B * H * L * S * K)


@pytest.mark.parametrize("look", [{}, {"causal": True}, {"causal": True, "window": 64}, {"window": 64}])
def test_attention_in_blocks_costs_the_blocks_that_it_computes(look):
    """From one block on, each is 128 long: on the way back scores are computed again, a seventh product."""
    q = zeros(B, 4 * 128, H, K)
    block = 2 * B * H * K * 128**2
    seen = {0: 16, 1: 10, 2: 7}[len(look)] if "causal" in look or not look else 10
    attend = partial(attention_op.attend, backend="blockwise", **look)
    assert cost.flops(attend, q, q, q) == 2 * seen * block
    slope = jax.grad(lambda *args: jnp.sum(attend(*args)), argnums=(0, 1, 2))
    assert cost.flops(slope, q, q, q) == 7 * seen * block


def test_a_loop_of_unknown_length_runs_as_often_as_it_says():
    def powers(x, count):
        with jax.named_scope("times=2.5"):
            return jax.lax.fori_loop(0, count, lambda _, y: x @ y, x)

    assert cost.flops(powers, zeros(D, D), jax.ShapeDtypeStruct((), jnp.int32)) == 2.5 * 2 * D**3
    assert (
        cost.flops(jax.vmap(powers, (0, None)), zeros(B, D, D), jax.ShapeDtypeStruct((), jnp.int32))
        == 2.5 * 2 * B * D**3
    )


def test_what_every_device_and_every_place_of_a_grid_does_counts_for_all():
    mesh = jax.sharding.AbstractMesh((2, 2), ("rows", "columns"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    places = jax.sharding.PartitionSpec("rows")
    for axes in ({"rows"}, {"rows", "columns"}):
        shared = jax.shard_map(
            lambda x: x @ x.T, mesh=mesh, in_specs=places, out_specs=places, axis_names=axes, check_vma=False
        )
        assert cost.flops(jax.jit(shared), zeros(2 * L, D)) == 2 ** len(axes) * 2 * L * L * D

    def kernel(x_ref, y_ref):
        y_ref[...] = x_ref[...] @ x_ref[...]

    block = pl.BlockSpec((None, D, D), lambda i: (i, 0, 0))
    call = pl.pallas_call(
        kernel, jax.ShapeDtypeStruct((B, D, D), jnp.float32), grid=(B,), in_specs=[block], out_specs=block
    )
    assert cost.flops(call, zeros(B, D, D)) == B * 2 * D**3


@pytest.mark.parametrize(
    ("look", "pairs"), [({}, 36), ({"is_causal": True}, 21), ({"is_causal": True, "local_window_size": (1, 0)}, 11)]
)
def test_the_attention_of_cudnn(monkeypatch, look, pairs):
    """Read without a GPU, as JAX does where there is one."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda _: True)
    q = jax.ShapeDtypeStruct((B, 6, H, 8), jnp.bfloat16)
    attend = partial(jax.nn.dot_product_attention, implementation="cudnn", **look)
    product = 2 * B * H * 8 * pairs
    assert cost.flops(attend, q, q, q) == 2 * product
    slope = jax.grad(lambda *args: jnp.sum(attend(*args).astype(jnp.float32)), argnums=(0, 1, 2))
    assert cost.flops(slope, q, q, q) == 7 * product


def test_the_lstm_of_cudnn(monkeypatch):
    monkeypatch.setattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", lambda *_: (1, 1), raising=False)
    args = zeros(B, L, D), zeros(D, 4 * M), zeros(M, 4 * M), zeros(4 * M), (zeros(B, M),) * 2
    lstm = lambda *args: _cudnn.lstm(*args, None, None)[0]
    assert cost.flops(lstm, *args) == 2 * B * L * 4 * M * (D + M)
    slope = jax.grad(lambda *args: jnp.sum(lstm(*args)), argnums=(0, 1, 2))
    assert cost.flops(slope, *args) == 3 * cost.flops(lstm, *args)


def test_mixers():
    x = zeros(B, L, M)
    function, params = applied(attention.Mixer(width=M, heads=2), x)
    assert cost.flops(function, params, x) == 2 * B * L * M * 4 * M + 4 * B * L * L * M
    function, params = applied(gru.Mixer(width=M), x)
    assert cost.flops(function, params, x) == 2 * (2 * B * L * M * 3 * M)


def test_parameters_are_counted_by_path():
    _, params = applied(nn.Dense(M), zeros(B, D))
    assert cost.parameter_table(params["params"]) == [("bias", (M,), M), ("kernel", (D, M), D * M)]
    assert cost.count(params) == M + D * M
    assert cost.nbytes(params) == 4 * (M + D * M)
    assert cost.nbytes({"a": jnp.zeros((3, 2), jnp.bfloat16), "b": jnp.zeros((5,), bool)}) == 12 + 5
