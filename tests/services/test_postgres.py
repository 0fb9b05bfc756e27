"""Sweeps whose study is in a real PostgreSQL: several processes, kills, a server that is not there."""

import os
import signal
import time

import launch
import pytest
import sweeps

pytestmark = pytest.mark.services
LONG = 400  # steps of a run that is killed


def secrets(url: str, folder) -> list:
    """The files of a folder that hold the password of a URL."""
    word = url.split(":")[2].partition("@")[0].encode()
    return [p for p in folder.rglob("*") if p.is_file() and word in p.read_bytes()]


def test_of_two_processes_one_is_killed(postgres, tmp_path):
    """The trial of the killed one is taken over where it was saved; the rest of the grid is tried once each."""
    command = sweeps.sweep(tmp_path, 3, "--storage", postgres, steps=LONG)
    first, second = launch.start(*command), launch.start(*command)
    trials = tmp_path / "s" / "trials"
    launch.until(lambda: all(list(trials.glob(f"000{i}/ckpt/*0")) for i in range(2)), first)
    ours = {p.read_text().split()[1] for p in trials.glob("000[01]/.lock")}
    assert len(ours) == 2
    first.kill()
    first.communicate()
    outcome = launch.end(second)
    assert outcome.code == 0, outcome
    assert launch.gone(first.pid)
    again = launch.end(launch.start(*command))
    assert again.code == 0 and "3 of them already ended" in again.out, again
    sweeps.check(tmp_path, 3, LONG)
    counts = [len(sweeps.starts(trials / f"{i:04}")) for i in range(3)]
    assert sorted(counts) == [1, 1, 2], counts
    assert not secrets(postgres, tmp_path) and postgres not in outcome.out + outcome.err + again.out


def test_a_sweep_that_was_killed_alone_is_started_again(postgres, tmp_path):
    """No process is left; the same command finishes what it left."""
    command = sweeps.sweep(tmp_path, 2, "--storage", postgres, "--slots", "2", steps=LONG)
    first = launch.start(*command)
    trials = tmp_path / "s" / "trials"
    launch.until(lambda: all(list(trials.glob(f"000{i}/ckpt/*0")) for i in range(2)), first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    outcome = launch.end(launch.start(*command))
    assert outcome.code == 0, outcome
    sweeps.check(tmp_path, 2, LONG)
    assert [len(sweeps.starts(trials / f"{i:04}")) for i in range(2)] == [2, 2]


def test_connections_that_the_server_ended_are_opened_again(postgres, tmp_path):
    """As after a restart of the server, or an hour behind a firewall."""
    import psycopg

    process = launch.start(*sweeps.sweep(tmp_path, 2, "--storage", postgres))
    launch.until(lambda: (tmp_path / "s" / "trials" / "0000" / "metrics.jsonl").exists(), process)
    with psycopg.connect(postgres) as connection:
        query = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and "
        assert connection.execute(query + "datname = 'seqjax'").fetchone()[0] > 0
    outcome = launch.end(process)
    assert outcome.code == 0, outcome
    sweeps.check(tmp_path, 2)


@pytest.mark.parametrize("wrong", ["password", "port", "database", "host"])
def test_a_database_that_cannot_be_had_is_one_sentence(postgres, tmp_path, wrong):
    user, at, place = postgres.partition("@")
    word = "b4d" + str(os.getpid()) if wrong == "password" else user.split(":")[2]
    place = {
        "password": place,
        "port": place.replace("46432", "46431"),
        "database": place.replace("/seqjax", "/nowhere"),
        "host": place.replace("127.0.0.1", "nowhere.invalid"),
    }[wrong]
    url = f"{user.rpartition(':')[0]}:{word}{at}{place}"
    begin = time.monotonic()
    outcome = launch.end(launch.start(*sweeps.sweep(tmp_path, 1, "--storage", url)))
    assert outcome.code == 2 and time.monotonic() - begin < 60
    said = outcome.err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("seqjax: --storage postgresql://seqjax:***@"), said
    assert word not in outcome.out + outcome.err and not secrets(url, tmp_path)
    assert not (tmp_path / "s" / "trials").exists()
