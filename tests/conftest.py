"""Tests run as strictly as JAX can be: no silent broadcasting, full precision. Compiled programs are kept."""

import jax
import pytest

from seqjax import runtime

runtime.compile_cache()
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_collection_modifyitems(config, items):
    """A module stays on one worker, as others would make its fixtures again; but for the laws, half of all."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if item.module.__name__ != "test_laws":
                item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Compiled programs take memory, gigabytes over all tests; on the disk they are still there."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def quick_compiles():
    """For programs that take a thousand times longer to compile than to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    # jax 0.10 compiles what a backward pass calls a second time, unless there is a mesh, if only an empty one.
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        yield
    jax.config.update("jax_disable_most_optimizations", False)
