"""The command line: what it shows, what it prints, and that what it writes can be read back."""

import json
import os
import re
import shutil
import subprocess
import sys

import launch
import pytest

from seqjax import __version__, cli, lookup
from seqjax.commands.list import KINDS
from seqjax.training.experiment import resolve
from seqjax.training.trained import Trained
from seqjax.types import SeqjaxError

COMMANDS = tuple(cli._parser().subcommands.choices)


def config(tmp_path, *overrides, **sections):
    return launch.write(tmp_path / "c.json", launch.tiny(*overrides) | sections)


@pytest.fixture(scope="module")
def text_run(trained, tmp_path_factory):
    """The folder of a language model of text, trained for a moment."""
    return shutil.copytree(trained("text"), tmp_path_factory.mktemp("text") / "run")


# Help.


def test_the_version():
    outcome = launch.main("--version")
    assert outcome.code == 0 and outcome.out == f"seqjax {__version__}\n"


def test_the_first_help_shows_every_command_and_the_exit_codes():
    outcome = launch.main("--help")
    assert outcome.code == 0 and not outcome.err
    assert all(re.search(rf"^ +{command} ", outcome.out, re.MULTILINE) for command in COMMANDS)
    assert "75 preempted" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_an_example(command):
    outcome = launch.main(command, "--help")
    assert outcome.code == 0 and not outcome.err
    assert f"examples:\n  seqjax {command}" in outcome.out
    options = cli._parser().subcommands.choices[command]._actions
    assert all(option.help for option in options)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_the_examples_exist(command):
    commands = cli._parser().subcommands.choices
    for line in commands[command].epilog.splitlines()[1:]:
        for part in line.split(" -- "):  # what comes after is another command
            parser = commands[re.match(r" *seqjax ([\w-]+)", part)[1]]
            known = {name for action in parser._actions for name in action.option_strings}
            assert set(re.findall(r"(--[a-z_]+)(?!\.)\b", part)) <= known


# list


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_list_shows_every_name_with_a_description(kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    outcome = launch.main("list", *([kind] if kind else []))
    assert outcome.code == 0
    for one, (package, symbol) in KINDS.items():
        for name in lookup.names(package):
            summary = lookup.summary(package, name, symbol)
            assert summary.endswith((".", ":")) or len(summary) > 10
            line = re.search(rf"^ +{name}  +{re.escape(summary)} *$", outcome.out, re.MULTILINE)
            assert bool(line) == (kind in (None, one)), (name, summary)


# Configs.


def test_print_config_is_itself_a_config(tmp_path):
    args = ("--config.optim.learning_rate=0.5", "--print_config")
    outcome = launch.main("train", "--config", config(tmp_path), *args)
    assert outcome.code == 0 and not outcome.err
    tree = json.loads(outcome.out)
    assert tree == resolve(launch.tiny("optim.learning_rate=0.5"))
    again = launch.main("train", "--config", launch.write(tmp_path / "again.json", tree), "--print_config")
    assert again.out == outcome.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "c.json"]


@pytest.mark.parametrize(
    "words",
    [
        ["--config.optim.learning_rate=0.5", "--config.model.mixer=lstm", "--config.loader.buckets=[8,16]"],
        ["--config.optim.learning_rate", "0.5", "--config.model.mixer", "lstm", "--config.loader.buckets", "[8, 16]"],
        ["--config.optim.learning_rate=5e-1", "--config.model.mixer.name=lstm", "--config.loader.buckets", "(8,16)"],
    ],
)
def test_overrides_in_both_spellings(tmp_path, words):
    outcome = launch.main("train", "--config", config(tmp_path), "--print_config", *words)
    tree = json.loads(outcome.out)
    assert tree["optim"]["learning_rate"] == 0.5 and tree["loader"]["buckets"] == [8, 16]
    assert tree["model"]["mixer"]["name"] == "lstm" and tree["model"]["mixer"]["forget_bias"] == 1.0


def test_overrides_and_options_may_stand_in_any_order(tmp_path):
    file = config(tmp_path)
    orders = (["--config", file, "--config.seed", "3", "--print_config"],
              ["--config.seed=3", "--print_config", "--config", file],
              ["--print_config", "--config.seed", "3", f"--config={file}"])  # fmt: skip
    outs = {launch.main("train", *words).out for words in orders}
    assert len(outs) == 1 and json.loads(outs.pop())["seed"] == 3


