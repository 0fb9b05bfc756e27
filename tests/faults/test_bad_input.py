"""What a user gets wrong is said in one message with an exit code, before anything is compiled: rows 39 to 49."""

import json

import jax
import launch
import numpy as np
import pytest

from seqjax.data import Batches, Loader, copy
from seqjax.training.experiment import Experiment, resolve

CLASSES = ("task.name=classification",)
FAULTY = ("data=faulty.sources:Faulty", *CLASSES, "train.steps=2")


def refused(tmp_path, tree, code, words, *args):
    """The one message of a command that must fail: its code, its words, its size, and what it leaves behind."""
    file = launch.write(tmp_path / "c.json", tree)
    outcome = launch.main("train", "--config", file, "--workdir", tmp_path / "run", *args)
    check(outcome, code, words)
    left = {p.name for p in (tmp_path / "run").glob("*")}
    assert left <= {".lock"}, left


def check(outcome, code, words):
    assert outcome.code == code, outcome
    error = "".join(line for line in outcome.err.splitlines(keepends=True) if not line.startswith("note: "))
    assert error.startswith("seqjax: ") or "usage:" in error
    assert error.count("seqjax: ") == 1 and "Traceback" not in outcome.err + outcome.out
    assert len(error.splitlines()) <= 30
    for word in words:
        assert str(word) in error, (word, error)


# 39, 40, 42, 43, 45: records.


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("token 4", ("tokens[2] is 4", "0 to 3")),
        ("token -1", ("tokens[2] is -1", "0 to 3")),
        ("label 3", ("label is 3", "0 to 2")),
        ("label -1", ("label is -1", "0 to 2")),
        ("nan feature", ("features[0, 0] is nan", "finite")),
        ("overlong", ("length 7", "6", "loader.too_long")),
        ("raise", ("RuntimeError: the tape is torn",)),
        ("no label", ("'label'",)),
    ],
)
def test_a_bad_record_is_named(tmp_path, fault, words):
    tree = launch.tiny(*FAULTY, "loader.batch_size=6")
    tree["data"] = {"name": "faulty.sources:Faulty", "fault": fault, "count": 6}
    refused(tmp_path, tree, 3, ("record 5 of split 'train'", *words))


def test_a_bad_record_in_the_middle_of_a_run_ends_it(tmp_path):
    """The steps before it count, and the folder says what happened."""
    tree = launch.tiny(
        *FAULTY, "data.fault=raise", "data.count=40", "seed=1", "train.steps=20", "train.checkpoint_every=1"
    )
    outcome = launch.main("train", "--config", launch.write(tmp_path / "c.json", tree), "--workdir", tmp_path / "run")
    check(outcome, 3, ("record 5 of split 'train'", "RuntimeError: the tape is torn"))
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    done = len(launch.rows(tmp_path / "run"))
    assert status["status"] == "failed" and "the tape is torn" in status["error"] and 1 <= done <= status["step"] < 10
    assert (tmp_path / "run" / "ckpt" / str(status["step"])).is_dir()


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_records(tmp_path, count):
    refused(tmp_path, launch.tiny(*FAULTY, f"data.count={count}"), 3, (f"{count} examples", "a batch takes 4"))


# 42 to 44: files.

TEXT = ("data.name=text", "data.length=4")
FILES = {
    "no such file": ("missing.txt", None, ("{}/missing.txt",)),
    "a folder": ("", None, ("{}", "folder")),
    "empty": ("a.txt", b"", ("{}/a.txt", "empty")),
    "not utf-8": ("a.txt", b"ab\ncd\xff" + 60 * b"e", ("{}/a.txt", "line 2", "offset 5", "UTF-8")),
    "cut in a character": ("a.txt", 60 * b"a" + "é".encode()[:1], ("{}/a.txt", "offset 60", "UTF-8")),
    "too short": ("a.txt", b"abc", ("{}/a.txt", "data.length")),
    "one character": ("a.txt", bytes(100), ("{}/a.txt", "repeats one single character")),
    "damaged gz": ("a.txt.gz", b"\x1f\x8b\x08\x00", ("{}/a.txt.gz", "gzip")),
}


