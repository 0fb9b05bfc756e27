"""Recurrent mixers on eight devices, rows spread over them: devices do not meet inside a loop, and gradients are one's.

Run as a script in a process that simulates eight devices, it compiles and runs all programs and prints what it found.
"""

import functools
import json
import os
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import collectives, eight_devices

from seqjax import lookup
from seqjax.mixers.rnn import Elman
from seqjax.ops import matrix_state, mlstm

B, L, D = 64, 17, 8  # three chunks, the last filled up
OPTIONS = {
    "attention_rnn": [{}, dict(style="luong", cell="lstm", alignment="local_p", radius=2)],
    "bidirectional": [dict(mixer=Elman)],
    "conv_lstm": [dict(kernel_size=2, initial_state="learned")],
    "gru": [{}, dict(reset_after=False, remat="chunk")],
    "lstm": [{}, dict(peepholes=True, hidden_size=6, layer_norm=True, initial_state="learned")],
    "mgu": [dict(variational_dropout=0.3, recurrent_dropout=0.3, weight_dropout=0.3, zoneout=0.3)],
    "rnn": [dict(initial_state="learned"), dict(activation="relu", remat="chunk", weight_dropout=0.3)],
    "slstm": [dict(heads=2, zoneout=0.2)],
    "stacked": [dict(mixer=Elman, dropout=0.3, residual=True)],
    "tcn": [dict(levels=2, dropout=0.3)],
}
# Other attention: test_attention_options.py, test_linear_attention.py. An interactive one has no loop at this length.
FOUND = [n for n in lookup.names("seqjax.mixers") if n == "attention_rnn" or not re.search("attention|interactive", n)]
PROGRAMS = {
    "-".join([name, *(getattr(v, "__name__", str(v)) for v in options.values())]): (name, options)
    for name in FOUND
    for options in OPTIONS.get(name, [{}])
}
CONTROLS = ["scan", "scan in a scan"]
# The first each time, the others in `make test-slow`: a second and more to compile for each.
FEW = ["attention_rnn", "gru", "rnn-learned"]
GROUPS = {"few": FEW + CONTROLS, "rest": [name for name in PROGRAMS if name not in FEW]}


def of_mixer(name, options):
    """(parameters, x, mask, reset, state) -> y and the last state, and parameters. In training, with all its noise.

    The state of what reads a memory is made inside, of the memory.
    """
    rng = np.random.default_rng(0)
    module, x = lookup.find(name, "seqjax.mixers", "Mixer")(width=D, **options), jnp.zeros((1, 1, D))
    read = lambda module, x, memory, **options: module(x, module.prefill(memory), **options)
    read = read if module.memory else None
    state = np.float32(rng.normal(size=(B, 5, D))) if module.memory else module.init_state(B) if module.causal else None
    init = functools.partial(module.init, method=read)
    shapes = jax.eval_shape(init, jax.random.key(0), x, *[x] * module.memory)["params"]
    params = jax.tree.map(lambda p: np.float32(0.3 * rng.normal(size=p.shape)), shapes)

    def f(params, x, mask, reset, state):
        options = dict(mask_BL=mask, reset_BL=reset, deterministic=False, rngs={"dropout": jax.random.key(1)})
        return module.apply({"params": params}, x, state, **options, method=read)

    return f, params, state


def of_control(name):
    """Recurrences left to autodiff, which adds up the gradient of their weights in every step."""
    step = lambda w, h, x: (jnp.tanh(x + h @ w),) * 2

    def f(w, x, mask, reset, h):
        x = jnp.swapaxes(x, 0, 1)
        if name == "scan":
            return jax.lax.scan(functools.partial(step, w), h, x)
        outer = lambda h, x: jax.lax.scan(functools.partial(step, w), h, jnp.stack([x, x]))
        return jax.lax.scan(outer, h, x)

    return f, jnp.eye(D), jnp.zeros((B, D))


def main(group):
    """Name -> where devices meet, and how far values and gradients are from those of one device."""
    matrix_state.CHUNK = matrix_state.CHUNK_BACK = mlstm.CHUNK = 8  # so that L is three chunks for them, too
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda *axes: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    everywhere, by_row = place(), place("data")
    rng = np.random.default_rng(1)
    x, *flags = np.float32(rng.normal(size=(B, L, D))), *(rng.random((B, L)) > 0.3 for _ in range(2))

    def loss(f, *arguments):
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(f(*arguments))) / B

    found = {}
    for name in GROUPS[group]:
        f, params, state = of_mixer(*PROGRAMS[name]) if name in PROGRAMS else of_control(name)
        # Made anew for each use, as JAX does not trace the same function twice.
        slope = lambda f=f, **places: jax.jit(jax.value_and_grad(functools.partial(loss, f), (0, 1)), **places)
        many = slope(in_shardings=(everywhere, *(by_row,) * 4), out_shardings=(everywhere, (everywhere, by_row)))
        many = many.lower(params, x, *flags, state).compile()
        found[name] = collectives(many.as_text()) | {"leaves": len(jax.tree.leaves(params))}
        loops = re.findall(r"\b(scan|while)\[", str(jax.make_jaxpr(slope())(params, x, *flags, state)))
        found[name]["wanted"] = min(2, len(loops))  # a convolution has one at most, for the gradient of its filter
        if name in PROGRAMS:
            got = many(*jax.device_put((params, x, *flags, state), (everywhere, *(by_row,) * 4)))
            with mock.patch.object(jax, "device_count", lambda: 1):
                wanted = slope()(params, x, *flags, state)
            apart = lambda a, b: float(np.max(np.abs(a - b)) / max(1, np.max(np.abs(b))))
            distances = jax.tree.map(apart, *jax.device_get((got, wanted)))
            found[name]["apart"] = float(np.max(jax.tree.leaves(distances)))  # NaN stays NaN
    print(json.dumps(found))


@functools.cache
def found(group):
    """What `main` finds."""
    return eight_devices(__file__, GROUP=group)


every_program = pytest.mark.parametrize(
    ("group", "name"),
    [("few", name) for name in FEW] + [pytest.param("rest", name, marks=pytest.mark.slow) for name in GROUPS["rest"]],
)


@every_program
def test_devices_meet_once_per_parameter_and_never_inside_a_loop(group, name):
    one = found(group)[name]
    assert one["loops"] >= one["wanted"] and not one["inside"]
    assert set(one["all"]) == {"all-reduce"}, "rows or weights travel"
    assert len(one["all"]) <= one["leaves"] + 1, "the loss is one more"


@every_program
def test_gradients_are_those_of_one_device(group, name):
    assert found(group)[name]["apart"] < 1e-5


@pytest.mark.parametrize("name", CONTROLS)
def test_what_autodiff_does_is_seen(name):
    assert "all-reduce" in found("few")[name]["inside"]


if __name__ == "__main__":
    main(os.environ["GROUP"])
