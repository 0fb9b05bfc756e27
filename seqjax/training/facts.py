"""Facts recorded with every result: sizes, baselines, versions, hardware, git revision."""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path

import jax

import seqjax
from seqjax.ops import _backends
from seqjax.training import cost
from seqjax.training.experiment import Experiment
from seqjax.training.records import Info

OPTIONAL = ("sentencepiece", "tokenizers")  # what they make of a text may depend on their version
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def about(e: Experiment, flops: float, baselines: dict, costs: dict, starts: list[dict]) -> Info:
    """The content of run.json: sizes, baselines, versions, hardware, starts."""
    params = e.shapes.params
    return Info(
        parameters=cost.count(params, e.model.indices),
        parameter_table=[[path, list(shape), size] for path, shape, size in cost.parameter_table(params)],
        flops_per_step=flops,
        tokens_per_step=round(e.batches.tokens),
        carried_bytes=cost.nbytes(e.shapes.carry),
        baselines=baselines,
        costs=costs,
        metrics=e.metrics,
        tokenizer=getattr(e.source, "measured", {}),
        versions=versions(),
        hardware=hardware(),
        git=revision(),
        starts=starts,
    )


def baselines(source) -> dict:
    """The baseline scores on every finite split, which a model should beat."""
    splits = [s for s in source.spec.splits if source.size(s) is not None]
    return {s: found for s in splits if (found := source.baselines(s))}


def with_slow(info: Info, source, split: str) -> dict:
    """The keys of run.json that change with the slow baselines of a split; {} if they are known, or there are none."""
    known = info.baselines.get(split, {})
    if any(name in values for values in known.values() for name in info.costs):
        return {}
    found = source.slow_baselines(split)
    metrics = {**known}
    for baseline in found:
        for metric, value in baseline.metrics.items():
            metrics[metric] = {**metrics.get(metric, {}), baseline.name: value}
    costs = {one.name: {"parameters": one.parameters, "seconds": one.seconds} for one in found}
    return {"baselines": {**info.baselines, split: metrics}, "costs": {**info.costs, **costs}} if found else {}


def versions() -> dict[str, str]:
    """Versions of all software that influences the numbers of a run."""
    return {
        "seqjax": seqjax.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        **{name: importlib.metadata.version(name) for name in OPTIONAL if importlib.util.find_spec(name)},
    }


def hardware() -> dict:
    """Devices and host."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "host_cpu": _cpu(),
        "cores": _backends.cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def revision() -> str | None:
    """The git revision of the library's source, with `+` if it was changed; None outside a checkout."""
    git = lambda *args: subprocess.run(
        ["git", "-C", str(Path(seqjax.__file__).parent), *args], capture_output=True, text=True, timeout=10
    )
    try:
        head = git("rev-parse", "--short=12", "HEAD")
        if head.returncode:
            return None
        return head.stdout.strip() + "+" * bool(git("status", "--porcelain", "--untracked-files=no").stdout.strip())
    except (OSError, subprocess.TimeoutExpired):
        return None