@pytest.mark.parametrize(("name", "content", "words"), FILES.values(), ids=FILES)
def test_a_bad_text_file_is_named_with_its_absolute_path(tmp_path, monkeypatch, name, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    tree = launch.tiny()
    tree["data"] = {"name": "text", "path": name or ".", "length": 4}
    refused(tmp_path, tree, 3, [w.format(tmp_path) for w in words])


TABLES = {
    "no match": ("x.jsonl", None, {"text": "t"}, ("{}/*.csv",)),
    "no column": ("a.csv", "txt,l\nab,1\n", {"text": "text"}, ("{}/a.csv", "line 1", "'txt'")),
    "missing cell": ("a.csv", "t,l\nab,1\ncd\n", {"text": "t", "label": "l"}, ("{}/a.csv", "line 3", "1 cells")),
    "empty cell": ("a.csv", "t,l\nab,1\n,2\n", {"text": "t", "label": "l"}, ("{}/a.csv", "line 3", "'t'", "empty")),
    "broken json": ("a.jsonl", '{"t": "ab"}\n{"t"\n', {"text": "t"}, ("{}/a.jsonl", "line 2", "JSON")),
    "nan feature": ("a.jsonl", '{"x": [1, 2]}\n{"x": [1, NaN]}\n', {"features": "x"}, ("{}/a.jsonl", "line 2", "nan")),
    "ragged": ("a.jsonl", '{"x": [[1, 2]]}\n{"x": [[1]]}\n', {"features": "x"}, ("{}/a.jsonl", "line 2", "wanted 2")),
    "one class": ("a.csv", "t,l\nab,1\ncd,1\n", {"text": "t", "label": "l"}, ("{}/a.csv", "two classes or more")),
    "a key twice": ("a.jsonl", '{"t": "ab", "t": "c"}\n', {"text": "t"}, ("{}/a.jsonl", "line 1", "two keys", "'t'")),
    "a part of a column": ("a.jsonl", '{"m": {"t": "ab"}}\n', {"text": "m.t"}, ("{}/a.jsonl", "a part of 'm'")),
    "header only": ("a.csv", "t,l\n", {"text": "t"}, ("{}/a.csv", "0 records")),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "columns", "words"), TABLES.values(), ids=TABLES)
def test_a_bad_record_in_a_table_is_named_with_its_line(tmp_path, monkeypatch, name, content, columns, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    tree = launch.tiny(*CLASSES)
    tree["data"] = {"name": "table", "train": name if content is not None else "*.csv", **columns}
    refused(tmp_path, tree, 3, [w.format(tmp_path) for w in words])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Ann B-x\nLee I-y\n", ("{}/a.conll, line 2", "I-y follows B-x", "BIO forbids")),
        ("Ann B-x\nLee\n", ("{}/a.conll, line 2", "got 1 columns, wanted 2")),
    ],
)
def test_a_bad_tag_is_named_with_its_line(tmp_path, content, words):
    (tmp_path / "a.conll").write_text(content)
    tree = launch.tiny("task.name=tag")
    tree["data"] = {"name": "tagged", "train": str(tmp_path / "a.conll")}
    refused(tmp_path, tree, 3, [w.format(tmp_path) for w in words])


def test_what_is_odd_about_data_is_said_once(tmp_path):
    """Not refused: the user may know better, but must hear of it before the first step."""
    (tmp_path / "a.csv").write_text("id;title;y\n" + "".join(f"{i};ab;{i % 12}\n" for i in range(12)))
    (tmp_path / "b.csv").write_text("id;title;y\n1;axyx;11 \n")
    tree = launch.tiny(*CLASSES)
    files = {"train": str(tmp_path / "a.csv"), "validation": str(tmp_path / "b.csv")}
    tree["data"] = {"name": "table", "text": "title", "label": "y", **files}
    notes = (
        f"cells are separated by semicolons in {tmp_path}/a.csv and 1 more",
        f"white space around the label was removed in {tmp_path}/b.csv, line 2",
        "3 of the 4 characters of validation (75.00%, 2 distinct) do not occur in train: no model can have learnt them",
    )
    for args in (["--dry_run"], ["--workdir", tmp_path / "run"]):
        outcome = launch.main("train", "--config", launch.write(tmp_path / "c.json", tree), *args)
        assert outcome.code == 0 and all(outcome.out.count(note) == 1 for note in notes), outcome


def test_data_that_are_not_there_are_named_with_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("SEQJAX_DATA", raising=False)
    tree = launch.tiny(*CLASSES)
    tree["data"] = {"name": "names"}
    refused(tmp_path, tree, 3, ("SEQJAX_DATA", "data.dir"))
    monkeypatch.setenv("SEQJAX_DATA", str(tmp_path / "nowhere"))
    refused(tmp_path, tree, 3, (tmp_path / "nowhere" / "names",))


def test_a_source_that_cannot_be_built_is_a_sentence(tmp_path):
    refused(tmp_path, launch.tiny("data=faulty.sources:Unbuildable"), 2, ("data: the cupboard is bare",))


