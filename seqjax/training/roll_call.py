"""The processes of a run report to process 0 before JAX joins them.

JAX would end them all by a crash where two have one id, or where the port is taken.
"""

import json
import os
import socket
import time

from seqjax.types import ConfigError

PAUSE = 0.2  # seconds between two tries
PATIENCE = 5.0  # seconds for whoever connects to say who it is


def answer(coordinator: str, count: int, index: int) -> None:
    """Waits until all processes have reported: process 0 listens where JAX will, the others connect.

    Raises:
      ConfigError: in all of them: two have the same id, or another count. In process 0: it cannot listen there.
    """
    host, _, port = coordinator.rpartition(":")
    if index == 0:
        _listen(int(port), count)
    else:
        _report(host.strip("[]"), int(port), {"index": index, "count": count})


def _listen(port: int, count: int) -> None:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen on port {port} of this machine: {os.strerror(error.errno)}. "
            "Is another process 0 running? End it, or choose another port for --coordinator_address."
        ) from error
    here: dict[int, socket.socket] = {}
    with server:
        while len(here) < count - 1:
            other, _ = server.accept()
            other.settimeout(PATIENCE)
            said = _read(other)
            if not isinstance(said, dict) or set(said) != {"index", "count"}:
                other.close()  # something else that looks for open ports
                continue
            index, wrong = said["index"], None
            if said["count"] != count:
                wrong = (
                    f"process {index} was told --num_processes {said['count']}, process 0 {count}: tell all the same."
                )
            elif index in here:
                wrong = f"two processes have --process_id {index}: give each its own, from 0 to {count - 1}."
            if wrong:
                for one in (*here.values(), other):
                    _write(one, wrong)
                raise ConfigError(wrong)
            here[index] = other
    for one in here.values():
        _write(one, "")


def _report(host: str, port: int, about: dict) -> None:
    while True:
        try:
            with socket.create_connection((host, port), timeout=10) as server:
                _write(server, about, close=False)
                server.settimeout(None)
                answer = _read(server)
        except OSError:
            answer = None
        if isinstance(answer, str):
            if answer:
                raise ConfigError(answer)
            return
        time.sleep(PAUSE)  # process 0 is not there yet, or something else is


def _write(to: socket.socket, what, close: bool = True) -> None:
    try:
        to.sendall(json.dumps(what).encode() + b"\n")
        if close:
            to.close()
    except OSError:
        pass  # it has ended


def _read(of: socket.socket):
    """A line of JSON; None if there is none."""
    try:
        with of.makefile("rb") as file:
            return json.loads(file.readline(1000))
    except (OSError, ValueError):
        return None
