"""What reaches the screen: no escapes, no passwords, nothing endless."""

import logging

import launch
import pytest

from seqjax import runtime
from seqjax.screen import clean, hidden, masked, shown
from seqjax.training import progress


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sec@ret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me:sec/r:et@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me@work:secret@host/db", "postgresql+psycopg://me@work:***@host/db"),
        ("postgresql:/me:secret@host/db", "postgresql:***@host/db"),
        ("postgresql://me:secret", "postgresql://me:***"),
        ("me:secret@host/db", "me:***@host/db"),
        ("redis://:secret@host", "redis://:***@host"),
        ("postgresql://host/db?user=me&password=secret&sslmode=on", "postgresql://host/db?user=me&password=***&sslmode=on"),
        ("host=h PASSWORD=secret dbname=d", "host=h PASSWORD=*** dbname=d"),
    ],
)  # fmt: skip
def test_no_password_is_shown(address, safe):
    assert hidden(address) == safe
    password = next(word for word in ("sec@ret", "sec/r:et", "secret") if word in address)
    said = hidden(address, f"cannot connect to {address!r}: {password!r} is wrong")
    assert password not in said and safe in said
    if "://" in address:
        assert password not in masked(f"seqjax sweep --storage '{address}' --trials 3")


@pytest.mark.parametrize("address", ["sqlite:////a/b:c/study.db", "postgresql://me@host:5432/db", "redis://h:1", "x"])
def test_an_address_without_a_password_stays(address):
    assert hidden(address) == masked(address) == address


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\x9bb", "\r", "\x07", "\u202eb", "\x00", "\udc80"])
def test_no_character_moves_the_cursor(text, capsys):
    unseen = next(c for c in text if c not in "ab[31m")
    assert unseen not in clean(text) and "\\" in clean(text)
    assert clean("a\tb\nc é 漢") == "a\tb\nc é 漢"
    progress.console(soft_wrap=True).print(f"a {text}")
    progress.console().print(progress.parameters([(text, (1,), 1)]))
    record = logging.LogRecord("x", logging.INFO, "", 0, "said %s", (text,), None)
    printed = capsys.readouterr().out + runtime._Clean().format(record)
    assert unseen not in printed.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_names_of_others_reach_the_screen_escaped(tmp_path):
    file = launch.write(tmp_path / "c.json", launch.tiny() | {"a\x1b[31m": 1})
    said = launch.main("train", "--config", file, "--print_config").err
    assert "\\x1b[31m is not a key" in said and "\x1b" not in said


def test_what_is_long_is_cut_short():
    assert shown("a" * 9) == repr("a" * 9) and len(shown("a" * 10**6)) < 110
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) < 110 and shown(10**6000) == "an int of 19,932 bits"
