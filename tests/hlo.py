"""Compiled programs for eight devices, simulated in a process of their own, and where devices meet in them."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp

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


def spread(loss, weights, *rows, value: bool = False):
    """The gradients of loss(weights, *rows) by weights and the first of rows, for eight devices; `value`: (loss, them).

    Each device has all weights and an eighth of the rows, given and gained. Compiled: `input_shardings[0]` of what
    comes back says where arguments belong.
    """
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda *axes: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    everywhere, by_row = place(), place("data")
    derive = jax.value_and_grad if value else jax.grad
    given, slopes = (everywhere, *(by_row for _ in rows)), (everywhere, by_row)
    program = jax.jit(derive(loss, (0, 1)), in_shardings=given, out_shardings=(everywhere, slopes) if value else slopes)
    return program.lower(weights, *rows).compile()


def report(programs: dict, *rows) -> None:
    """Prints where devices meet in the gradients of sum f^2, for name -> (f(weights, *rows), weights), as JSON."""
    found = {}
    for name, (f, weights) in programs.items():
        loss = lambda *arguments, f=f: jnp.sum(f(*arguments) ** 2)
        found[name] = collectives(spread(loss, weights, *rows).as_text())
    print(json.dumps(found))


def eight_devices(script: str, **options: str):
    """What a script prints last, as JSON, where it sees eight devices."""
    options |= {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.run(
        [sys.executable, script], env={**os.environ, **options}, capture_output=True, text=True, timeout=900
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])
