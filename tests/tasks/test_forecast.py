"""Forecasts, against a loop; the linear model against its equation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import spec
from seqjax.models.linear import Linear
from seqjax.spec import Field, Spec
from seqjax.tasks.forecast import Forecast

B, L, F, H = 3, 5, 2, 4
FIELDS = {"features": Field("real", shape=(F,)), "future": Field("real", axis=None, shape=(H, F))}
SERIES = Spec(FIELDS, {"L": L})


@pytest.mark.parametrize("relative", [True, False])
def test_the_loss_is_the_mean_squared_error(relative):
    draw = np.random.default_rng(0)
    x, y, prediction = (draw.normal(size=s).astype(np.float32) for s in ((B, L, F), (B, H, F), (B, H * F)))
    mask, weight = np.arange(L) < np.array([5, 3, 4])[:, None], np.array([1, 1, 0], np.float32)
    data = {
        "features": jnp.asarray(x),
        "future": jnp.asarray(y),
        "mask": jnp.asarray(mask),
        "weight": jnp.asarray(weight),
    }
    task = Forecast(spec=SERIES, relative=relative)
    errors, read = [], task.reads(data).x
    for b, length in enumerate([5, 3]):
        last = x[b, length - 1] if relative else 0
        np.testing.assert_allclose(read[b, :length], x[b, :length] - last, rtol=1e-6)
        errors.append(prediction[b].reshape(H, F) + last - y[b])
    got = {name: value.mean() for name, value in task.loss(jnp.asarray(prediction), data).items()}
    assert got == pytest.approx({"loss": np.mean(np.square(errors)), "mae": np.mean(np.abs(errors))}, rel=1e-5)
    assert task.metrics.keys() == got.keys() and task.outputs() == H * F


def test_other_data_are_refused():
    with pytest.raises(ValueError, match="forecast needs features and future, this source has no future"):
        Forecast(spec=spec.features(F, L))


def test_a_linear_model_maps_each_column_with_one_matrix():
    task = Forecast(spec=SERIES)
    head = functools.partial(task.head, outputs=task.outputs())
    model, x = Linear(inputs=SERIES, head=head), np.random.default_rng(0).normal(size=(B, L, F)).astype(np.float32)
    params = jax.tree.map(lambda p: jax.random.normal(jax.random.key(0), p.shape), model.init(jax.random.key(0), x))
    weight, bias = (np.asarray(params["params"]["head"][name]) for name in ("kernel", "bias"))
    y, state = model.apply(params, x)
    wanted = np.stack([x[:, :, f] @ weight + bias for f in range(F)], axis=-1)
    np.testing.assert_allclose(y.reshape(B, H, F), wanted, atol=1e-5)
    assert state is None
    with pytest.raises(ValueError, match="reads 5 steps, got 4"):
        model.apply(params, x[:, :4])
    with pytest.raises(ValueError, match="maps 0 features"):
        Linear(inputs=spec.tokens(7), head=head)
    with pytest.raises(ValueError, match="reads whole sequences"):
        model.apply(params, x, ())
