"""Checkpoints: what comes back has the bits that were saved, or does not come back."""

import errno
import gc
import json
import logging
import os
import random
import shutil
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from flax import struct

from seqjax.training import damage, processes
from seqjax.training.checkpoint import Checkpoints, chosen
from seqjax.training.state import State
from seqjax.training.stored import checksums, describe, digest
from seqjax.training.workdir import Workdir
from seqjax.types import CheckpointError, ConfigError, WorkdirError

NAN_WITH_A_MESSAGE = np.array([0x7FC12345], np.uint32).view(np.float32)  # only its bits tell it from another NaN


def state_of(seed: int) -> dict:
    """Every dtype that a train state may hold, and some awkward shapes and numbers."""
    bits = np.random.default_rng(seed)
    return {
        "f32": jnp.asarray(bits.normal(size=(3, 5)), jnp.float32),
        "bf16": jnp.asarray(bits.normal(size=(7,)), jnp.bfloat16),
        "f16": jnp.asarray(bits.normal(size=(2, 2)), jnp.float16),
        "odd": jnp.concatenate([jnp.asarray(NAN_WITH_A_MESSAGE), jnp.array([jnp.inf, -0.0, 1e-45], jnp.float32)]),
        "step": jnp.int32(seed),
        "u8": jnp.asarray(bits.integers(256, size=9), jnp.uint8),
        "bool": jnp.asarray(bits.random(11) < 0.5),
        "key": jax.random.key_data(jax.random.key(seed)),
        "none": None,
        "deep": ({"a": jnp.zeros((1, 3)), "b": [jnp.ones(())]},),
    }


ABSTRACT = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state_of(0))


