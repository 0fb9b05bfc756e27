"""Spoken digits: splits by take and by speaker, from wav files or one file of arrays."""

import itertools

import numpy as np
import pytest
from gradients import drawn, run

from seqjax import spec
from seqjax.data import fsdd
from seqjax.embed import features, mfcc
from seqjax.types import DataError


def pack(path, source):
    """The recordings of a source as one file of arrays; `path` is that of the wav files."""
    every = sorted(itertools.chain(*source._recordings.values()), key=lambda r: r[:3])
    arrays = dict(
        audio=np.concatenate([r.samples for r in every]),
        offsets=np.cumsum([0, *(len(r.samples) for r in every)]),
        label=np.array([int(r.digit) for r in every], np.int8),
        speaker=np.array([r.speaker for r in every]),
        take=np.array([r.take for r in every], np.int16),
        rate=8000,
    )
    file = path.parent / "fsdd.npz"
    np.savez(file, **arrays)
    return file, arrays


def said(source):
    """Split -> what is in it, as (digit, speaker, take)."""
    return {split: {r[:3] for r in found} for split, found in source._recordings.items()}


def test_splits_share_no_take_or_no_speaker(tmp_path, write_fsdd):
    write_fsdd(tmp_path)
    every = set(itertools.product("01", ("ann", "bob"), range(12)))
    takes = {"train": {10, 11}, "validation": set(range(5, 10)), "test": set(range(5))}
    official = said(fsdd.Source(dir=str(tmp_path)))
    assert official == {split: {e for e in every if e[2] in kept} for split, kept in takes.items()}
    unseen = said(fsdd.Source(dir=str(tmp_path), held_out="ann"))
    assert unseen["test"] == {e for e in every if e[1] == "ann"}
    assert unseen["validation"] == {e for e in every if e[1] == "bob" and e[2] in takes["validation"]}
    assert unseen["train"] == every - unseen["test"] - unseen["validation"]


def test_labels_are_digits_or_speakers(tmp_path, write_fsdd):
    write_fsdd(tmp_path)
    for label, classes in (("digit", ("0", "1")), ("speaker", ("ann", "bob"))):
        source = fsdd.Source(dir=str(tmp_path), label=label, features=None)
        assert source.classes == classes
        for i, recording in enumerate(source._recordings["train"]):
            assert classes[source.example("train", i)["label"]] == getattr(recording, label)


def test_one_file_of_arrays_holds_the_same_as_wav_files(tmp_path, write_fsdd):
    path, build = write_fsdd(tmp_path), lambda: fsdd.Source(dir=str(tmp_path), features=None)
    wavs = build()
    file, arrays = pack(path, wavs)
    packed = build()
    for split in wavs.spec.splits:
        for i in range(wavs.size(split)):
            a, b = wavs.example(split, i), packed.example(split, i)
            np.testing.assert_array_equal(a["features"], b["features"])
            assert a["label"] == b["label"] and np.abs(a["features"]).max() < 1
    for broken, words in (
        ({"rate": 16000}, "16,000 samples per second, wanted 8,000"),
        ({"offsets": arrays["offsets"][:-1]}, "its arrays do not fit together"),
        ({"take": arrays["take"][:-1]}, "its arrays do not fit together"),
        ({"audio": arrays["audio"].astype(float)}, "its arrays do not fit together"),
        ({"speaker": np.array(["ann"], object)}, "is no npz with audio, offsets"),
    ):
        np.savez(file, **arrays | broken)
        with pytest.raises(DataError, match=words):
            build()
    del arrays["take"]
    np.savez(file, **arrays)
    with pytest.raises(DataError, match=r"is no npz with audio, offsets.*take"):
        build()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="is no npz with"):
        build()


def test_frames_are_those_of_the_embedding_on_the_device(tmp_path, write_fsdd):
    write_fsdd(tmp_path)
    frames, sound = (fsdd.Source(dir=str(tmp_path), features=f) for f in (mfcc.Embed, None))
    embedding = mfcc.Embed(inputs=sound.spec, width=3)
    count, T = sound.size("test"), sound.spec.length
    x_BT1, mask_BT = np.full((count, T, 1), np.nan, np.float32), np.zeros((count, T), bool)
    for i in range(count):
        x_T1 = sound.example("test", i)["features"]
        x_BT1[i, : len(x_T1)], mask_BT[i, : len(x_T1)] = x_T1, True
    params = drawn(embedding, x_BT1)
    y_BLD, mask_BL = run(embedding, params, x_BT1, mask_BT)
    kernel, bias = (params["params"][name] for name in ("kernel", "bias"))
    for i in range(count):
        wanted = frames.example("test", i)["features"] @ kernel + bias
        np.testing.assert_allclose(y_BLD[i][mask_BL[i]], wanted, atol=1e-4)


