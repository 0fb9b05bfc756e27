"""Makes text safe to print: removes control characters and passwords, and shortens long values."""

import re
import reprlib
import urllib.parse

# Control characters except tab and newline, characters that change the direction of text, and lone surrogates.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRET = re.compile(r"((?:pass\w*|pwd|secret|token)\s*=)([^&;\s]*)", re.IGNORECASE)


def clean(text: str) -> str:
    r"""Escapes characters that move the cursor or change colours: ESC becomes the four characters `\x1b`."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def hidden(address: str, text: str | None = None) -> str:
    """The address of a database (or a text about it) without its passwords, even if they contain `@`, `:` or `/`."""
    scheme, rest = re.fullmatch(r"([\w+.-]+://)?(.*)", address, re.DOTALL).groups("")
    user, colon, more = rest.partition(":")
    password, at, host = more.rpartition("@")
    if not at and scheme and "/" not in user and not re.match(r"\d+(/|\?|$)", more):  # without a host there is no port
        password, host = more, ""
    safe = f"{scheme}{user}:***{at}{host}" if colon and password else address
    safe = _SECRET.sub(r"\1***", safe)
    if text is None:
        return safe
    text = text.replace(address, safe)
    secrets = [password, password.rpartition(":")[2]] if colon else []
    for secret in (*secrets, *(found[2] for found in _SECRET.finditer(address))):
        for spelling in filter(None, (secret, urllib.parse.unquote(secret))):
            text = text.replace(spelling, "***")
    return text


def masked(text: str) -> str:
    """Hides the passwords in all addresses of a text; see `hidden`."""
    return re.sub(r"[\w+.-]+://\S+", lambda found: hidden(found[0]), text)


def shown(value, most: int = 100) -> str:
    """The `repr` of a value. A long one is cut in the middle."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits; deeply nested lists
        text = reprlib.repr(value) if not isinstance(value, int) else f"an int of {value.bit_length():,} bits"
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"
