"""Compiled programs for eight devices, simulated in a process of their own, and where devices meet in them."""

import json
import os
import re
import subprocess
import sys

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast|ragged-all-to-all"
COLLECTIVE = re.compile(rf"^ *(?:ROOT )?%\S+ = .*? ({KINDS})(?:-start)?\(", re.MULTILINE)


def collectives(text: str) -> dict:
    """Of a compiled program's text: the number of its loops, the collectives inside them, and all collectives."""
    blocks = {re.match(r"(?:ENTRY )?%([\w.-]+)", b)[1]: b for b in text.split("\n\n") if re.match(r"(ENTRY )?%", b)}
    inside, reached = set(re.findall(r"body=%([\w.-]+)", text)), set()
    loops = len(inside)
    while inside - reached:
        name = (inside - reached).pop()
        reached.add(name)
        inside |= set(re.findall(r"%([\w.-]+)", blocks[name])) & set(blocks)
    found = COLLECTIVE.findall
    return {"loops": loops, "inside": found("\n".join(map(blocks.get, reached))), "all": found(text)}


def eight_devices(script: str, **options: str):
    """What a script prints last, as JSON, where it sees eight devices."""
    options |= {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.run(
        [sys.executable, script], env={**os.environ, **options}, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])
