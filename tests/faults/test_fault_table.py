"""The table of faults, and the promises of the README, name tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from table import TABLE

TESTS = Path(__file__).parents[1]
PENDING: set[int] = set()  # rows whose tests are being written


@cache
def functions(file: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(file.read_text())
    return {f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")}


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (TESTS / file).is_file() and name in functions(TESTS / file)


def test_all_faults_are_there():
    assert set(range(1, 57)) <= set(TABLE)


@pytest.mark.parametrize("row", [row for row in TABLE if row not in PENDING])
def test_every_fault_has_a_test(row):
    sentence, *tests = TABLE[row]
    assert sentence.endswith(".") and tests
    for test in tests:
        assert exists(test), f"row {row}: there is no {test}"


def test_the_promises_of_the_readme_have_tests():
    section = (TESTS.parent / "README.md").read_text().partition("\n## Promises\n")[2].partition("\n## ")[0]
    promises = re.findall(r"^\d\. .*?(?=^\d\. |\Z)", section, re.MULTILINE | re.DOTALL)
    assert len(promises) == 5
    for promise in promises:
        named = re.findall(r"`tests/([^`]*::[^`]*)`", promise)
        assert named and all(map(exists, named)), promise
