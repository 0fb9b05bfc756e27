"""Windows that slide over a text: each token is asked for once, with as much context as there is."""

import numpy as np
import pytest
from test_streams import Counted

from seqjax.data import Loader, Sliding, copy
from seqjax.types import ConfigError


@pytest.mark.parametrize(("count", "context", "stride"), [(26, 6, 2), (26, 6, 6), (25, 7, 3), (4, 8, 4), (9, 8, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_token_is_asked_for_once_with_context(count, context, stride, batch):
    source = Counted(count=count, length=8, begins=(0, 11))
    of = Sliding(
        source, "validation", Loader(batch_size=batch, buckets=(9,), places=99), context=context, stride=stride
    )
    asked = []
    for one in of.iterate(0, of.per_epoch):
        assert one["tokens"].shape == (batch, context + 1)  # whatever the loader has for training
        for row in np.flatnonzero(one["weight"]):
            real = one["mask"][row]
            tokens, scored = one["tokens"][row][real], one["scored"][row][real]
            assert (np.diff(tokens) == 1).all() and (one["reset"][row][real] == np.isin(tokens, (0, 11))).all()
            asked += tokens[scored].tolist()
            assert tokens[scored][0] - tokens[0] >= min(context - stride + 1, tokens[scored][0])
    assert asked == list(range(1, count))


def test_independent_examples_are_refused():
    with pytest.raises(ConfigError, match="needs running text, but the examples of this source are independent"):
        Sliding(copy.Source(), "validation", Loader(), context=4, stride=2)