# 41, 52: lengths and compilations.


@pytest.mark.parametrize(
    ("loader", "most"),
    [
        (dict(buckets=(5,), too_long="truncate"), 1),
        (dict(buckets=(3, 5), too_long="crop"), 2),
        (dict(buckets=(5, 9)), 2),
    ],
)
def test_one_compilation_for_each_bucket(loader, most):
    e = Experiment(resolve(launch.tiny("data.length=4")))
    layout = e.parallel.layout(4, 1)
    traced = []

    def step(state, totals, batch):
        traced.append(batch["tokens"].shape)
        return state, totals

    source = copy.Source(length=4, examples=16, symbols=4)
    source.size = lambda split: 16  # finite, so that lengths are known
    source.lengths = lambda split: np.array([len(source.example(split, i)["tokens"]) for i in range(16)])
    compiled = layout.compile(step, layout.abstract(e.shapes), 4)
    state = layout.init(e.make_state)
    for batch in Batches(source, "train", Loader(batch_size=4, **loader), shuffle=True).iterate(0, 12):
        state, _ = compiled(state, {}, batch)
        assert batch["tokens"].shape[1] in loader["buckets"]
    assert len(traced) == len(set(traced)) <= most


# 46, 47: the config. All in one, too: nothing of it hides another.

CONFIG = {
    "typo in a section": ("modle.width=3", ("modle", "Did you mean 'model'")),
    "typo in a key": ("model.widht=3", ("model.widht", "Did you mean 'width'")),
    "typo two levels down": ("model.mixer.heds=3", ("model.mixer.heds",)),
    "text for int": ("train.steps=many", ("train.steps", "'many'", "int")),
    "float for int": ("train.steps=2.5", ("train.steps", "2.5", "int")),
    "bool for int": ("train.steps=true", ("train.steps", "True", "int")),
    "bool for float": ("optim.learning_rate=true", ("optim.learning_rate", "True", "float")),
    "None for a required one": ("train.steps=none", ("train.steps", "None", "int")),
    "number for a section": ("train=3", ("train", "3", "section")),
    "number for a name": ("model.mixer=3", ("model.mixer", "3", "name")),
    "negative rate": ("optim.learning_rate=-1", ("optim.learning_rate", "-1", "above 0")),
    "nan rate": ("optim.learning_rate=nan", ("optim.learning_rate", "nan", "above 0")),
    "infinite rate": ("optim.learning_rate=inf", ("optim.learning_rate", "inf", "below inf")),
    "no steps": ("train.steps=0", ("train.steps", "0", "at least 1")),
    "no batch": ("loader.batch_size=0", ("loader.batch_size", "0", "at least 1")),
    "long warm-up": ("optim.warmup_steps=5", ("optim.warmup_steps=5", "train.steps=4")),
    "dropout above 1": ("model.dropout=1.5", ("model.dropout", "1.5", "below 1")),
    "dropout of 1": ("model.dropout=1", ("model.dropout", "1", "below 1")),
    "negative clip": ("optim.clip_norm=-1", ("optim.clip_norm", "-1", "above 0")),
    "negative seed": ("seed=-1", ("seed", "-1", "at least 0")),
    "huge seed": (f"seed={2**31}", ("seed", 2**31, "below")),
    "unknown optimiser": ("optim.name=adamx", ("optim.name", "'adamx'", "'adamw'", "'lion'")),
    "unknown option": ("optim.options={'b3': 1}", ("optim", "options.b3", "b2")),
    "unknown model": ("model.name=lmm", ("model.name", "'lmm'", "seq2seq", "stack")),
    "unknown mixer": ("model.mixer.name=lstn", ("model.mixer.name", "'lstn'", "'lstm'")),
    "unknown class in a mixer": ("model.mixer.name=gru:GRUU", ("model.mixer.name", "'GRUU'", "'GRU'")),
    "unknown source": ("data.name=cpoy", ("data.name", "'cpoy'", "'copy'")),
    "unknown task": ("task.name=nxt", ("task.name", "'nxt'", "next_token")),
    "unknown module": ("data.name=no.where:Source", ("data.name", "'no.where'", "PYTHONPATH")),
    "unknown dtype": ("model.dtype=float64", ("model.dtype", "'float64'", "bfloat16")),
    "unknown metric": ("task.monitor=acuracy", ("acuracy", "'accuracy'")),
    "what comes from the data": ("model.inputs=3", ("model.inputs", "data")),
    "buckets out of order": ("loader.buckets=[8,4]", ("loader", "shortest first")),
    "patience alone": ("train.patience=3", ("patience", "eval_every")),
    "contradicting data": ("data.min_length=9", ("data", "min_length=9", "length=3")),
    "a task without labels": ("task.name=classification", ("classification", "labels")),
    "a head for whole sequences": ("task.head=pooled", ("task", "head", "Pooled", "per sequence", "per token")),
    "a head of another kind": ("task.head=gru", ("task.head.name", "'gru'", "pooled", "tokenwise")),
    "an option of another head": ("task.head.pool=max", ("task.head.pool", "'tokenwise'")),
    "an embedding of features": ("model.embed=features", ("model", "features", "tokens")),
    "a model without the contract": ("model=flax.linen:LayerNorm", ("model.name", "seqjax.models.Model")),
    "a mixer that sees too much": ("model.mixer=bidirectional", ("task", "Bidirectional", "model.mixer", "causal")),
    "an empty list of mixers": ("model.mixer=[]", ("model.mixer",)),
    "more mixers than layers": ("model.mixer=['gru','lstm']", ("model.mixer lists 2 mixers", "number of layers is 1")),
    "an index too far": ("model.mixer.0.heads=2", ("model.mixer.0",)),
    "a path through a value": ("seed.deep=1", ("seed", "'deep'", "int")),
}  # fmt: skip