def test_a_python_config_with_a_variant(tmp_path):
    source = f"tree = {launch.tiny()!r}\ndef get_config(variant='x'):\n    return tree | dict(seed=len(variant))\n"
    (tmp_path / "c.py").write_text(source)
    seeds = [json.loads(launch.main("train", "--config", f"{tmp_path}/c.py{v}", "--print_config").out)["seed"]
             for v in ("", ":four")]  # fmt: skip
    assert seeds == [1, 4]


def test_the_config_of_a_run_replays_it(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    overrides = ["--config.train.steps=3", "--config.model.dropout=0.3", "--config.seed=5"]
    assert launch.main("train", "--config", config(tmp_path), "--workdir", first, *overrides).code == 0
    assert launch.main("train", "--config", first / "config.json", "--workdir", again).code == 0
    assert launch.final(first) == launch.final(again)
    assert launch.rows(first) == launch.rows(again)
    assert (first / "config.json").read_bytes() == (again / "config.json").read_bytes()


# train


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path):
    outcome = launch.main("train", "--config", config(tmp_path), "--workdir", tmp_path / "run", "--dry_run")
    assert outcome.code == 0 and not outcome.err
    for words in ("embedding/embedding", "total", "matmul FLOPs", "MiB", "4 of 4 sequences", "tokens", "weight"):
        assert words in outcome.out, words
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


LATE = """
import argparse, gc
from seqjax import cli, runtime
from seqjax.types import SeqjaxError

gc.disable()

async def write(): pass

def run(args):
    runtime.quiet_loops()
    cycle = [write()]
    cycle.append(cycle)
    raise SeqjaxError("no room.")

given = argparse.Namespace(run=run), []
cli._parser = lambda: argparse.Namespace(parse_known_args=lambda argv: given)
cli.main([])
"""


