"""The processes of a run report to process 0 before JAX joins them.

Without it, JAX crashes in all processes if two have the same id, or if the port is in use.
"""

import json
import os
import socket
import time

from seqjax.types import ConfigError

PAUSE = 0.2  # seconds between two tries
PATIENCE = 5.0  # seconds that a connected process has to report


def answer(coordinator: str, count: int, index: int) -> None:
    """Waits until all processes have reported: process 0 listens on the port that JAX will use, the others connect.

    Raises:
      ConfigError: in all processes: two have the same id or different counts. In process 0: it cannot listen there.
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
                other.close()  # another program, such as a port scanner
                continue
            index, wrong = said["index"], None
            if said["count"] != count:
                wrong = f"process {index} has --num_processes {said['count']}, process 0 {count}: pass the same to all."
            elif index in here:
                wrong = f"two processes have --process_id {index}: give each its own id, from 0 to {count - 1}."
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
        time.sleep(PAUSE)  # process 0 does not listen yet, or another program uses the port


def _write(to: socket.socket, what, close: bool = True) -> None:
    try:
        to.sendall(json.dumps(what).encode() + b"\n")
        if close:
            to.close()
    except OSError:
        pass  # the other process has ended


def _read(of: socket.socket):
    """Reads a line of JSON; None if no valid line arrives."""
    try:
        with of.makefile("rb") as file:
            return json.loads(file.readline(1000))
    except (OSError, ValueError):
        return None
