"""What is held against the laws: a module, its parameters, and an input of the layouts of `rows`."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.mixers import Mixer
from seqjax.models import Model
from seqjax.testing import ways
from seqjax.testing.gradients import pull, zeros
from seqjax.testing.rows import B, L, S

EXACT, HALF = 2e-5, 0.1  # of the largest number of an array, where products are those of float32, and of bfloat16
SOURCE = ("source_BS", "source_mask_BS")


class Given(nn.Module):
    """A module that reads more than x, given the rest: side inputs follow from x, the second sequence never changes."""

    make: Callable  # called with the dtype
    dtype: str = "float32"

    def setup(self):
        self.inner = self.make(dtype=self.dtype)

    def second(self, batch):
        """The second sequence and its mask; what is masked cannot be read."""
        real_S = jnp.array([True, False, True, True])
        if isinstance(self.inner, Model):
            ids_S = jax.random.randint(jax.random.key(5), (S,), 0, self.inner.inputs.source_vocabulary)
            one_S = jnp.where(real_S, ids_S, 10**6)
        else:
            one_S = jnp.where(real_S[:, None], jax.random.normal(jax.random.key(5), (S, self.inner.width)), jnp.nan)
        return tuple(jnp.broadcast_to(a, (batch, *a.shape)) for a in (one_S, real_S))

    def init_state(self, batch):
        return self.inner.prefill(*self.second(batch)) if second(self.inner) else self.inner.init_state(batch)

    def __call__(self, x, state=None, **flags):
        flags |= {name: _side(x, name.rpartition("_BL")[2]) for name in sides(self.inner)}
        if state is not None or not second(self.inner):
            return self.inner(x, state, **flags)
        if isinstance(self.inner, Model):
            return self.inner(x, **dict(zip(SOURCE, self.second(len(x)), strict=True)), **flags)
        return self.inner(x, self.init_state(len(x)), **flags)[0], None

    def step(self, x, state, **flags):
        side = {name.replace("_BL", "_B", 1): _side(x, name.rpartition("_BL")[2]) for name in sides(self.inner)}
        return self.inner.step(x, state, **flags, **side)


def second(module) -> bool:
    """Whether a module reads a second sequence."""
    return getattr(module, "memory", False) or SOURCE[0] in module.side


def sides(module) -> list[str]:
    """The side inputs of a module, such as elapsed_BLF."""
    return [name for name in module.side if name not in SOURCE]


def _side(x, features: str):
    """A side input that follows from x: nowhere negative, and not finite where x is not. `features`: "" or "F"."""
    if x.dtype == jnp.int32:
        one = jnp.float32(x % 3) / 2
    else:
        real = jnp.isfinite(x[..., 0])
        one = jnp.where(real, jnp.abs(jnp.where(real, x[..., 0], 0)), jnp.nan).astype(jnp.float32)
    return one[..., None] if features else one


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A module that is held against the laws. Nothing is compiled before `params` is read.

    `own` is the module as it was given. `tolerance`: how far two results may be apart, as a part of the largest number
    of the wanted array, or of 1 if that is larger.

    Raises:
      ValueError: it is no mixer and no model of tokens or features, or needs what the laws cannot make.
    """

    own: nn.Module
    tolerance: float = EXACT

    def __post_init__(self):
        own = self.own
        if not isinstance(own, (Mixer, Model)):
            raise ValueError(
                f"got {type(own).__name__}, wanted a subclass of seqjax.mixers.Mixer or seqjax.models.Model."
            )
        try:
            hash(own)
        except TypeError as error:
            raise ValueError(f"{type(own).__name__} has a field that has no hash ({error}): use a tuple.") from error
        if isinstance(own, Model) and "characters" in own.inputs.fields:
            raise ValueError(f"{type(own).__name__} reads words, and the laws make only tokens and features.")
        if wide := [name for name in sides(own) if name.rpartition("_")[2] not in ("BL", "BLF")]:
            raise ValueError(f"{type(own).__name__} reads {wide[0]}, and the laws make only inputs ..._BL and ..._BLF.")

    @functools.cached_property
    def module(self) -> nn.Module:
        """The module, given all that it reads."""
        return Given(self.own.clone, self.own.dtype) if second(self.own) or sides(self.own) else self.own

    @property
    def dtype(self) -> str | None:
        """The declared dtype; None: it has none, and computes in float32."""
        return getattr(self.own, "dtype", None)

    def declared(self, dtype: str) -> nn.Module:
        """The module in another dtype, if it has any."""
        return self.module.clone(dtype=dtype) if self.dtype else self.module

    @functools.cached_property
    def x(self) -> np.ndarray:
        """The input: ids of tokens, or real vectors in the declared dtype."""
        draw = np.random.default_rng(0)
        if not self.real:
            return draw.integers(0, self.own.inputs.vocabulary, (B, L), np.int32)
        width = self.own.inputs.features if self.predicts else self.own.width
        return draw.normal(size=(B, L, width)).astype("float32").astype(jnp.dtype(self.dtype or "float32"))

    @property
    def real(self) -> bool:
        """Whether the input is real vectors, not tokens."""
        return not self.predicts or self.own.inputs.vocabulary is None

    @property
    def predicts(self) -> bool:
        """Whether it is a model."""
        return isinstance(self.own, Model)

    @functools.cached_property
    def shapes(self):
        """Shapes and dtypes of the parameters."""
        return jax.eval_shape(self.module.init, jax.random.key(1), self.x)

    @functools.cached_property
    def initial(self):
        """The parameters as they start."""
        return jax.device_get(jax.jit(lambda x: self.module.init(jax.random.key(1), x))(self.x))

    @functools.cached_property
    def params(self):
        """Parameters, none of them where it starts: mistakes hide behind biases that start at zero. Indices stay."""
        draw = np.random.default_rng(1)
        move = lambda p: p + 0.1 * draw.normal(size=p.shape).astype(p.dtype)
        return jax.tree.map(lambda p: move(p) if jnp.issubdtype(p.dtype, jnp.floating) else p, self.initial)

    def pull(self, params, x, state=None, mask=None, reset=None):
        """The output and the state after it; what turns their cotangents into gradients by params, x and state."""
        return pull(ways.apply, self.module, params, x, state, mask, reset)

    def __call__(self, *arguments):
        return self.pull(*arguments)[0]

    def begin(self, params):
        """The state before the first token, and what turns its cotangent into gradients by params."""
        (state, y), back = pull(ways.begin, self.module, params, self.x)
        return state, lambda by_state: back((by_state, zeros(y)))[0]

    @functools.cached_property
    def bare(self):
        """What steps give without mask and reset."""
        (_, y), _ = pull(ways.begin, self.module, self.params, self.x)
        return y


def rounding(dtype: str = "float32") -> float:
    """The tolerance for a declared dtype on this device, under the settings of this process for products.

    2e-5 where products are those of float32. Where they are not (TF32, bfloat16; jax_default_matmul_precision), it is
    thirty times the error of a product, which is measured. 0.1 for what is declared in half precision.
    """
    if dtype != "float32":
        return HALF
    a = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    wanted = np.float64(a) @ np.float64(a)
    return max(EXACT, 30 * float(np.abs(np.asarray(jnp.asarray(a) @ a) - wanted).max() / np.abs(wanted).max()))