def test_nothing_is_said_behind_the_last_line():
    """Not even of a write that never began, which orbax leaves when it fails."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (SeqjaxError.exit_code, "seqjax: no room.\n")


def test_a_quiet_run_prints_nothing(tmp_path):
    outcome = launch.main("train", "--config", config(tmp_path), "--workdir", tmp_path / "run", "--quiet")
    assert outcome == (0, "", "")


def test_a_run_says_what_it_does(text_run, tmp_path):
    outcome = launch.main("train", "--config", text_run / "config.json", "--workdir", tmp_path / "run")
    assert outcome.code == 0 and not outcome.err
    for words in ("parameters", "step 4/4", "loss", "tokens/s", "eta", "step 2  validation", "(best)"):
        assert words in outcome.out, words
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"config.json", "run.json", "metrics.jsonl", "status.json", "ckpt", "ckpt_best", "tensorboard"} <= files


# evaluate


@pytest.mark.parametrize(("args", "step"), [((), None), (("--checkpoint", "latest"), 4), (("--checkpoint", "2"), 2)])
def test_evaluate_says_what_training_said(text_run, args, step):
    """On validation; and results.json keeps every split."""
    validation = [row for row in launch.rows(text_run) if row["split"] == "validation"]
    best = min(validation, key=lambda row: row["loss"])
    row = next(row for row in validation if row["step"] == (step or best["step"]))
    outcome = launch.main("evaluate", "--workdir", text_run, *args)
    assert outcome.code == 0 and not outcome.err and f"step {row['step']}" in outcome.out
    found = json.loads((text_run / "results.json").read_text())["validation"]
    assert found["step"] == row["step"] and found["examples"] == 6
    metrics = {k: v for k, v in row.items() if k not in ("step", "split")}
    assert found["metrics"] == pytest.approx(metrics, rel=1e-6)


def test_evaluate_changes_nothing_in_a_folder_that_is_written_to(text_run):
    for root in ("ckpt", "ckpt_best"):
        (text_run / root / "9.orbax-checkpoint-tmp").mkdir()
    for checkpoint in ("best", "latest"):
        assert launch.main("evaluate", "--workdir", text_run, "--checkpoint", checkpoint).code == 0
    for root in ("ckpt", "ckpt_best"):
        (text_run / root / "9.orbax-checkpoint-tmp").rmdir()


def test_evaluate_keeps_the_other_splits(text_run):
    for split in ("validation", "test"):
        assert launch.main("evaluate", "--workdir", text_run, "--split", split).code == 0
    assert {"validation", "test"} <= set(json.loads((text_run / "results.json").read_text()))


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--split", "tset"), 2, ("'tset'", "test")),
        (("--split", "train"), 3, ("'train'", "endless")),
        (("--file", "nowhere.txt"), 3, ("nowhere.txt", "does not exist")),
        (("--checkpoint", "newest"), 2, ("newest", "best", "latest")),
        (("--checkpoint", "3"), 4, ("step 3", "4, 2")),
    ],
)
def test_what_cannot_be_evaluated_is_a_sentence(text_run, args, code, words):
    outcome = launch.main("evaluate", "--workdir", text_run, *args)
    assert outcome.code == code and len(outcome.err.splitlines()) == 1
    assert all(word in outcome.err for word in words)


def test_a_text_of_ones_own_is_scored(text_run, tmp_path):
    """Its tokens are those of the run: the text of validation has the loss of validation."""
    trained = Trained.load(text_run)
    path = tmp_path / "my.txt"
    path.write_text(trained.experiment.source.decode(trained.experiment.source.stream("validation")["tokens"]))
    outcome = launch.main("evaluate", "--workdir", text_run, "--file", path)
    assert outcome.code == 0 and outcome.out.startswith(f"file {path} (")
    assert launch.main("evaluate", "--workdir", text_run).code == 0
    found = json.loads((text_run / "results.json").read_text())
    assert found[f"file {path}"] == found["validation"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty, 0 bytes"),
        (b"the \xe9t\xe9", "line 1, byte offset 4: byte 0xe9 is not UTF-8"),
        (b"the cat!", "character 7 is '!'"),
        (b"t", "has 1 token, which leaves nothing to predict"),
    ],
)
def test_a_text_that_cannot_be_scored_is_a_sentence(text_run, tmp_path, content, words):
    (tmp_path / "my.txt").write_bytes(content)
    outcome = launch.main("evaluate", "--workdir", text_run, "--file", tmp_path / "my.txt")
    assert outcome.code == 3 and len(outcome.err.splitlines()) == 1
    assert str(tmp_path / "my.txt") in outcome.err and words in outcome.err


def test_only_running_text_has_a_file_to_score(copied):
    outcome = launch.main("evaluate", "--workdir", copied("copy"), "--file", __file__)
    assert outcome.code == 2 and "data.name='copy' is no running text" in outcome.err


# generate


def test_generate_goes_on_from_the_prompt(text_run):
    outcome = launch.main("generate", "--workdir", text_run, "--prompt", "the ", "--tokens", 12, "--samples", 2)
    assert outcome.code == 0 and not outcome.err
    rows = json.loads((text_run / "samples.json").read_text())
    assert [len(row["text"]) for row in rows] == [12, 12] and {row["prompt"] for row in rows} == {"the "}
    assert all(f"the {row['text']}" in outcome.out for row in rows)


def test_the_same_seed_gives_the_same_text(text_run):
    def text(*args):
        return launch.main("generate", "--workdir", text_run, "--prompt", "t", "--tokens", 30, *args).out

    assert text("--seed", 1) == text("--seed", 1) != text("--seed", 2)
    assert text("--seed", 1, "--temperature", 0) == text("--seed", 2, "--temperature", 0)
    assert text("--top_k", 1, "--seed", 3) == text("--temperature", 0)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--prompt", "zebra"), 3, ("'z'",)),
        (("--prompt", ""), 2, ("the prompt is empty",)),
        (("--prompt", "the", "--tokens", "0"), 2, ("tokens=0",)),
        (("--prompt", "the", "--samples", "0"), 2, ("samples=0",)),
        (("--prompt", "the", "--tokens", "39"), 2, ("41", "40", "max_length")),
        (("--prompt", "the", "--samples", "2000000000"), 2, ("2,000,000,000 samples", "fewer samples")),
        (("--prompt", "the", "--tokens", "2000000000"), 2, ("2,000,000,000 new tokens", "fewer tokens")),
    ],
)
def test_what_cannot_be_generated_is_a_sentence(text_run, args, code, words):
    outcome = launch.main("generate", "--workdir", text_run, *args)
    assert outcome.code == code and len(outcome.err.splitlines()) == 1
    assert all(word in outcome.err for word in words), outcome


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--seed", "99999999999999999999", "a whole number of at most 31 bits"),
        ("--seed", "-2147483648", "a whole number of at most 31 bits"),
        ("--temperature", "inf", "a finite number"),
        ("--top_p", "nan", "a finite number"),
        ("--workdir", "", "the name of a folder"),
    ],
)
def test_what_no_option_takes_is_a_sentence(option, value, wanted):
    outcome = launch.main("generate", "--workdir", "run", f"{option}={value}")
    said = f"seqjax: argument {option}: got {value or repr('')}, wanted {wanted}; see seqjax generate --help."
    assert outcome.code == 2 and outcome.err.splitlines()[-1] == said


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_takes_the_current_folder_for_an_empty_name(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "--workdir" in cli._parser().subcommands.choices[command]._option_string_actions:
        outcome = launch.main(command, "--workdir", "")
        assert outcome.code == 2 and "argument --workdir: got ''" in outcome.err and not list(tmp_path.iterdir())


def test_results_that_are_no_object_are_a_sentence(text_run, tmp_path):
    shutil.copytree(text_run, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text("[]")
    outcome = launch.main("evaluate", "--workdir", tmp_path / "run")
    assert outcome.code == 5 and f"{tmp_path / 'run' / 'results.json'} holds a list, wanted an object" in outcome.err


def test_only_text_is_generated(copied):
    outcome = launch.main("generate", "--workdir", copied("copy"), "--prompt", "a")
    assert outcome.code == 2 and "'copy'" in outcome.err and "text" in outcome.err


# As a program.


def test_python_m_seqjax_is_the_program():
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = lambda *args: subprocess.run(
        [sys.executable, "-m", "seqjax", *args], capture_output=True, text=True, env={**os.environ, **paths}
    )
    outcome = run("--version")
    assert (outcome.returncode, outcome.stdout) == (0, f"seqjax {__version__}\n")
    outcome = run("train")
    assert outcome.returncode == 2 and outcome.stderr.splitlines()[-1].startswith("seqjax: ")


def test_an_interrupt_is_no_traceback(monkeypatch, text_run):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("seqjax.training.trained.Trained.load", interrupted)
    assert launch.main("evaluate", "--workdir", text_run) == (130, "", "seqjax: interrupted\n")


def test_a_run_goes_on_when_nobody_reads_any_more(tmp_path):
    file = config(tmp_path, "train.steps=6")
    process = launch.start("train", "--config", file, "--workdir", tmp_path / "run")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0 and "Traceback" not in process.stderr.read()
    process.stderr.close()
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["status"], status["step"], status["error"]) == ("done", 6, None)
    assert [row["step"] for row in launch.rows(tmp_path / "run") if row["split"] == "train"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("platform", ["cuda", pytest.param("abacus", marks=pytest.mark.slow)])
def test_a_device_that_is_not_here_is_a_sentence(tmp_path, platform):
    command = ["train", "--config", config(tmp_path), "--workdir", tmp_path / "run"]
    outcome = launch.end(launch.start(*command, JAX_PLATFORMS=platform, CUDA_VISIBLE_DEVICES=""))
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome
    assert f"seqjax: JAX_PLATFORMS='{platform}', and JAX finds no such device here" in outcome.err


def test_an_assertion_that_fails_with_devices_is_no_question_of_devices(monkeypatch, text_run):
    def broken(*args):
        assert args == "broken"

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("seqjax.training.trained.Trained.load", broken)
    with pytest.raises(AssertionError, match="broken"):
        launch.main("evaluate", "--workdir", text_run)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("train", "--config", "c", "--confog", "d"), "Did you mean '--config'?"),
        (("train", "--config", "c", "--kills=3"), "'seqjax verify-resume' has this option."),
        (("supervise", "seqjax", "train", "--config", "c"), "Put two dashes (--) before the command"),
    ],
)
def test_an_option_of_another_command_is_said_to_be_that(words, hint):
    outcome = launch.main(*words)
    assert outcome.code == 2 and hint in outcome.err


def test_code_of_ones_own_is_found_where_the_command_is_given(tmp_path):
    (tmp_path / "mine_alone.py").write_text("from seqjax.mixers.gru import GRU\nclass Twin(GRU):\n  pass\n")
    config = launch.write(tmp_path / "c.json", launch.tiny("model.mixer=mine_alone:Twin"))
    program = [sys.executable, "-P", "-c", "from seqjax.cli import main; main()"]  # -P: as the console script
    command = [*program, "train", "--config", config, "--print_config"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["model"]["mixer"]["name"] == "mine_alone:Twin"


def test_a_cache_that_cannot_be_written_is_told_and_done_without(text_run, tmp_path):
    (tmp_path / "file").write_text("")
    process = launch.start("evaluate", "--workdir", text_run, SEQJAX_CACHE=str(tmp_path / "file" / "cache"))
    outcome = launch.end(process)
    assert outcome.code == 0
    (line,) = outcome.err.splitlines()
    assert "cannot write to" in line and "set SEQJAX_CACHE" in line


def test_a_closed_pipe_is_no_error():
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "seqjax", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **paths},
    )
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == b""
    process.stderr.close()