def save(root, *steps, keep=5):
    checkpoints = Checkpoints(root, keep)
    for step in steps:
        checkpoints.save(state_of(step), {"step": step, "note": "é"})
    checkpoints.wait()
    return checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with steps 1 and 2, to be copied."""
    root = tmp_path_factory.mktemp("saved") / "ckpt"
    save(root, 1, 2)
    return root


@pytest.fixture
def root(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "ckpt")
    return tmp_path / "ckpt"


def files(root, step):
    return sorted(f for f in (root / str(step)).rglob("*") if f.is_file())


def test_further_arrays_come_back_and_older_checkpoints_have_none(tmp_path):
    """The state of before had no field `aux`."""
    of = dict(step=jnp.int32(3), params={"a": jnp.ones(3)}, opt_state=(), key=jnp.zeros(2, jnp.uint32), ema=None,
              bad=jnp.int32(0), carry=None, norms=None)  # fmt: skip
    before = type("State", (struct.PyTreeNode,), {"__annotations__": dict.fromkeys(of, Any)})(**of)
    now, more = State(**of), State(**of, aux={"teacher": {"a": jnp.full(2, 7.0)}})
    abstract = lambda state: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
    for i, saved in enumerate((before, now, more)):
        checkpoints = Checkpoints(tmp_path / str(i), 5)
        checkpoints.save(saved, {"step": 3})
        checkpoints.wait()
        wanted = more if saved is more else now
        state, _ = checkpoints.restore(abstract(wanted))
        assert digest(state) == digest(wanted) and jax.tree.structure(state) == jax.tree.structure(wanted)
    with pytest.raises(CheckpointError, match=r"\.aux\['teacher'\]\['a'\]: saved nothing, wanted float32\[2\]"):
        Checkpoints(tmp_path / "0", 5).restore(abstract(more))


def test_every_bit_comes_back(root):
    state, meta = Checkpoints(root).restore(ABSTRACT)
    assert digest(state) == digest(state_of(2)) != digest(state_of(1))
    assert describe(state) == describe(state_of(2)) and jax.tree.structure(state) == jax.tree.structure(state_of(2))
    assert meta["step"] == 2 and meta["note"] == "é"
    assert digest(Checkpoints(root).restore(ABSTRACT, step=1)[0]) == digest(state_of(1))


def test_a_save_is_not_disturbed_by_what_follows(tmp_path):
    """The state may be given away (donated) as soon as `save` returns."""
    checkpoints, state = Checkpoints(tmp_path / "ckpt"), {"a": jnp.arange(100_000.0)}
    want = digest(state)
    checkpoints.save(state, {"step": 1})
    jax.jit(lambda s: jax.tree.map(lambda a: a * 0, s), donate_argnums=0)(state)
    checkpoints.wait()
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored, _ = checkpoints.restore({"a": jax.ShapeDtypeStruct((100_000,), jnp.float32, sharding=where)})
    assert digest(restored) == want


def test_every_single_bit_changes_the_checksum():
    """Also in dtypes of one and two bytes, and the sign of zero."""
    for name, array in state_of(0).items():
        if name in ("none", "deep"):
            continue
        host = np.asarray(array)
        raw = np.frombuffer(host.tobytes(), np.uint8)
        flips = np.arange(8 * len(raw)) if host.dtype != bool else 8 * np.arange(len(raw))
        copies = np.tile(raw, (len(flips), 1))
        copies[np.arange(len(flips)), flips // 8] ^= (1 << (flips % 8)).astype(np.uint8)
        flipped = [np.frombuffer(c.tobytes(), host.dtype).reshape(host.shape) for c in copies]
        sums = jax.device_get(checksums([array, *map(jnp.asarray, flipped)]))
        assert sums[0] not in sums[1:], name


def test_no_checkpoint_is_no_error(tmp_path):
    assert Checkpoints(tmp_path / "ckpt").restore(ABSTRACT) is None
    (tmp_path / "ckpt").mkdir()
    assert Checkpoints(tmp_path / "ckpt").restore(ABSTRACT) is None


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_stay(tmp_path, keep):
    checkpoints = save(tmp_path / "ckpt", 1, 2, 5, 10, keep=keep)
    assert checkpoints.steps() == [10, 5, 2, 1][:keep]
    assert digest(checkpoints.restore(ABSTRACT)[0]) == digest(state_of(10))


def test_a_step_can_be_saved_again(root):
    save(root, 2)
    save(root, 1)
    assert digest(Checkpoints(root).restore(ABSTRACT, step=1)[0]) == digest(state_of(1))


def test_the_old_one_stays_until_the_new_one_is_whole(root, monkeypatch):
    """Wherever a save of a step that is there already ends, a good one is left."""
    seen = []
    remove = lambda path, **_: seen.append((path.name, (root / "2.new").is_dir()))
    monkeypatch.setattr("seqjax.training.checkpoint.shutil", SimpleNamespace(rmtree=remove))
    checkpoints = Checkpoints(root)
    checkpoints.save(state_of(7), {"step": 2})
    with pytest.raises(WorkdirError, match=r"cannot rename .*2\.new to .*2: Directory not empty"):
        checkpoints.wait()
    assert seen == [("2", True)]
    monkeypatch.undo()
    (root / "2.new.orbax-checkpoint-tmp-5").mkdir()
    assert digest(Checkpoints(root).restore(ABSTRACT, step=2)[0]) == digest(state_of(2))
    assert digest(Checkpoints(root).restore(ABSTRACT)[0]) == digest(state_of(7))
    assert sorted(p.name for p in root.iterdir()) == ["1", "2"]


def test_half_a_save_of_a_step_that_is_there_leaves_it(root, monkeypatch):
    def broken(path, *_, **__):
        (root / f"{path.name}.orbax-checkpoint-tmp-1").mkdir()
        raise OSError("no space left")

    monkeypatch.setattr("orbax.checkpoint.v1.save_async", broken)
    checkpoints = Checkpoints(root)
    checkpoints.save(state_of(7), {"step": 2})
    with pytest.raises(WorkdirError, match=r"cannot save step 2 .*no space left"):
        checkpoints.wait()
    assert sorted(p.name for p in root.iterdir()) == ["1", "2"]
    assert digest(Checkpoints(root).restore(ABSTRACT)[0]) == digest(state_of(2))


def test_a_step_that_is_held_stays_beside_the_newest(tmp_path):
    checkpoints = save(tmp_path / "ckpt", 2, keep=1)
    checkpoints.held = (2,)
    for step in (3, 4):
        checkpoints.save(state_of(step), {"step": step})
    checkpoints.wait()
    assert checkpoints.steps() == [4, 2]
    checkpoints.only(9)
    assert checkpoints.steps() == [4, 2]
    checkpoints.only(2)
    assert checkpoints.steps() == [2]
    checkpoints.only(None)
    assert checkpoints.steps() == []


def test_the_last_save_stays_whatever_came_before(tmp_path):
    """The best is kept alone; after a rollback it may be of a lower step than the best before."""
    assert save(tmp_path / "ckpt", 7, 3, keep=1).steps() == [3]
    assert save(tmp_path / "ckpt", 5, 2, keep=2).steps() == [5, 2]


@pytest.mark.parametrize(("first", "left"), [(11, [10, 5, 2]), (10, [5, 2]), (4, [2]), (1, [2])])
def test_steps_can_be_forgotten_but_the_oldest(tmp_path, first, left):
    checkpoints = save(tmp_path / "ckpt", 2, 5, 10)
    checkpoints.forget(first)
    assert checkpoints.steps() == left


def test_discard_forgets_everything(root):
    checkpoints = Checkpoints(root)
    checkpoints.discard()
    assert checkpoints.restore(ABSTRACT) is None and not list(root.iterdir())
    checkpoints.discard()


def test_what_was_set_aside_outlives_a_new_beginning_and_is_not_read_again(root, caplog):
    for step in (1, 2):
        (root / str(step)).rename(root / f"{step}.corrupt")
    (root / "2.new").mkdir()
    (root / "mine").mkdir()
    Checkpoints(root).discard()
    assert {p.name for p in root.iterdir()} == {"1.kept", "2.kept", "mine"} and "2.kept" in caplog.text
    assert Checkpoints(root).restore(ABSTRACT) is None


def test_a_folder_that_is_a_link_stays_one(root, tmp_path):
    """To a larger disk; where that is not there, nothing begins anew."""
    disk = root.rename(tmp_path / "disk")
    root.symlink_to(disk)
    (disk / "2").rename(tmp_path / "elsewhere")
    (disk / "2").symlink_to(tmp_path / "elsewhere")
    assert Checkpoints(root).steps() == [2, 1]
    Checkpoints(root).discard()
    assert root.is_symlink() and not list(disk.iterdir()) and list((tmp_path / "elsewhere").iterdir())
    assert save(root, 3).steps() == [3]
    disk.rename(tmp_path / "gone")
    for action in (Checkpoints(root).steps, Checkpoints(root).discard, lambda: Checkpoints(root).restore(ABSTRACT)):
        with pytest.raises(WorkdirError, match=r"cannot read .*ckpt: No such file.*mount its disk"):
            action()


def test_only_what_is_written_like_a_step_is_one(root, tmp_path):
    """Neither leading zeros nor digits of other scripts; and a folder that ends in .new is not what takes its place."""
    names = ("0099", "٩٩", "²", "1e2", "9" * 40, "copy", "copy.new", "00.new")
    for name in names:
        shutil.copytree(root / "2", root / name)
    assert Checkpoints(root).steps() == [2, 1]
    Checkpoints(root).restore(ABSTRACT)
    assert {p.name for p in root.iterdir()} == {"1", "2", *names}
    for word in ("0099", "٩٩", "²", "-1", "2 ", "1" * 5000):
        with pytest.raises(ConfigError, match="wanted best, latest or a step"):
            chosen(Workdir(tmp_path), word)
    assert chosen(Workdir(tmp_path), "0")[1] == 0 and chosen(Workdir(tmp_path), 99)[1] == 99


@pytest.fixture
def collected():
    """Orbax leaves coroutines behind when it meets a broken file; they complain when they are collected."""
    yield
    gc.collect()


def broken(test):
    ignore = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine")
    return ignore(pytest.mark.usefixtures("collected")(test))


# Damage. Whatever happens to the files of step 2, a restore gives step 2 or step 1, bit by bit, or refuses.


def check_after_damage(root, what):
    logging.disable(logging.CRITICAL)  # orbax has much to say about broken files
    try:
        state, meta = Checkpoints(root).restore(ABSTRACT)
    finally:
        logging.disable(logging.NOTSET)
    assert digest(state) == digest(state_of(meta["step"])), what
    assert describe(state) == describe(state_of(0)), what
    kept = {p.name for p in root.iterdir()}
    # Set aside, never deleted; and what is good is not set aside.
    assert kept == ({"1", "2"} if meta["step"] == 2 else {"1", "2.corrupt"}), what
    return meta["step"]


@broken
@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_never_restored(root, seed):
    """One bit, at a random place of every file of the newest step in turn."""
    pick, found = random.Random(seed), []
    for file in files(root, 2):
        good = file.read_bytes()
        if not good:
            continue
        place, bit = pick.randrange(len(good)), pick.randrange(8)
        bad = bytearray(good)
        bad[place] ^= 1 << bit
        file.write_bytes(bad)
        found.append(check_after_damage(root, (file.name, place, bit)))
        if found[-1] == 1:
            (root / "2.corrupt").rename(root / "2")
        file.write_bytes(good)
    assert 1 in found  # some of them must hurt


@broken
@pytest.mark.parametrize("damage", ["deleted", "empty", "half", "longer"])
def test_a_damaged_file_is_set_aside(root, damage):
    for file in files(root, 2):
        good = file.read_bytes()
        if damage == "deleted":
            file.unlink()
        else:
            file.write_bytes({"empty": b"", "half": good[: len(good) // 2], "longer": good + b"\0"}[damage])
        if check_after_damage(root, file) == 1:
            (root / "2.corrupt").rename(root / "2")
        file.write_bytes(good)


@broken
def test_a_changed_number_in_the_metadata_is_seen(root):
    """Also where the file is still good JSON: the step, a checksum, a note."""
    for old, new in (('"step": 2', '"step": 3'), ('"note"', '"nope"')):
        files_with = [f for f in files(root, 2) if old in f.read_bytes().decode(errors="replace")]
        for file in files_with:
            good = file.read_text()
            file.write_text(good.replace(old, new, 1))
            assert check_after_damage(root, old) == 1
            (root / "2.corrupt").rename(root / "2")
            file.write_text(good)
        assert files_with, f"{old} is in no file: look for where orbax puts the metadata"


@broken
def test_a_checkpoint_swapped_for_another_is_seen(root):
    """Arrays of step 1 under the metadata of step 2."""
    shutil.rmtree(root / "2" / "state")
    shutil.copytree(root / "1" / "state", root / "2" / "state")
    assert check_after_damage(root, "swapped") == 1


def test_what_is_no_checkpoint_is_passed_over(root):
    (root / "999999").mkdir()
    (root / "7_copy").mkdir()
    (root / "8").write_text("a file")
    (root / "12.orbax-checkpoint-tmp").mkdir()
    (root / "12.orbax-checkpoint-tmp" / "half").write_text("half")
    (root / "3.corrupt").mkdir()
    state, meta = Checkpoints(root).restore(ABSTRACT)
    assert meta["step"] == 2 and digest(state) == digest(state_of(2))
    assert not (root / "12.orbax-checkpoint-tmp").exists()
    assert {"999999.corrupt", "7_copy", "8", "3.corrupt", "1", "2"} == {p.name for p in root.iterdir()}


def test_damaged_steps_of_one_name_are_all_kept(root):
    for _ in range(2):
        shutil.copytree(root / "2", root / "9")
        (root / "9" / "_CHECKPOINT_METADATA").unlink()
        Checkpoints(root).restore(ABSTRACT)
    assert {"9.corrupt", "9.corrupt2"} <= {p.name for p in root.iterdir()}


def test_when_all_are_damaged_nothing_starts_anew(root):
    for step in (1, 2):
        (root / str(step) / "_CHECKPOINT_METADATA").write_text("{}")
    for _ in range(2):  # asking again does not help: what was set aside is still a run's past
        with pytest.raises(CheckpointError, match=r"--restart"):
            Checkpoints(root).restore(ABSTRACT)
    assert {"1.corrupt", "2.corrupt"} == {p.name for p in root.iterdir()}


OTHER_ERRORS = [
    OSError(errno.EIO, "Input/output error"),
    ValueError("UNKNOWN: Error reading local file [OS error 5: Input/output error]"),
    MemoryError(),
    ImportError("cannot import name 'api' from 'google'"),
    UnicodeEncodeError("latin-1", "\u4e2d", 0, 1, "ordinal not in range"),
    RuntimeError("can't start new thread"),
    KeyError("state"),
]


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_says_nothing_of_the_files_is_not_damage(root, monkeypatch, error):
    """Nothing is renamed, nothing advised that deletes, and another try gives the newest."""
    before = launch.tree_of(root)
    for step in (None, 2):
        with monkeypatch.context() as patch:
            patch.setattr("orbax.checkpoint.v1.load", lambda *_: raised(error))
            with pytest.raises(WorkdirError, match=rf"ckpt/2 cannot be read: {type(error).__name__}") as told:
                Checkpoints(root).restore(ABSTRACT, step)
        assert "restart" not in str(told.value) and "run the same command again" in str(told.value)
    assert launch.tree_of(root) == before
    assert Checkpoints(root).restore(ABSTRACT)[1]["step"] == 2


def raised(error):
    raise error


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", damage.FILES, "state/_METADATA"])
def test_a_file_that_cannot_be_read_is_not_a_damaged_one(root, monkeypatch, name):
    def refused(file, *args, real=open, **kwargs):
        return (
            raised(OSError(errno.EIO, "Input/output error"))
            if str(file).endswith(name)
            else real(file, *args, **kwargs)
        )

    read = lambda self: refused(self, "rb").read()
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refused)
        patch.setattr("pathlib.Path.read_bytes", read)
        patch.setattr("orbax.checkpoint.v1.load", lambda *_: raised(ValueError("whatever orbax says")))
        with pytest.raises(WorkdirError, match=r"ckpt/2 cannot be read: OSError: .*Input/output error"):
            Checkpoints(root).restore(ABSTRACT)
    assert {"1", "2"} == {p.name for p in root.iterdir()}


def test_the_list_of_files_is_true_and_nothing_is_concluded_without_it(root, monkeypatch):
    """Of a checkpoint of before there was a list, or whose list is damaged itself, nobody can tell."""
    assert damage._changed(root / "2") is None
    for text in ("", "[]", '{"files": {}}', '{"files": {"gone": [1, "0"]}, "seal": "0"}', None):
        (root / "2" / damage.FILES).unlink()
        if text is not None:
            (root / "2" / damage.FILES).write_text(text)
        with monkeypatch.context() as patch:
            patch.setattr("orbax.checkpoint.v1.load", lambda *_: raised(ValueError("whatever orbax says")))
            with pytest.raises(WorkdirError, match=r"no list of its files, so it may be damaged.*move it away"):
                Checkpoints(root).restore(ABSTRACT)
    assert Checkpoints(root).restore(ABSTRACT)[1]["step"] == 2  # and none is needed


def test_what_was_set_aside_and_is_good_is_put_back(root, caplog):
    """Before giving up, and not before what still has its place."""
    (root / "2").rename(root / "2.corrupt3")
    assert Checkpoints(root).restore(ABSTRACT)[1]["step"] == 1
    (root / "1" / "_CHECKPOINT_METADATA").write_text("{}")
    state, meta = Checkpoints(root).restore(ABSTRACT)
    assert meta["step"] == 2 and digest(state) == digest(state_of(2)) and "put back as step 2" in caplog.text
    assert {"1.corrupt", "2"} == {p.name for p in root.iterdir()}


def test_what_was_set_aside_is_not_given_up_for_another_reason(root, monkeypatch):
    for step in (1, 2):
        (root / str(step)).rename(root / f"{step}.corrupt")
    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.v1.load", lambda *_: raised(MemoryError()))
        with pytest.raises(WorkdirError, match="cannot be read: MemoryError"):
            Checkpoints(root).restore(ABSTRACT)
    with pytest.raises(CheckpointError, match="another model"):
        Checkpoints(root).restore({**ABSTRACT, "more": ABSTRACT["f32"]})
    assert {"1.corrupt", "2.corrupt"} == {p.name for p in root.iterdir()}


def test_what_cannot_be_renamed_or_deleted_is_a_sentence(root, monkeypatch):
    (root / "2" / "_CHECKPOINT_METADATA").write_text("{}")
    refuse = lambda *_, **__: raised(OSError(errno.EROFS, os.strerror(errno.EROFS)))
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", refuse)
        with pytest.raises(WorkdirError, match=r"cannot rename .*ckpt/2 to 2\.corrupt: Read-only"):
            Checkpoints(root).restore(ABSTRACT)
        patch.setattr("shutil.rmtree", refuse)
        with pytest.raises(WorkdirError, match=r"cannot delete the checkpoints in .*ckpt: .*Read-only"):
            Checkpoints(root).discard()
    assert Checkpoints(root).steps() == [2, 1]


def test_processes_agree_on_what_is_wrong(monkeypatch):
    """On what the first of them found, of whatever kind it is: one must not set aside what the other cannot read."""
    told = [None, ["WorkdirError", "cannot be read"], ["Damaged", "is damaged"]]
    for index, mine in ((0, None), (1, WorkdirError("cannot be read")), (2, damage.Damaged("is damaged"))):
        monkeypatch.setattr(processes, "share", lambda value: told)
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        with pytest.raises(WorkdirError, match="cannot be read"):
            processes.together(lambda mine=mine: mine and raised(mine))
    told[1], told[2] = told[2], told[1]
    with pytest.raises(damage.Damaged, match="process 1: is damaged"):
        processes.together(lambda: raised(WorkdirError("cannot be read")))


def test_a_deletion_that_is_cut_short_leaves_nothing_that_looks_whole(root, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda folder, **_: raised(OSError(errno.EBUSY, "busy", str(folder))))
        Checkpoints(root).only(1)
    assert "cannot delete" in caplog.text and "busy" in caplog.text and Checkpoints(root).steps() == [2, 1]
    assert Checkpoints(root).restore(ABSTRACT)[1]["step"] == 1
    assert {"1", "2.corrupt"} == {p.name for p in root.iterdir()}


def test_a_named_step_is_never_replaced_by_another_and_nothing_is_touched(root):
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3 .*its steps: 2, 1"):
        Checkpoints(root).restore(ABSTRACT, step=3)
    (root / "2" / "_CHECKPOINT_METADATA").write_text("{}")
    (root / "3.orbax-checkpoint-tmp").mkdir()  # of a run that is writing
    before = sorted(p.name for p in root.rglob("*"))
    with pytest.raises(CheckpointError, match="2 is damaged"):
        Checkpoints(root).restore(ABSTRACT, step=2)
    assert sorted(p.name for p in root.rglob("*")) == before


# Another model.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f32": (4, 5)}, ("['f32']", "float32[3, 5]", "float32[4, 5]")),
        ({"f32": jnp.bfloat16}, ("['f32']", "float32[3, 5]", "bfloat16[3, 5]")),
        ({"f32": None}, ("['f32']", "float32[3, 5]", "wanted nothing")),
        ({"new": (2,)}, ("['new']", "saved nothing", "float32[2]")),
    ],
)
def test_another_model_is_told_apart_from_damage(root, change, words):
    """Both sides are shown, and nothing is set aside or tried further."""
    (name, how), target = *change.items(), dict(ABSTRACT)
    if how is None:
        del target[name]
    elif isinstance(how, tuple):
        target[name] = jax.ShapeDtypeStruct(how, jnp.float32)
    else:
        target[name] = jax.ShapeDtypeStruct(target[name].shape, how)
    with pytest.raises(CheckpointError) as error:
        Checkpoints(root).restore(target)
    assert all(word in str(error.value) for word in words), error.value
    assert {"1", "2"} == {p.name for p in root.iterdir()}


@pytest.mark.parametrize("parts", [(), (None,), ((), ()), {"inner": None}])
def test_another_structure_without_arrays_is_told_apart_from_damage(root, parts):
    """Such as an optimiser that decays weights, and one that does not."""
    with pytest.raises(CheckpointError, match=r"another model or optimiser, \d parts without arrays differ") as error:
        Checkpoints(root).restore(
            {**ABSTRACT, "none": parts} if parts else {k: v for k, v in ABSTRACT.items() if k != "none"}
        )
    assert "['none']" in str(error.value) and {"1", "2"} == {p.name for p in root.iterdir()}


def test_of_many_differences_five_are_shown(root):
    target = {f"other{i}": jax.ShapeDtypeStruct((i,), jnp.float32) for i in range(30)}
    with pytest.raises(CheckpointError) as error:
        Checkpoints(root).restore(target)
    lines = str(error.value).splitlines()
    many = 30 + len(describe(ABSTRACT))
    assert len(lines) == 7 and f"{many} arrays differ" in lines[0] and f"{many - 5} more" in lines[-1]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkdirError, match=r"cannot save step 1 .*to .*file"):
        save(tmp_path / "file" / "ckpt", 1)


def test_metadata_is_json(saved):
    """What a run needs to go on must survive the way through orbax."""
    _, meta = Checkpoints(saved).restore(ABSTRACT)
    assert json.loads(json.dumps(meta)) == meta
