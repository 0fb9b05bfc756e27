"""Keys that had another name in version 0.1. Configs, overrides and run folders of 0.1 stay usable."""

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

# Array of a batch -> its old name, which the fingerprint of the data in a checkpoint keeps.
ARRAYS = {"mask_S": "source_mask"}


def told(tree: dict) -> dict:
    """As `modern`, for a file of the user: one line of the log lists the keys that were renamed.

    Raises:
      ConfigError: a key is given under both names.
    """
    said: dict[str, str] = {}
    out = modern(tree, said)
    if said:
        log.warning("keys renamed since 0.1: %s", ", ".join(f"{old} -> {new}" for old, new in said.items()))
    return out


def modern(tree: dict, said: dict[str, str] | None = None) -> dict:
    """Renames all old keys of a config or a comparison, and adds each of them to `said`: old key -> new key.

    Raises:
      ConfigError: a key is given under both names.
    """
    said = {} if said is None else said
    out = {key: value if key == "base" else _section(value, key, key, said) for key, value in tree.items()}
    if "contenders" not in tree:
        return out
    out = _renamed(out, RENAMED["comparison"], "", said)
    if isinstance(out.get("base"), dict):
        out["base"] = modern(out["base"], said)
    dotted = lambda changes: {_path(k, said): v for k, v in changes.items()} if isinstance(changes, dict) else changes
    if isinstance(out["contenders"], dict):
        out["contenders"] = {name: dotted(changes) for name, changes in out["contenders"].items()}
    return out


def current(section: dict, kind: str, key: str) -> str:
    """The new name of a key, if the section already has that name: a resolved config takes old overrides, too."""
    tables = (RENAMED.get(str(section.get("name")), {}), RENAMED.get(kind, {}))
    new = next((table[key] for table in tables if key in table), key)
    return new if isinstance(new, str) and key not in section and new in section else key


def _section(tree, kind: str, path: str, said: dict):
    """Renames the keys of a section and of its inner sections; `kind` is the top section of the config around it."""
    if isinstance(tree, list):
        return [_section(entry, kind, f"{path}.{i}", said) for i, entry in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    name = tree.get("name")
    table = RENAMED.get(name, {}) if isinstance(name, str) and name != kind else {}
    if path in (kind, f"{kind}.of"):
        table = table | RENAMED.get(kind, {})
    inner = {key: _section(value, kind, f"{path}.{key}", said) for key, value in tree.items()}
    return _renamed(inner, table, path, said)


def _renamed(section: dict, table: dict, path: str, said: dict) -> dict:
    out = {}
    for key, value in section.items():
        new, values = table[key] if isinstance(table.get(key), tuple) else (table.get(key, key), {})
        if new != key:
            dot = f"{path}." if path else ""
            if new in section:
                raise ConfigError(f"{dot}{key} is called {new} now, and both are given: remove {dot}{key}.")
            said[f"{dot}{key}"] = f"{dot}{new}"
            value = values.get(value, value) if isinstance(value, str) else value
        out[new] = value
    return out


def _path(path: str, said: dict) -> str:
    """Renames a dotted key of two parts, such as optim.peak. Longer keys are renamed when they are in their section."""
    section, _, key = path.partition(".")
    new = RENAMED.get(section, {}).get(key)
    if not isinstance(new, str):
        return path
    said[path] = f"{section}.{new}"
    return said[path]
