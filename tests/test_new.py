"""`seqjax new`: what it writes trains, as its comments say, and it writes over nothing."""

import ast
import re
import shlex
from pathlib import Path

import launch
import pytest

from seqjax import cli, config, lookup, starts
from seqjax.commands import new
from seqjax.search import plan
from seqjax.search import space as spaces
from seqjax.search.sweep import Options, Sweep
from seqjax.training.experiment import resolve

STARTS = lookup.names(starts.__name__)
SMALL = ["model.width=8", "model.layers=1", "model.expansion=0", "optim.warmup_steps=1", "loader.batch_size=4"]
SHORT = ["train.steps=2", "train.log_every=1", "train.eval_every=1", "train.checkpoint_every=1"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a start into an empty current folder; returns the commands that it names, by their first word."""
    monkeypatch.chdir(tmp_path)

    def made(name, *args):
        outcome = launch.main("new", name, *args)
        assert outcome.code == 0 and not outcome.err
        (file,) = tmp_path.rglob("*.py")
        assert outcome.out.startswith(f"wrote {file.relative_to(tmp_path)}")
        lines = new.commands(file.read_text())
        assert f"  {next(line for line in lines if '--workdir' in line)}\n" in outcome.out
        return [shlex.split(line)[1:] for line in lines]

    return made


def overrides(keys, base=""):
    return [f"--config.{base}{key}" for key in keys]


def test_without_a_name_it_says_what_there_is():
    outcome = launch.main("new")
    assert outcome.code == 0
    for name in STARTS:
        (line,) = re.findall(rf"^  {name} +(\S.*\.)$", outcome.out, re.MULTILINE)
        assert line == ast.get_docstring(ast.parse((Path(starts.__file__).parent / f"{name}.py").read_text()))


@pytest.mark.parametrize("name", STARTS)
def test_the_options_and_keys_of_its_commands_exist(name, write):
    commands, known = write(name), cli._parser().subcommands.choices
    for words in commands:
        options = {
            word.partition("=")[0] for word in words if word.startswith("--") and not word.startswith("--config.")
        }
        assert options <= set(known[words[0]]._option_string_actions), words
        if words[0] == "train" and words[2] == f"{name}.py":
            assert launch.main(*words, "--print_config").code == 0
    assert [words for words in commands if f"{name}.py" in words]
    assert "tensorboard --logdir runs " in Path(f"{name}.py").read_text()


def test_its_commands_name_the_file_that_was_written(write):
    commands = write("text", "--out", "my configs/it's.py")
    assert {words[2] for words in commands if words[1] == "--config"} == {"my configs/it's.py"}
    assert launch.main(*commands[0][:3], "--print_config").code == 0


def test_it_writes_over_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.py").write_text("mine")
    Path("table.py").symlink_to("nowhere")
    for words in (("text",), ("quickstart", "--out", "text.py"), ("table",), ("text", "--out", "text.py/a.py")):
        before = launch.tree_of(tmp_path)
        outcome = launch.main("new", *words)
        assert outcome.code == 2 and len(outcome.err.splitlines()) == 1 and launch.tree_of(tmp_path) == before
        assert re.search(r"(text|table)\.py exists and is not overwritten: choose another --out", outcome.err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("txet",), "Did you mean 'text'?"),
        (("text", "--out", "a"), "--out 'a': wanted the name of a file that ends in .py"),
        (("text", "--out", ""), "--out ''"),
        (("text", "--out", "a\nb.py"), "--out 'a\\nb.py'"),
        (("--out", "a.py"), "--out a.py has no config to write"),
        (("text", "--out", "/proc/a/b.py"), "cannot write /proc/a/b.py: No such file or directory."),
    ],
)
def test_what_it_refuses(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = launch.main("new", *words)
    assert outcome.code == 2 and said in outcome.err.splitlines()[-1] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("train", "--dry_run"), ("compare", "--dry_run"), ("sweep", "--workdir", "x")])
def test_whoever_has_no_config_is_told_of_it(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more, said in (((), "--config is missing"), (("--config", "mine.py"), "no config file")):
        outcome = launch.main(*words, *more)
        assert outcome.code == 2 and said in outcome.err and "seqjax new" in outcome.err


# They train as they are, but for sizes.


def trains(commands, *more):
    (words,) = (words for words in commands if words[0] == "train" and "--workdir" in words and len(words) == 5)
    done = launch.main(*words, *overrides([*SMALL, *SHORT]), *more)
    assert done.code == 0 and not done.err, done
    assert {row["split"] for row in launch.rows(words[4])} == {"train", "validation"}
    return words[4]


def test_the_quickstart_trains(write):
    trains(
        write("quickstart"), "--config.data.length=64", "--config.loader.batch_size=64", "--config.train.eval_every=2"
    )


def test_a_text_of_ones_own_trains_and_is_gone_on_with(write):
    commands = write("text")
    Path("text.txt").write_text("the cat sat on the mat. " * 30)
    trains(commands, "--config.data.length=8")
    for words in commands:
        if words[0] in ("evaluate", "generate"):
            assert launch.main(*words).code == 0, words


def test_a_table_of_ones_own_trains(write):
    commands = write("table")
    for file in ("train.csv", "validation.csv"):
        Path(file).write_text("text,label\n" + "so good,yes\nso bad,no\n" * 4 + f"{'good ' * 60},yes\n")
    trains(commands, "--config.loader.buckets=[32]")  # one program
    (words,) = (words for words in commands if words[0] == "evaluate")
    assert "accuracy" in launch.main(*words).out


def test_the_comparison_is_sound(write):
    write("compare")
    assert len(plan.resolve(config.load("compare.py", "get_comparison")).contenders) == 3


@pytest.mark.slow  # eighteen runs
@pytest.mark.usefixtures("compile_once")
def test_the_comparison_runs(write):
    words = write("compare")[1]
    small = overrides(
        ["model.width=16", "model.layers=1", "optim.warmup_steps=1", "loader.batch_size=256", *SHORT[:1]], "base."
    )
    few = overrides(["learning_rates=[0.001,0.01]", "base.train.eval_every=2"])
    done = launch.main(*words, *small, *few, "--executor", "inline.here")
    assert done.code == 0 and Path("runs/compare/report.html").is_file(), done


def test_the_sweep_is_sound(write):
    """All that its domains hold fits its config."""
    pytest.importorskip("optuna")
    write("sweep")
    base, space = resolve(config.load("sweep.py")), spaces.read("sweep.py")
    assert set(Sweep(base, space, Options(), "sweep").space) == {
        "optim.learning_rate",
        "model.width",
        "model.dropout",
        "model.mixer",
    }


@pytest.mark.slow  # what it draws is as large as the user's
def test_the_sweep_runs(write):
    pytest.importorskip("optuna")
    words = write("sweep")[0]
    small = [*overrides([*SMALL, *SHORT, "data.length=16"]), "--config.train.eval_every=2"]
    done = launch.main(*words, *small, "--trials", 1, "--executor", "inline.here")
    assert done.code == 0 and "best: trial 0" in done.out, done
    assert Path("runs/sweep/best.json").is_file()


def test_a_wheel_holds_them():
    """They are modules of the package, all of which the wheel takes."""
    root = Path(__file__).parents[1]
    assert 'packages = ["seqjax"]' in (root / "pyproject.toml").read_text()
    assert Path(starts.__file__).parent == root / "seqjax" / "starts" and len(STARTS) == 5
