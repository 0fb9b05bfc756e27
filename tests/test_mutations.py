"""The list of mistakes made on purpose stays true: each can still be made in the file that it names."""

import mutations
import pytest


@pytest.mark.parametrize(("file", "old", "new", "tests"), mutations.MUTATIONS)
def test_a_mistake_can_still_be_made(file, old, new, tests):
    assert old in (mutations.ROOT / "seqjax" / file).read_text() and old != new
    assert (mutations.ROOT / tests.split()[0]).is_file()
