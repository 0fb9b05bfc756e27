"""The tokenizer of a run: trained once, saved, read ever after; another one is refused."""

import json
import random
import shutil

import launch
import numpy as np
import pytest

from seqjax import config
from seqjax.report import runs, words
from seqjax.report.run import tables
from seqjax.tokenizers._base import named
from seqjax.tokenizers.bpe import Bpe
from seqjax.training import tokenizer_file
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.trained import Trained
from seqjax.training.workdir import Workdir

OPTIONS = {"name": "bpe", "vocabulary": 280}


def texts(seed, count, words=12):
    draw = random.Random(seed)
    known = ["".join(draw.choices("abdeginorst", k=draw.randint(2, 6))) for _ in range(30)]
    return [" ".join(draw.choices(known, k=words)) for _ in range(count)]


def records(path, found):
    path.write_text("".join(json.dumps({"t": text}) + "\n" for text in found))
    return str(path)


def tree(folder, *overrides):
    """A language model of documents, in sub-words."""
    out = launch.tiny()
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    out["data"] = {"name": "table", **files, "text": "t", "tokenizer": OPTIONS}
    out["train"] = {"steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 1}
    return config.override(out, overrides)


def train(folder, name, *overrides, more=()):
    file = launch.write(folder / f"{name}.json", resolve(tree(folder, *overrides)))
    return launch.main("train", "--config", file, "--workdir", folder / name, *more)


def file_of(folder):
    (path,) = folder.glob(tokenizer_file.PATTERN)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data, and a run of two steps on it in `run`."""
    folder = tmp_path_factory.mktemp("tokenizer")
    records(folder / "train.jsonl", [*texts(0, 23), *texts(0, 1, words=40)])
    records(folder / "validation.jsonl", texts(1, 5))
    assert train(folder, "run").code == 0
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it, whose config points to the copy of the data."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def change_the_text(folder):
    """Changes one training text that is not in the first batch, such that training would give another tokenizer."""
    old = [json.loads(line)["t"] for line in (folder / "train.jsonl").read_text().splitlines()]
    e = Experiment(resolve(tree(folder)))
    first = {
        e.source.decode(row[mask]) for row, mask in zip(*(e.batches.first[k] for k in ("tokens", "mask")), strict=True)
    }
    at = next(i for i, text in enumerate(old) if text not in first)
    records(folder / "train.jsonl", [*old[:at], "qzx " * 9, *old[at + 1 :]])
    assert named(Experiment(resolve(tree(folder))).tokenizer) != named(e.tokenizer)


def same_data(folder, *overrides):
    """The config of the run, with the data of this copy."""
    places = [f"data.{split}={folder / f'{split}.jsonl'}" for split in ("train", "validation")]
    held = Workdir(folder / "run").config()
    Workdir(folder / "run").write(
        "config.json", config.override(held, {p.partition("=")[0]: p.partition("=")[2] for p in places})
    )


def test_the_file_is_named_by_its_hash_and_each_checkpoint_has_it(made):
    path, run = file_of(made / "run"), Workdir(made / "run")
    content = path.read_bytes()
    assert path.name == f"tokenizer-{named(content)}.json"
    train_texts = [json.loads(line)["t"] for line in (made / "train.jsonl").read_text().splitlines()]
    assert Bpe(vocabulary=280).train(train_texts).content == content  # of the training split only
    path.rename(made / "elsewhere.json")
    try:
        assert tokenizer_file.of_run(run) == content
    finally:
        (made / "elsewhere.json").rename(path)
    rates = run.read("run.json")["tokenizer"]
    assert rates.keys() == {"train", "validation"} and rates["train"]["unknown"] == 0
    words, size = sum(len(t.split()) for t in train_texts), sum(map(len, train_texts))
    tokens = sum(len(Bpe(vocabulary=280).load(content).encode(text)) for text in train_texts)
    assert rates["train"]["tokens_per_word"] == pytest.approx(tokens / words)
    assert rates["train"]["bytes_per_token"] == pytest.approx(size / tokens)


def test_a_resumed_run_reads_it_even_if_the_text_has_changed(made):
    """In the folder itself, as the paths of the data are part of the config."""
    path, run = file_of(made / "run"), made / "run"
    kept, before = (made / "train.jsonl").read_bytes(), (path.read_bytes(), path.stat().st_mtime_ns)
    try:
        change_the_text(made)
        assert train(made, "run", "train.steps=3").code == 0
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        assert launch.main("evaluate", "--workdir", run).code == 0
        said = launch.main("generate", "--workdir", run, "--prompt", "an", "--tokens", 5)
        assert said.code == 0 and Trained.load(run).experiment.tokenizer == before[0]
        path.unlink()
        assert train(made, "run", "train.steps=4").code == 0  # from the checkpoint
        assert path.read_bytes() == before[0]
        assert train(made, "run", more=["--restart"]).code == 0
        assert file_of(run).read_bytes() != before[0]  # a new run, on the text as it is now
    finally:
        (made / "train.jsonl").write_bytes(kept)
        assert train(made, "run", more=["--restart"]).code == 0
    assert file_of(run).read_bytes() == before[0]


def test_a_file_that_was_changed_is_refused(folder):
    path = file_of(folder / "run")
    path.write_bytes(path.read_bytes().replace(b"[", b"[ ", 1))
    out = launch.main("evaluate", "--workdir", folder / "run")
    assert out.code == 5 and f"{path} was changed after it was written: delete it" in out.err
    path.unlink()
    assert launch.main("evaluate", "--workdir", folder / "run").code == 0


def test_another_tokenizer_is_refused(made):
    out = train(made, "run", "train.steps=3", "data.tokenizer.vocabulary=270")
    assert out.code == 2 and "Bpe(min_count=2, vocabulary=280), but the config asks for" in out.err
    out = launch.main("evaluate", "--workdir", made / "run", "--at", "data.tokenizer.min_count=3")
    assert out.code == 2 and "one model reads one tokenizer" in out.err


def test_without_any_copy_a_tokenizer_of_other_ids_is_refused(folder, monkeypatch):
    same_data(folder)
    monkeypatch.setattr(tokenizer_file, "of_run", lambda workdir: None)
    change_the_text(folder)
    out = launch.main("evaluate", "--workdir", folder / "run")
    name = file_of(folder / "run").stem.removeprefix("tokenizer-")
    assert out.code == 4 and f"the tokenizer was {name} and is now " in out.err


def test_other_data_are_read_with_the_tokenizer_of_the_run(made, tmp_path):
    other = records(tmp_path / "other.jsonl", ["né ☃ un", *texts(5, 3)])
    there = Trained.load(made / "run").at(f"data.validation={other}")
    assert there.experiment.tokenizer == file_of(made / "run").read_bytes()
    assert there.experiment.source.decode(there.experiment.source.example("validation", 0)["tokens"]) == "né ☃ un"
    metrics = there.evaluate("validation", name="other")["metrics"]
    tokens = [there.experiment.source.example("validation", i) for i in range(4)]
    per = sum(len(t["tokens"]) - 1 for t in tokens) / sum(t["span"][1:].sum() for t in tokens)
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]), rel=1e-5)
    assert metrics["bits_per_character"] == pytest.approx(metrics["bits_per_subword"] * per, rel=1e-5)


def test_a_run_that_begins_with_another_reads_its_tokenizer(made, folder):
    of = f"init.run={made / 'run'}"
    records(folder / "train.jsonl", texts(7, 24))  # its own text would give another one
    assert train(folder, "tuned", of).code == 0
    assert file_of(folder / "tuned").read_bytes() == file_of(made / "run").read_bytes()
    out = train(folder, "other", of, "data.tokenizer.min_count=1")
    assert out.code == 2 and "reads tokens of another tokenizer" in out.err and not (folder / "other/ckpt").exists()
    assert train(folder, "fresh", of, "data.tokenizer.min_count=1", "init.fresh=['embedding','head']").code == 0
    assert file_of(folder / "fresh").name != file_of(made / "run").name


def test_a_dry_run_tells_what_the_tokenizer_makes_of_the_text(made, tmp_path):
    out = launch.main("train", "--config", launch.write(tmp_path / "c.json", resolve(tree(made))), "--dry_run")
    assert out.code == 0 and "280 ids: train has " in out.out and " bytes per token, 0.00% unknown" in out.out


def test_the_report_has_a_row_for_each_split(made):
    rates = Workdir(made / "run").read("run.json")["tokenizer"]
    table = tables.tokenizers(runs.read_all([made / "run"]))
    found = {row.cells[1].text: [cell.text for cell in row.cells[2:]] for row in table.rows}
    wanted = {
        split: [words.number(of["tokens_per_word"]), words.number(of["bytes_per_token"])] for split, of in rates.items()
    }
    assert found == {split: [*two, "0.00%"] for split, two in wanted.items()}


def test_characters_and_bytes_have_no_file_and_keep_their_fingerprint(tmp_path):
    """As in runs that were made before there were tokenizer files."""
    source = launch.text_tree(tmp_path)
    for name in ("character", "byte"):
        source["data"]["tokenizer"] = name
        e = Experiment(resolve(source))
        assert e.tokenizer is None and e.config["data"]["tokenizer"] == {"name": name}
        assert e.source.meaning() == (
            " .acehmnost" if name == "character" else bytes(range(256)).decode(errors="replace")
        )
        assert set(e.source.spec.fields) == {"tokens"} and not e.source.measured