def test_the_baseline_is_that_of_a_loop(tmp_path, write_fsdd):
    write_fsdd(tmp_path)
    source = fsdd.Source(dir=str(tmp_path), held_out="bob")
    plain = mfcc.Embed(inputs=spec.features(1), width=1, normalise="none", deltas=0)

    def summary(recording):
        x_T = recording.samples / 2**15
        x_LF = plain.frames(x_T[None].astype(np.float32), np.array([len(x_T)]), np)[0][0]
        place_L = np.arange(3 * len(x_LF)) // 3  # of the frame that lies at each third of a frame
        return np.concatenate([x_LF[third].mean(axis=0) for third in place_L.reshape(3, -1)])

    train = [(r.digit, summary(r)) for r in source._recordings["train"]]
    means = {digit: np.mean([x for d, x in train if d == digit], axis=0) for digit in "01"}
    scale = np.sqrt(np.mean([(x - means[d]) ** 2 for d, x in train], axis=0))
    right = []
    for r in source._recordings["test"]:
        far = {digit: np.sum(((summary(r) - mean) / scale) ** 2) for digit, mean in means.items()}
        right.append(min(far, key=far.get) == r.digit)
    assert source.baselines("test")["accuracy"]["nearest class mean of MFCCs"] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.5


def test_broken_recordings(tmp_path, write_fsdd, write_wav):
    path, build = write_fsdd(tmp_path), lambda **options: fsdd.Source(dir=str(tmp_path), **options)
    file, sound = path / "0_ann_3.wav", np.arange(400, dtype=np.int16)
    whole = file.read_bytes()
    for write, words in (
        (lambda: file.write_bytes(b"RIFX" + whole[4:]), "0_ann_3.wav is not a wav file"),
        (lambda: file.write_bytes(whole[:30]), "0_ann_3.wav is not a wav file .it ends too early"),
        (lambda: file.write_bytes(whole[:200]), "promises 520 samples and has 78"),
        (lambda: write_wav(file, sound, rate=16000), "16,000 samples per second, wanted 8,000"),
        (lambda: write_wav(file, sound, channels=2), "2 channels, wanted 1"),
        (lambda: write_wav(file, sound.astype(np.uint8)), "8 bits per sample, wanted 16"),
        (lambda: write_wav(file, sound[:0]), "has no samples"),
        (lambda: file.write_bytes(b""), "is empty, 0 bytes"),
        (lambda: file.rename(path / "zero.wav"), "zero.wav: wanted the name <digit>_<speaker>_<take>.wav"),
    ):
        write()
        with pytest.raises(DataError, match=words):
            build()
    for late in [path / "zero.wav", *path.glob("*_1?.wav")]:
        late.unlink()
    with pytest.raises(DataError, match="no recording for split 'train'"):
        build()
    for other in path.iterdir():
        other.unlink()
    with pytest.raises(DataError, match=r"no file matches .*recordings"):
        build()
    with pytest.raises(DataError, match="fsdd does not exist"):
        fsdd.Source(dir=str(path))


def test_options_that_do_not_fit(tmp_path, write_fsdd):
    write_fsdd(tmp_path)
    for options, words in (
        (dict(held_out="anna"), "held_out='anna' is no speaker. Did you mean 'ann'. There are ann, bob"),
        (dict(held_out="ann", label="speaker"), "nobody can be recognised unheard"),
        (dict(features=features.Embed), "Features makes no frames: choose mfcc"),
        (
            dict(features=lambda **given: mfcc.Embed(sample_rate=16000, **given)),
            "16,000, but the recordings have 8,000",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            fsdd.Source(dir=str(tmp_path), **options)


@pytest.mark.slow  # reads 3,000 recordings several times
def test_the_real_recordings(real_data):
    source = fsdd.Source(dir=str(real_data))
    assert [source.size(split) for split in source.spec.splits] == [2400, 300, 300]
    assert source.spec.length == 226 and source.spec.features == 39
    assert source.baselines("test")["accuracy"]["nearest class mean of MFCCs"] == pytest.approx(0.903, abs=0.005)
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    unseen = [fsdd.Source(dir=str(real_data), features=None, held_out=speaker) for speaker in speakers]
    assert {tuple(s.size(split) for split in s.spec.splits) for s in unseen} == {(2250, 250, 500)}
    right = [s.baselines("test")["accuracy"]["nearest class mean of MFCCs"] for s in unseen]
    assert np.mean(right) == pytest.approx(0.745, abs=0.005)
