"""The services that `make services` starts. A test of one that does not run is skipped, and says so."""

import os
import subprocess
from pathlib import Path

import pytest

STATE = Path(os.environ.get("SEQJAX_SERVICES", f"/tmp/seqjax-services-{os.getuid()}"))


@pytest.fixture(scope="session")
def running():
    """What runs, as `services.sh status` says it."""
    found = subprocess.run([Path(__file__).with_name("services.sh"), "status"], capture_output=True, text=True)
    return {line.split()[0] for line in found.stdout.splitlines()}


@pytest.fixture
def service(running, monkeypatch):
    """`service(name)` skips the test unless this service runs, and sets what its clients read from the environment."""

    def ask(name: str):
        if name not in running:
            pytest.skip(f"{name} does not run: `make services` starts it")
        monkeypatch.setenv("SLURM_CONF", str(STATE / "slurm" / "slurm.conf"))
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(STATE / "ray.secret"))
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")

    return ask


@pytest.fixture
def postgres(service):
    """The URL of the database; its password is random."""
    service("postgres")
    pytest.importorskip("psycopg", reason="psycopg is not installed: `make services` installs it")
    return f"postgresql://seqjax:{(STATE / 'postgres.secret').read_text()}@127.0.0.1:46432/seqjax"


@pytest.fixture
def slurm(service, tmp_path):
    """`slurm("squeue", ...)` runs a program of SLURM and returns what it printed; at the end no job is left."""
    service("slurm")

    def call(*command) -> str:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        return done.stdout.strip()

    yield call
    call("scancel", "--me")


@pytest.fixture
def ray(service):
    """The address of the cluster."""
    service("ray")
    pytest.importorskip("ray")
    return "127.0.0.2:46379"
