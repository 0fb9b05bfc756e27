"""A mixer that holds the laws, and what others make wrong, each in one place."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer
from seqjax.mixers.attention import Attention
from seqjax.ops import linear


class Right(Mixer):
    """h_t = a * h_{t-1} + (1 - a) * W x_t, with a learned a per feature and dropout of the input."""

    dropout: float = 0.5

    def setup(self):
        self.logit = self.param("logit", nn.initializers.constant(2.0), (self.width,))
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.width, self.width))
        self.drop = nn.Dropout(self.dropout)

    @nn.nowrap
    def init_state(self, batch):
        return {"h": jnp.zeros((batch, self.width), jnp.float32)}

    def read(self, x_BLD, mask_BL):
        """The input of the recurrence."""
        return masks.fill(x_BLD, mask_BL).astype(jnp.float32) @ self.kernel

    def recur(self, u_BLD, h_BD, mask_BL, reset_BL):
        """The recurrence."""
        a_BLD = jnp.broadcast_to(nn.sigmoid(self.logit), u_BLD.shape)
        return linear.diagonal(a_BLD, (1 - a_BLD) * u_BLD, h_BD, mask_BL, reset_BL)

    def end(self, y_BLD, x_BLD, mask_BL):
        """The output."""
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        before = self.init_state(len(x_BLD)) if state is None else state
        u_BLD = self.drop(self.read(x_BLD, mask_BL), deterministic=deterministic)
        h_BLD, h_BD = self.recur(u_BLD, before["h"].astype(jnp.float32), mask_BL, reset_BL)
        after = {"h": h_BD.astype(before["h"].dtype)}
        return self.end(h_BLD, x_BLD, mask_BL), None if state is None else after


class Deaf(Right):
    """Ignores resets."""

    def recur(self, u_BLD, h_BD, mask_BL, reset_BL):
        return super().recur(u_BLD, h_BD, mask_BL, None)


class Restless(Right):
    """Its state decays at masked tokens."""

    def recur(self, u_BLD, h_BD, mask_BL, reset_BL):
        real = reset_BL if mask_BL is None or reset_BL is None else reset_BL & mask_BL
        h_BLD, h_BD = super().recur(masks.fill(u_BLD, mask_BL), h_BD, None, real)
        return h_BLD, h_BD


class Jumpy(Right):
    """Counts a reset on a masked token."""

    def recur(self, u_BLD, h_BD, mask_BL, reset_BL):
        if reset_BL is None or mask_BL is None:
            return super().recur(u_BLD, h_BD, mask_BL, reset_BL)
        a_BLD = jnp.where(mask_BL[..., None], nn.sigmoid(self.logit)[None, None], 1.0)
        u_BLD = masks.fill((1 - nn.sigmoid(self.logit)[None, None]) * u_BLD, mask_BL)
        return linear.diagonal(a_BLD, u_BLD, h_BD, None, reset_BL)


class Prophet(Right):
    """Sees one token ahead."""

    def read(self, x_BLD, mask_BL):
        u_BLD = super().read(x_BLD, mask_BL)
        return u_BLD + jnp.pad(u_BLD[:, 1:], [(0, 0), (0, 1), (0, 0)])


class Forgetful(Right):
    """Starts every chunk anew."""

    def recur(self, u_BLD, h_BD, mask_BL, reset_BL):
        return super().recur(u_BLD, jnp.zeros_like(h_BD), mask_BL, reset_BL)


class Late(Right):
    """Puts out what it had read before the token."""

    def recur(self, u_BLD, h_BD, mask_BL, reset_BL):
        h_BLD, end_BD = super().recur(u_BLD, h_BD, mask_BL, reset_BL)
        rest_BLD = h_BLD - (1 - nn.sigmoid(self.logit)[None, None]) * u_BLD
        return rest_BLD, end_BD


class Half(Right):
    """Keeps its state in float16."""

    @nn.nowrap
    def init_state(self, batch):
        return {"h": jnp.zeros((batch, self.width), jnp.float16)}


class Counting(Right):
    """Adds positions that count masked tokens."""

    @nn.nowrap
    def init_state(self, batch):
        return super().init_state(batch) | {"count": jnp.zeros((batch,), jnp.int32)}

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        before = self.init_state(len(x_BLD)) if state is None else state
        real_BL = reset_BL if mask_BL is None or reset_BL is None else reset_BL & mask_BL
        position_BL = masks.positions(x_BLD.shape[:2], None, real_BL, before["count"])
        u_BLD = self.read(x_BLD, mask_BL) + 0.1 * position_BL[..., None]
        h_BLD, h_BD = self.recur(masks.fill(u_BLD, mask_BL), before["h"], mask_BL, reset_BL)
        after = {"h": h_BD, "count": position_BL[:, -1] + 1}
        return self.end(h_BLD, x_BLD, mask_BL), None if state is None else after


class Leaky(Right):
    """Hands a gradient to what stands under the mask, as a straight-through estimator does."""

    def end(self, y_BLD, x_BLD, mask_BL):
        y_BLD = super().end(y_BLD, x_BLD, mask_BL)
        if mask_BL is None:
            return y_BLD
        through_BLD = masks.fill(jnp.nan_to_num(x_BLD), ~mask_BL)
        return y_BLD + through_BLD - jax.lax.stop_gradient(through_BLD)


class Mixing(Right):
    """Hands a gradient to the masked token before."""

    def read(self, x_BLD, mask_BL):
        u_BLD = super().read(x_BLD, mask_BL)
        if mask_BL is None:
            return u_BLD
        through_BLD = jnp.nan_to_num(x_BLD.astype(jnp.float32))
        nothing_BLD = masks.fill(through_BLD - jax.lax.stop_gradient(through_BLD), ~mask_BL)
        return u_BLD + jnp.pad(nothing_BLD[:, :-1], [(0, 0), (1, 0), (0, 0)])


class Hiding(Right):
    """Hides the NaN of a masked token behind where, but not from the gradient."""

    def read(self, x_BLD, mask_BL):
        return masks.fill(jnp.tanh(x_BLD.astype(jnp.float32) @ self.kernel), mask_BL)


class Loud(Right):
    """Gives a bias at masked tokens, too."""

    def end(self, y_BLD, x_BLD, mask_BL):
        return (y_BLD + self.logit[None, None]).astype(x_BLD.dtype)


class Faint(Right):
    """Gives zero at masked tokens, and yet its parameters get a gradient from there."""

    def end(self, y_BLD, x_BLD, mask_BL):
        y_BLD = super().end(y_BLD, x_BLD, mask_BL)
        if mask_BL is None:
            return y_BLD
        nothing_BLD = jnp.broadcast_to(self.logit - jax.lax.stop_gradient(self.logit), y_BLD.shape)
        return y_BLD + masks.fill(nothing_BLD, ~mask_BL).astype(y_BLD.dtype)


class Turned(Right):
    """The batch is the last axis of its state."""

    @nn.nowrap
    def init_state(self, batch):
        return {"h": jnp.zeros((self.width, batch), jnp.float32)}

    def recur(self, u_BLD, h_DB, mask_BL, reset_BL):
        h_BLD, h_BD = super().recur(u_BLD, h_DB.T, mask_BL, reset_BL)
        return h_BLD, h_BD.T


class Stumbling(Right):
    """Its step is not its call."""

    def step(self, x_BD, state, *, mask_B=None, reset_B=None):
        y_BD, after = super().step(x_BD, state, mask_B=mask_B, reset_B=reset_B)
        return y_BD, {"h": jnp.where(mask_B[:, None], y_BD, state["h"]) * 0.5} if mask_B is not None else after


@jax.custom_vjp
def _square(x):
    return x * x


_square.defvjp(lambda x: (x * x, x), lambda x, c: (x * c,))


class Sloppy(Right):
    """A backward pass written by hand that forgets a factor of two."""

    def read(self, x_BLD, mask_BL):
        return _square(super().read(x_BLD, mask_BL))


class Steep(Right):
    """Takes the root of zero."""

    def read(self, x_BLD, mask_BL):
        return super().read(x_BLD, mask_BL) + jnp.sqrt(0 * self.logit)[None, None]


class Wide(Right):
    """Its output is always float32."""

    def end(self, y_BLD, x_BLD, mask_BL):
        return masks.fill(y_BLD, mask_BL)


class Rounding(Right):
    """Adds up in half precision."""

    def read(self, x_BLD, mask_BL):
        u_BLD = super().read(x_BLD, mask_BL)
        return u_BLD if x_BLD.dtype == jnp.float32 else u_BLD + 0.3


class Changing(Right):
    """Returns its state in another structure."""

    def __call__(self, x_BLD, state=None, **flags):
        y_BLD, after = super().__call__(x_BLD, state, **flags)
        return y_BLD, None if after is None else after["h"]


class Raising(Right):
    """Raises where it is given a mask."""

    def read(self, x_BLD, mask_BL):
        if mask_BL is not None:
            raise KeyError("no mask, please")
        return super().read(x_BLD, mask_BL)


class Trusting(Right):
    """Does not look at its arguments."""

    def check(self, x_BLD, state, mask_BL, reset_BL):
        pass

    def read(self, x_BLD, mask_BL):
        return super().read(x_BLD[..., : self.width], mask_BL)


class Overflowing(Attention):
    """Drops what does not fit into its cache without a word."""

    def __call__(self, x_BLD, state=None, **flags):
        y_BLD, state = super().__call__(x_BLD, state, **flags)
        return jnp.nan_to_num(y_BLD), state


# Who breaks which laws; a phrase that the report of the first must have.
MISTAKES = {
    Changing: (["shapes"], "wanted {'h': 'float32[20, 4]'}"),
    Wide: (["shapes"], "the output is float32[20, 6, 4], wanted bfloat16[20, 6, 4]"),
    Raising: (["shapes"], "it raised KeyError: 'no mask, please'"),
    Half: (["dtypes"], "the state h is float16[20, 4], wanted float32"),
    Trusting: (["refusals"], "a wrong width or rank was taken without a word"),
    Steep: (["finite"], "by the parameter logit"),
    Prophet: (["causal"], "in a row xxxxxx, the output at token 0 depends on token 1"),
    Restless: (["padding"], "a decay must be 1"),
    Counting: (["padding"], "positions count masked tokens"),
    Deaf: (["resets"], "reset_BL is not read"),
    Jumpy: (["packing"], "xxrxRx\n"),
    Leaky: (["content"], "the gradient of masked outputs by the input differs"),
    Hiding: (["content"], "by the parameter kernel differs"),
    Mixing: (["content"], "the gradient by masked input differs"),
    Faint: (["content"], "the gradient of masked outputs by the parameter logit"),
    Loud: (["content"], "the output at masked tokens differs"),
    Forgetful: (["chunks"], "the output in chunks of 2, 4 differs"),
    Stumbling: (["steps"], "step has code of its own"),
    Turned: (["gather"], "of a batch of 20 rows the state is {'h': 'float32[4, 20]'}: h has another first axis"),
    Late: (["sight"], "token 0 does not depend on its own token 0"),
    Sloppy: (["slopes"], "and the gradient says"),
    Rounding: (["low-precision"], "the output in bfloat16 differs"),
    Overflowing: (["full-cache"], "token 8: got"),
}
