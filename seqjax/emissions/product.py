"""Columns of several kinds."""

import dataclasses
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.emissions._base import Emission as _Emission
from seqjax.spec import Spec
from seqjax.types import Count, Part


class Product(_Emission, kw_only=True):
    """Product: the columns of the features are divided among emissions, which are independent given the state.

        p(x | z = k) = prod_i p_i(x_i | z = k)

    `emissions` is a list of them, and `columns` how many columns each reads, in the order of the features; an empty
    list: one each.

    Raises:
      ValueError: the columns do not add up to those of the features.
    """

    emissions: Annotated[Callable | tuple, Part("seqjax.emissions", "Emission", many=True)]
    columns: tuple[Count, ...] = ()

    kinds = ("real",)

    def __post_init__(self):
        super().__post_init__()
        count, F = len(self._factories), self.field.shape[-1]
        if len(self._columns) != count or sum(self._columns) != F:
            raise ValueError(
                f"a product of {count} emissions with columns={list(self._columns)} reads {sum(self._columns)} columns "
                f"of {F} features: give columns one number per emission, which add up to {F}."
            )
        self.parts()

    @property
    def complete(self) -> bool:
        """Whether all of its emissions are."""
        return all(part.complete for part in self.parts())

    @property
    def solvable(self):
        return all(part.solvable for part in self.parts())

    @property
    def _factories(self) -> tuple:
        return tuple(self.emissions) if isinstance(self.emissions, (tuple, list)) else (self.emissions,)

    @property
    def _columns(self) -> tuple:
        return self.columns or (1,) * len(self._factories)

    @nn.nowrap
    def parts(self, parent=None) -> list[_Emission]:
        """Its emissions; unbound unless called in `setup`."""
        given = dict(states=self.states, groups=self.groups, parent=parent)
        own = [
            Spec({"features": dataclasses.replace(self.field, shape=(n,))}, {"L": self.inputs.length})
            for n in self._columns
        ]
        made = enumerate(zip(self._factories, own, strict=True))
        return [make(inputs=inputs, **given, name=f"emissions_{i}") for i, (make, inputs) in made]

    @property
    def free_parameters(self):
        return sum(part.free_parameters for part in self.parts())

    def setup(self):
        self.inner = self.parts(parent=self)

    @nn.nowrap
    def cut(self, x) -> list:
        """The columns of each emission; of None, None for each."""
        places = pairwise(accumulate(self._columns, initial=0))
        return [None if x is None else x[..., start:end] for start, end in places]

    @nn.nowrap
    def each(self, of, *trees) -> dict:
        """`of(emission, *tree of the emission)` of all of them, by their names."""
        return {part.name: of(part, *(tree[part.name] for tree in trees)) for part in self.parts()}

    def __call__(self, x, observed=None):
        self.check(x)
        given = zip(self.inner, self.cut(x), self.cut(observed), strict=True)
        return sum(part(one, seen) for part, one, seen in given)

    def statistics(self, x, weight_BLK, observed=None, hard=False):
        self.check(x)
        given = zip(self.inner, self.cut(x), self.cut(observed), strict=True)
        return {part.name: part.statistics(one, weight_BLK, seen, hard) for part, one, seen in given}

    def sample(self, key, state_X):
        keys = jax.random.split(key, len(self.inner))
        drawn = [part.sample(one, state_X) for part, one in zip(self.inner, keys, strict=True)]
        return jnp.concatenate(drawn, axis=-1)

    @nn.nowrap
    def describe(self, params, symbol, first=0):
        firsts = dict(zip((part.name for part in self.parts()), accumulate(self._columns, initial=first), strict=False))
        each = self.each(lambda part, of: part.describe(of, symbol, firsts[part.name]), params)
        return ["; ".join(texts) for texts in zip(*each.values(), strict=True)]

    @nn.nowrap
    def solve(self, statistics, params):
        return self.each(lambda part, *of: part.solve(*of), statistics, params)

    @nn.nowrap
    def recentre(self, statistics, params, new):
        return self.each(lambda part, *of: part.recentre(*of), statistics, params, new)

    @nn.nowrap
    def log_prior(self, statistics, params):
        return sum(self.each(lambda part, *of: part.log_prior(*of), statistics, params).values())

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init=1):
        given = zip(self.parts(), self.cut(x), self.cut(observed), strict=True)
        return {part.name: part.begin(params[part.name], one, state_BL, key, seen, n_init) for part, one, seen in given}


Emission = Product
