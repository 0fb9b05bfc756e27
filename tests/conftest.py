"""Tests run as strictly as JAX can be: no silent broadcasting, full precision. Compiled programs are kept.

They run on the CPU, also where there is a GPU, unless JAX_PLATFORMS is set. `pytest -m gpu` runs on the device that JAX
takes, and compiles as users do.
"""

import functools
import gc
import os
import shutil

import jax
import launch
import programs
import pytest

from seqjax import runtime

# Almost all programs of tests take a thousand times longer to compile than to run: these settings make that a tenth,
# also in processes that tests start. What stands for the fusion emitters is of jax 0.10, and without effect in others.
# SEQJAX_TESTS=optimised compiles as users do: `make test-slow` tests the numerics once more like that.
QUICK = "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1"
os.environ.setdefault("XLA_FLAGS", "")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes of tests share a GPU

runtime.compile_cache()
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_configure(config):
    config.pluginmanager.register(programs)
    if config.option.markexpr == "gpu":
        return
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])  # JAX is here already
    if os.environ.get("SEQJAX_TESTS") != "optimised":
        os.environ["XLA_FLAGS"] += f" {QUICK}"
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # of processes
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config, items):
    """A module stays on one worker, as others would make its fixtures again; but for what has marks of its own."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if not item.get_closest_marker("xdist_group"):
                item.add_marker(pytest.mark.xdist_group(item.module.__name__))


# Tens of seconds each: they begin first, so that workers end together. The laws, seconds for each subject, fill up.
LONGEST = (
    "ops/test_attention.py",
    "training/test_resume.py",
    "mixers/test_recurrent.py",
    "test_cli.py",
    "faults/test_faults.py",
    "search/test_fingerprint.py",
    "training/test_loop.py",
    "training/test_step.py",
    "ops/test_cells.py",
    "models/test_seq2seq.py",
    "test_docs.py",
    "report/test_compare_report.py",
)


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_collection_order(items):
    """Long files first; tests of a subject of the laws together, in the order of the file: they share programs."""
    seen = {}

    def place(item):
        file, subject = item.location[0], getattr(item, "callspec", None) and item.callspec.params.get("subject")
        name = file.removeprefix("tests/")
        turn = LONGEST.index(name) if name in LONGEST else len(LONGEST) + (name == "test_laws.py")
        return turn, seen.setdefault((file, subject), len(seen)), item.location[1] if subject else 0

    items.sort(key=place)


def pytest_collection_finish():
    """Thousands of tests are much to look through for garbage, and tracing calls for that often."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """`trained(task)` is the folder of the run of a task, for all workers; `copied(task)` a copy of it."""
    base = tmp_path_factory.getbasetemp()
    return functools.partial(launch.trained, base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def copied(trained, tmp_path):
    """`copied(task)` copies the run of a task to `tmp_path / "run"`, to be gone on with or written to."""
    return lambda task: shutil.copytree(trained(task), tmp_path / "run")


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    yield
    programs.forget()


@pytest.fixture(scope="module")
def compile_once():
    """jax 0.10 compiles what a backward pass calls a second time, unless there is a mesh, if only an empty one."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        yield
