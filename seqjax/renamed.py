"""Keys and names that were others in version 0.1. Configs, overrides and run folders of 0.1 stay usable."""

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
# Section -> old name -> new name.
NAMES = {"model": {"lm": "stack", "classifier": "stack"}}
# Old key -> new key, in another section. A model outside the package may have a key of that name.
MOVED = {"model.pool": "task.head.pool", "model.pool_weights": "task.head.weights"}


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
        return _moved({key: _named(key, value, said) for key, value in out.items()}, said)
    out = _renamed(out, RENAMED["comparison"], "", said)
    if isinstance(out.get("base"), dict):
        out["base"] = modern(out["base"], said)
    if isinstance(out["contenders"], dict):
        model = out["base"].get("model") if isinstance(out.get("base"), dict) else None
        out["contenders"] = {name: _changes(changes, model, said) for name, changes in out["contenders"].items()}
    return out


def place(tree: dict, path: str) -> str:
    """The new path of a key that moved, if the tree already has it: a resolved config takes old overrides, too."""
    node = tree
    for key in MOVED.get(path, "").split("."):
        if not isinstance(node, dict) or key not in node:
            return path
        node = node[key]
    return MOVED[path]


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


def _named(section: str, value, said: dict):
    """A section, or only its name, with the new name."""
    table, name = NAMES.get(section, {}), value.get("name") if isinstance(value, dict) else value
    new = table.get(name) if isinstance(name, str) else None
    if new is None:
        return value
    said[f"{section}.name={name}"] = f"{section}.name={new}"
    return {**value, "name": new} if isinstance(value, dict) else new


def _moved(tree: dict, said: dict) -> dict:
    """A config in which the keys that moved are in their new section."""
    for old, new in MOVED.items():
        (section, key), (*path, last) = old.split("."), new.split(".")
        inner = tree.get(section)
        if not isinstance(inner, dict) or key not in inner or not _inside(inner):
            continue
        tree = {**tree, section: {k: v for k, v in inner.items() if k != key}}
        node = tree
        for part in path:
            held = node.get(part, {})
            node[part] = dict(held) if isinstance(held, dict) else {"name": held}
            node = node[part]
        if last in node:
            raise ConfigError(f"{old} is called {new} now, and both are given: remove {old}.")
        said[old], node[last] = new, inner[key]
    return tree


def _inside(section) -> bool:
    """Whether a section, or its name, stands for a class of the package: names of other modules have dots or colons."""
    return str(section.get("name", "") if isinstance(section, dict) else section).isidentifier()


def _changes(changes, model, said: dict):
    """The overrides of a contender; `model` is that section of the base."""
    if not isinstance(changes, dict):
        return changes
    out, inside = {}, _inside(changes.get("model", changes.get("model.name", model)))
    for path, value in changes.items():
        section, _, key = path.partition(".")
        if path in MOVED and inside:
            said[path] = MOVED[path]
            out[MOVED[path]] = value
        else:
            out[_path(path, said)] = _named(section, value, said) if key in ("", "name") else value
    return out


def _path(path: str, said: dict) -> str:
    """Renames a dotted key of two parts, such as optim.peak. Longer keys are renamed when they are in their section."""
    section, _, key = path.partition(".")
    new = RENAMED.get(section, {}).get(key)
    if not isinstance(new, str):
        return path
    said[path] = f"{section}.{new}"
    return said[path]
