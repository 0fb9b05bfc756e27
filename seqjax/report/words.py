"""Formats numbers and text for readers, in the same way in tables, figures, HTML and markdown."""

import json
import math
import re
import shlex
from pathlib import Path

from seqjax.metrics import Way

NONE = "–"
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# C0 and C1 controls except tab and newline, halves of surrogate pairs, and code points that are not characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Replaces unprintable characters by U+FFFD, and CRLF by a newline."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))


def metric(name: str, way: Way | None) -> str:
    """`bits_per_byte` -> `bits per byte ↓`: the arrow says which way is better, if that is known."""
    arrow = {"more": "\u00a0↑", "less": "\u00a0↓", None: ""}[way]
    return f"{name.replace('_', ' ')}{arrow}"


def listed(names) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def counted(n: int, noun: str) -> str:
    """`1 seed`, `1,200 seeds`."""
    return f"{count(n)} {noun}{'s' * (n != 1)}"


def number(value: float | None) -> str:
    """A metric: four decimals, or three digits for very small and very large values."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def count(value: float | None) -> str:
    """A whole number: `1,234,567`."""
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else NONE


def short(value: float, *_) -> str:
    """A tick of an axis: `1.5k`, `20M`, `0.001`; also a matplotlib formatter."""
    size, unit = next(((s, u) for s, u in _PREFIXES if abs(value) >= s), (1, ""))
    return f"{value / size:.6g}{unit}"


def flops(value: float | None) -> str:
    """`3.21e12` -> `3.21 TFLOP`."""
    if value is None or not math.isfinite(value):
        return NONE
    # 999.5 of the unit below are 1,000 in three digits.
    return next((f"{three(value / s)} {u}FLOP" for s, u in _PREFIXES[:-1] if value >= 0.9995 * s), f"{value:,.0f} FLOP")


def three(value: float) -> str:
    """Three digits, or all digits before the point: `0.0312`, `31.2`, `1,012`."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 60:
        return f"{value:.3g} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def value(tree) -> str:
    """A leaf of a config: strings unchanged, all else as JSON."""
    return tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)


def train(config: str | Path, workdir: str | Path = "NEW") -> str:
    """The shell command that trains a config."""
    return f"seqjax train --config {shlex.quote(str(config))} --workdir {shlex.quote(str(workdir))}"


def model(section: dict) -> tuple[str, str]:
    """A short description of a model section, and its details: `2 × gru` and `lm, width 128`."""
    layers = f"{section['layers']}\u00a0×\u00a0" if "layers" in section else ""
    width = f"width {section['width']}" if "width" in section else ""
    if not section.get("mixer"):
        return layers + section["name"], width
    mixers = section["mixer"] if isinstance(section["mixer"], list) else [section["mixer"]]
    names = " + ".join(mixer["name"] if isinstance(mixer, dict) else value(mixer) for mixer in mixers)
    mixed = f"({names})" if layers and len(mixers) > 1 else names
    return layers + mixed, ", ".join(filter(None, [section["name"], width]))


def given(sample) -> str:
    """The prompt of a sample, or the source that it answers."""
    return sample.prompt if sample.source is None else f"{sample.source} \N{RIGHTWARDS ARROW} "


def sampling(sample) -> str:
    """How a sample was drawn: `temperature 0.8, top-k 40, seed 0, step 4,500, log-probability -12.3`."""
    settings = {
        "wanted": sample.wanted,
        "temperature": sample.temperature,
        "top-k": sample.top_k,
        "top-p": sample.top_p,
        "seed": sample.seed,
        "step": None if sample.step is None else count(sample.step),
        "log-probability": None if sample.score is None else f"{sample.score:.1f}",
    }
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)
