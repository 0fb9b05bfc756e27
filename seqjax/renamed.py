"""Keys that had another name in version 0.1. Configs, overrides and run folders of 0.1 stay usable."""

import functools
import logging

from seqjax.types import ConfigError

log = logging.getLogger(__name__)

_ATTENTION = {
    "context": "max_length",
    "base": "rope_theta",
    "scaling": "rope_scaling",
    "factor": "rope_factor",
    "trained": "rope_original_length",
    "buckets": "num_buckets",
    "farthest": "max_distance",
    "gate": "output_gate",
    "sight": ("causal", {"causal": True, "bidirectional": False}),
}
_RECURRENT = {"initial": "initial_state"}

# Section or mixer -> old key -> new key; a pair also translates the values.
RENAMED = {
    "optim": {
        "peak": "learning_rate",
        "warmup": "warmup_steps",
        "end": "final_scale",
        "decay": "weight_decay",
        "clip": "clip_norm",
        "ema": "ema_decay",
    },
    "loader": {"batch": "batch_size", "overlong": "too_long", "workers": "num_workers"},
    "train": {"accumulate": "accumulation_steps", "keep": "keep_checkpoints"},
    "task": {"given": "prompt_length"},
    "data": {"tokens": "tokenizer"},
    "model": {"tied": "tie_embeddings", "cross": "cross_attention"},
    "comparison": {"rates": "learning_rates", "rate_seeds": "learning_rate_seeds"},
    "attention": _ATTENTION,
    "sparse_attention": _ATTENTION
    | {"block": "block_size", "near": "local_blocks", "everywhere": "global_blocks", "random": "random_blocks"},
    "linear_attention": {"features": "feature_map"},
    "attention_rnn": {"view": "alignment", "places": "max_source_length"},
    "interactive": {"sight": _ATTENTION["sight"]},
    "rnn": _RECURRENT,
    "lstm": _RECURRENT | {"hidden": "hidden_size"},
    "gru": _RECURRENT | {"reset": ("reset_after", {"after": True, "before": False})},
    "mgu": _RECURRENT,
    "slstm": _RECURRENT,
    "conv_lstm": _RECURRENT,
}


def modern(tree: dict) -> dict:
    """Renames all old keys of a config or a comparison. Logs each renamed key once.

    Raises:
      ConfigError: a key is given under both names.
    """
    out = {key: value if key == "base" else _section(value, key, key) for key, value in tree.items()}
    if "contenders" not in tree:
        return out
    out = _renamed(out, RENAMED["comparison"], "")
    if isinstance(out.get("base"), dict):
        out["base"] = modern(out["base"])
    dotted = lambda changes: {_path(k): v for k, v in changes.items()} if isinstance(changes, dict) else changes
    if isinstance(out["contenders"], dict):
        out["contenders"] = {name: dotted(changes) for name, changes in out["contenders"].items()}
    return out


def _section(tree, kind: str, path: str):
    """Renames the keys of a section and of its inner sections; `kind` is the top section of the config around it."""
    if isinstance(tree, list):
        return [_section(entry, kind, f"{path}.{i}") for i, entry in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    name = tree.get("name")
    table = RENAMED.get(name, {}) if isinstance(name, str) and name != kind else {}
    if path in (kind, f"{kind}.of"):
        table = table | RENAMED.get(kind, {})
    inner = {key: _section(value, kind, f"{path}.{key}") for key, value in tree.items()}
    return _renamed(inner, table, path)


def _renamed(section: dict, table: dict, path: str) -> dict:
    out = {}
    for key, value in section.items():
        new, values = table[key] if isinstance(table.get(key), tuple) else (table.get(key, key), {})
        if new != key:
            dot = f"{path}." if path else ""
            if new in section:
                raise ConfigError(f"{dot}{key} is called {new} now, and both are given: remove {dot}{key}.")
            _say(f"{dot}{key}", f"{dot}{new}")
            value = values.get(value, value) if isinstance(value, str) else value
        out[new] = value
    return out


def _path(path: str) -> str:
    """Renames a dotted key of two parts, such as optim.peak. Longer keys are renamed when they are in their section."""
    section, _, key = path.partition(".")
    new = RENAMED.get(section, {}).get(key)
    return f"{section}.{new}" if isinstance(new, str) else path


@functools.cache
def _say(old: str, new: str) -> None:
    log.warning("%s is called %s now", old, new)
