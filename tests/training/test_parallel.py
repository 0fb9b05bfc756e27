"""However a run is spread over devices, it is the same run. Eight devices are simulated in a process of its own."""

import json
import os
import subprocess
import sys

import eight_devices
import jax
import launch
import pytest

from seqjax.training.experiment import Experiment, resolve
from seqjax.training.parallel import Parallel
from seqjax.types import ConfigError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What `eight_devices` finds. Twenty runs, each of which compiles for eight devices: in `make test-slow`."""
    options = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.run(
        [sys.executable, eight_devices.__file__, tmp_path_factory.mktemp("runs")],
        env={**os.environ, **options},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("chain", [" to ".join(pair) for pair in eight_devices.CHAINS])
def test_all_ways_give_the_losses_of_one_device(runs, chain):
    """Six steps, the last three from a checkpoint that was saved in another way: nothing is repeated or skipped."""
    found = runs["chains"][chain]
    assert found["starts"] == [0, 3]
    assert [row["step"] for row in found["rows"]] == [row["step"] for row in runs["one"]] == [1, 2, 3, 4, 5, 6]
    for row, wanted in zip(found["rows"], runs["one"], strict=True):
        for name in ("loss", "row_loss", "grad_norm", "accuracy"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-5 if name != "grad_norm" else 1e-4), (row, wanted)
        assert row["skipped_steps"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["all", "pmap"])
def test_another_run_is_a_beginning_in_all_ways(runs, way):
    one = runs["begun"]["one"]
    assert one[0]["loss"] < 0.95 * runs["one"][0]["loss"]
    for row, wanted in zip(runs["begun"][way], one, strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-5)


@pytest.mark.slow
def test_groups_of_parameters_are_the_same_everywhere(runs):
    """One device; and a mesh of 2 x 2 x 2, then pmap."""
    one, chained = runs["grouped"]
    assert [row["step"] for row in one if row["split"] == "train"] == [1, 2, 3, 4]
    for row, wanted in zip(chained, one, strict=True):
        for name in {"loss", "grad_norm"} & {*wanted}:
            assert row[name] == pytest.approx(wanted[name], rel=1e-5 if name == "loss" else 1e-4), (row, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fsdp", "all", "pmap"])
def test_a_learner_that_counts_counts_the_same_on_all_devices(runs, way):
    for row, wanted in zip(runs["counted"][way], runs["counted"]["one"], strict=True):
        assert row["skipped_steps"] == 0
        assert {k: row[k] for k in ("loss", "accuracy", "grad_norm")} == pytest.approx(
            {k: wanted[k] for k in ("loss", "accuracy", "grad_norm")}, rel=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fsdp", "all", "pmap"])
def test_expected_counts_are_the_same_on_all_devices(runs, way):
    for row, wanted in zip(runs["expected"][way], runs["expected"]["one"], strict=True):
        assert row["skipped_steps"] == 0 and row["loss"] == pytest.approx(wanted["loss"], rel=2e-5)
        assert row["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_evaluation_is_the_same_everywhere(runs):
    one, other = runs["evaluated"]
    assert one["examples"] == other["examples"] == 40 and one["step"] == other["step"] == 6
    assert other["metrics"] == pytest.approx(one["metrics"], rel=1e-5)


@pytest.mark.slow
def test_what_many_devices_trained_decodes_as_what_one_did(runs):
    one, other = runs["generated"]
    assert one == other and "abc" in one


@pytest.mark.slow
def test_a_carried_state_follows_its_rows(runs):
    """From a mesh of 2 x 2 x 2 to a pmap with micro-batches; and evaluated where the devices do not divide the rows."""
    one, chained = ({(row["split"], row["step"]): row["loss"] for row in found} for found in runs["carried"])
    assert [key for key in one if key[0] == "train"] == [("train", step) for step in range(1, 7)]
    assert {key: chained[key] for key in one} == pytest.approx(one, rel=1e-5)
    assert runs["carried evaluated"]["metrics"]["loss"] == pytest.approx(one["validation", 6], rel=1e-5)


@pytest.mark.slow
def test_a_batch_that_eight_devices_do_not_divide_is_refused(runs):
    code, _, err = runs["refused"]
    assert code == 2 and "12" in err and "8" in err


@pytest.mark.slow
def test_one_of_eight_devices_holds_an_eighth_of_the_state(runs):
    assert 1 / 8 <= runs["share"] <= 1 / 8 * 1.05


@pytest.mark.parametrize(
    ("devices", "options", "wanted"),
    [
        (8, {}, (8, 1, 1, 1)),
        (8, dict(fsdp=4), (2, 4, 1, 1)),
        (8, dict(fsdp=2, tensor=2), (2, 2, 1, 2)),
        (8, dict(sequence=4), (2, 1, 4, 1)),
        (8, dict(data=2), (2, 1, 1, 1)),
        (1, {}, (1, 1, 1, 1)),
        (6, dict(tensor=3), (2, 1, 1, 3)),
    ],
)
def test_data_takes_the_devices_that_are_left(monkeypatch, devices, options, wanted):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    assert tuple(Parallel(**options).sizes(48, 1).values()) == wanted


@pytest.mark.parametrize("options", [dict(fsdp=3), dict(data=9), dict(fsdp=16), dict(data=4, tensor=4)])
def test_what_does_not_fit_the_devices_is_refused(monkeypatch, options):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    with pytest.raises(ConfigError, match="8 devices"):
        Parallel(**options).sizes(48, 1)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model.mixer=gru",), ("GRU", "parallel.sequence=2")),
        (
            ('model.mixer=["delta_net","gated_delta_net","rwkv7"]', "model.layers=3"),
            (
                "DeltaNet, GatedDeltaNet, RWKV7 cannot work on parts of a sequence: choose attention, ",
                "a linear recurrence without the delta rule, or parallel.sequence=1.",
            ),
        ),
        (("model.mixer=['lru','lstm']", "model.layers=2"), ("LSTM",)),
        (("model.mixer=attention", "parallel.sequence=4"), ("6 tokens", "length 7")),
        (("model.mixer=attention", "loader.buckets=[5,8]"), ("7 tokens", "length 8")),
    ],
)
def test_sequences_that_cannot_be_cut_are_refused(monkeypatch, overrides, words):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    tree = resolve(launch.tiny("loader.batch_size=8", "parallel.sequence=2", *overrides))
    with pytest.raises(ConfigError) as refused:
        Experiment(tree)
    assert all(word in str(refused.value) for word in words), refused.value


def test_every_array_of_a_state_has_a_place():
    """Also where the sizes do not divide: then it is whole everywhere."""
    layout = Parallel().layout(4, 1)
    shapes = {"a": (3, 5), "b": (7,), "c": (), "d": (2, 4, 6)}
    state = {k: jax.ShapeDtypeStruct(s, "float32") for k, s in shapes.items()}
    where = layout.shardings(state)
    assert all(where[k].shard_shape(shape) == shape for k, shape in shapes.items())