@pytest.mark.parametrize(("override", "words"), CONFIG.values(), ids=CONFIG)
def test_a_wrong_config_is_refused(tmp_path, override, words):
    refused(tmp_path, launch.tiny(), 2, words, f"--config.{override}")


def test_heads_that_do_not_divide(tmp_path):
    tree = launch.tiny("model.mixer=attention", "model.mixer.heads=3")
    refused(tmp_path, tree, 2, ("heads=3", "width=8"))
    tree = launch.tiny("model.mixer=attention", "model.mixer.heads=8")
    refused(tmp_path, tree, 2, ("rotary", "the head width is 1"))


def test_a_context_shorter_than_the_data(tmp_path):
    refused(tmp_path, launch.tiny("model.mixer=attention", "model.mixer.max_length=3"), 2, ("6", "3", "max_length"))


CARRIED = {
    "independent examples": (("data=copy",), 2, ("task.carry_state", "independent", "data.name='text'")),
    "no state": (("model=faulty.models:Bag",), 2, ("task.carry_state", "Bag", "no state")),
    "a bounded cache": (
        ("model.mixer=attention", "model.mixer.max_length=8"),
        2,
        ("task.carry_state", "'train'", "16 tokens", "holds 8", "model.mixer.max_length"),
    ),
    "a bounded cache in a hybrid": (("model.mixer=['gru','attention']", "model.layers=2",
                                     "model.mixer.1.max_length=15"), 2, ("16 tokens", "holds 15")),
    "buckets": (("loader.buckets=[5]",), 2, ("loader.buckets=[5]", "leave them out")),
    "another task": (("task.name=classification",), 2, ("task.carry_state",)),
    "more rows than windows": (("loader.batch_size=16",), 3,
                               ("13 windows of 4", "16", "loader.batch_size", "data.length")),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "code", "words"), CARRIED.values(), ids=CARRIED)
def test_a_state_that_cannot_be_carried(tmp_path, overrides, code, words):
    """50 characters of train make 13 windows: 4 for the first of 4 rows, 3 for the others."""
    (tmp_path / "a.txt").write_text("abcdefg" * 10)
    tree = launch.tiny("task.carry_state=true")
    tree["data"] = {"name": "text", "path": str(tmp_path / "a.txt"), "length": 4, "validation": 0.15, "test": 0.15}
    refused(tmp_path, tree, code, words, *(f"--config.{o}" for o in overrides))


def test_all_of_them_at_once(tmp_path):
    wrong = ("optim.learning_rate=-1", "train.steps=0", "model.widht=3", "loader.batch_size=true", "data.name=cpoy")
    words = ("5 problems", "optim.learning_rate", "train.steps", "model.widht", "loader.batch_size", "data.name")
    refused(tmp_path, launch.tiny(), 2, words, *(f"--config.{w}" for w in wrong))


# 48, 49: devices.


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("loader.batch_size=12",), ("12", "8")),
        (("loader.batch_size=8", "train.accumulation_steps=2"), ("8 devices", "train.accumulation_steps=2", "16")),
        (("parallel.data=3",), ("loader.batch_size=4", "3")),
        (("parallel.data=16", "loader.batch_size=16"), ("data=16", "8 devices")),
    ],
)
def test_a_batch_that_the_devices_do_not_divide(tmp_path, monkeypatch, mode, overrides, words):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    refused(tmp_path, launch.tiny(f"parallel.mode={mode}", *overrides), 2, words)


@pytest.mark.parametrize("axes", [("fsdp=3",), ("tensor=16",), ("data=2", "fsdp=8")])
def test_a_mesh_that_does_not_fit(tmp_path, monkeypatch, axes):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    refused(tmp_path, launch.tiny("loader.batch_size=48", *(f"parallel.{a}" for a in axes)), 2, ("8 devices", *axes))


@pytest.mark.parametrize("axis", ["fsdp", "tensor"])
def test_pmap_is_data_parallel_only(tmp_path, axis):
    refused(tmp_path, launch.tiny("parallel.mode=pmap", f"parallel.{axis}=2"), 2, ("data-parallel only", f"{axis}=2"))


# Files and words of the command line itself.

BROKEN = {
    "not there": ("none.py", None, ("{}/none.py",)),
    "syntax": ("a.py", "def get_config(:", ("{}/a.py", "SyntaxError")),
    "no get_config": ("a.py", "x = 1", ("{}/a.py", "get_config")),
    "raises": ("a.py", "def get_config(): return 1 / 0", ("{}/a.py", "ZeroDivisionError")),
    "no such variant": (
        "a.py:big",
        "def get_config(v='a'): return {'a': {}}[v]",
        ("{}/a.py", "does the file have a variant 'big'?"),
    ),
    "a comparison": ("a.py", "def get_comparison(): pass", ("{}/a.py", "seqjax compare calls get_comparison")),
    "no variants at all": ("a.py:big", "def get_config(): return {}", ("{}/a.py",)),
    "not a config": ("a.py", "def get_config(): return 3", ("{}/a.py",)),
    "not json": ("a.json", "{", ("{}/a.json", "JSON")),
    "a list": ("a.json", "[]", ("{}/a.json", "list")),
    "a text file": ("a.txt", "seed = 3", ("{}/a.txt",)),
    "a folder": (".", None, ("{}",)),
}


@pytest.mark.parametrize(("name", "content", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_config_file_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name.split(":")[0]).write_text(content)
    outcome = launch.main("train", "--config", tmp_path / name, "--workdir", tmp_path / "run")
    check(outcome, 2, [w.format(tmp_path) for w in words])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), ("COMMAND",)),
        (("trian",), ("trian", "train")),
        (("train",), ("--config",)),
        (("train", "--config"), ("--config", "argument")),
        (("train", "--confg", "x.py"), ("--config",)),
        (("train", "--config", "C", "--work_dir", "x"), ("--work_dir", "--workdir")),
        (("train", "--config", "C"), ("--workdir",)),
        (("train", "--config", "C", "--config.seed"), ("--config.seed", "value")),
        (("train", "--config", "C", "--config.=3"), ("--config.",)),
        (("train", "--config", "C", "extra"), ("'extra'",)),
        (("evaluate",), ("--workdir",)),
        (("evaluate", "--workdir", "nowhere"), ("nowhere", "config.json")),
        (("evaluate", "--workdir", "nowhere", "--config.seed=3"), ("--config.seed=3",)),
        (("generate", "--workdir", "nowhere"), ("nowhere", "config.json")),
        (("generate", "--workdir", ".", "--temperature", "-1"), ("temperature", "-1")),
        (("generate", "--workdir", ".", "--top_p", "0"), ("top_p", "0")),
        (("generate", "--workdir", "nowhere", "--top_k", "x"), ("top_k", "'x'")),
        (("report",), ("DIR",)),
        (("list", "mixer"), ("mixer", "mixers")),
    ],
)
def test_a_wrong_command_line_is_a_sentence(tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    launch.write(tmp_path / "c.json", launch.tiny())
    check(launch.main(*("c.json" if a == "C" else a for a in args)), 2, words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.json"]


def test_a_report_of_nothing_is_a_sentence(tmp_path):
    check(launch.main("report", tmp_path / "nowhere"), 2, (tmp_path / "nowhere",))


def test_a_run_folder_that_is_not_json(tmp_path):
    (tmp_path / "config.json").write_text("{")
    check(launch.main("evaluate", "--workdir", tmp_path), 5, (f"{tmp_path}/config.json", "JSON"))
    (tmp_path / "config.json").write_text(json.dumps({"model": 3}))
    check(launch.main("evaluate", "--workdir", tmp_path), 5, (f"{tmp_path}/config.json", "model"))


def test_a_workdir_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("in the way")
    file = launch.write(tmp_path / "c.json", launch.tiny())
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        check(launch.main("train", "--config", file, "--workdir", path), 5, (path, "--workdir"))
