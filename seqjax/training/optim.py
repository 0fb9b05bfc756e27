"""Optimisers of optax, chosen by config, with warm-up, schedule, clipping and decoupled weight decay."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax

from seqjax import lookup
from seqjax.training import groups
from seqjax.training.groups import Group, Rule
from seqjax.types import Checked, Fraction, Natural, NonNegative, Positive, Range

# adamw is adam here: `Optim.build` adds the weight decay, in the same way for all optimisers.
OPTIMISERS = {
    "adamw": optax.adam,
    "adam": optax.adam,
    "sgd": optax.sgd,
    "rmsprop": optax.rmsprop,
    "adafactor": optax.adafactor,
    "lion": functools.partial(optax.lion, weight_decay=0.0),  # its default is not 0
    "muon": optax.contrib.muon,
}
# Options of optax that are set by other keys of this section, or by the model.
TAKEN = {"learning_rate", "weight_decay", "weight_decay_rate", "weight_decay_mask", "mask"}
TAKEN |= {"muon_weight_dimension_numbers"}
TAKEN |= {"adam_learning_rate", "adam_weight_decay"}  # for the parameters that muon leaves to adam


def by_rank(params):
    """For each parameter, whether it has several axes. It needs no knowledge of the modules."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


@dataclasses.dataclass(frozen=True)
class Optim(Checked):
    """The optimiser and its schedule.

        g <- g * min(1, clip_norm / |g|)
        u <- optimiser(g) + weight_decay * theta     (decay only for matrices)
        theta <- theta - lr(step) * u

    lr rises linearly from 0 to `learning_rate` over `warmup_steps` steps. Then it falls along a cosine or a line to
    `final_scale` * `learning_rate` at the last step, or stays constant. `options` are passed to the optax function
    `name` (`options.b2=0.95`). Matrices are weights that multiply features, kernels of convolutions, and embedding
    tables. Biases, scales of norms, states and the `vectors` of a module are no matrices (`vectors` have several axes,
    but hold one vector for each head or gate). "muon" updates matrices of two axes and leaves the rest to adam.
    `ema_decay` keeps an exponential moving average of the parameters, which is then used to evaluate and decode.

    `groups` give parameters other rates, freeze them, or start them later (see `groups.Group`). With `layer_decay`, the
    rate falls from the head to the embedding (Howard and Ruder 2018, arXiv:1801.06146):

        lr_i(step) = layer_decay^(n - i) * lr(step)     for block i = 0, ..., n - 1 of a stack of n blocks

    The exponent is n + 1 for embeddings, where n is the size of the largest stack, and 0 for all other parameters.
    """

    name: Literal["adamw", "adam", "sgd", "rmsprop", "adafactor", "lion", "muon"] = "adamw"
    learning_rate: Positive = 1e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Natural = 0
    final_scale: Fraction = 0.1
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = 1.0
    ema_decay: Fraction | None = None
    groups: tuple[Group, ...] = ()
    layer_decay: Annotated[float, Range(above=0, below=1)] | None = None
    options: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        signature = inspect.signature(OPTIMISERS[self.name]).parameters
        known = {k: p.default for k, p in signature.items() if k not in TAKEN}
        for key, value in self.options.items():
            if key not in known:
                near = lookup.nearest(key, known)
                raise ValueError(f"options.{key} is not an option of {self.name}.{near} It has {', '.join(known)}.")
            if isinstance(known[key], (int, float)) and not isinstance(value, (int, float)):
                raise ValueError(f"options.{key}: got {value!r}, wanted a number or a bool, as in {known[key]!r}.")
        if self.options:
            tx, some = self._optimiser(by_rank), jax.ShapeDtypeStruct((2, 2), "float32")
            try:
                jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), some)
            except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
                raise ValueError(f"options={self.options}: {self.name} refuses them: {error}") from error
        if self.name == "adam" and self.weight_decay:
            raise ValueError(f"weight_decay={self.weight_decay} is not an option of adam: choose adamw.")

    def rate(self, steps: int):
        """step -> learning rate, over a run of `steps`."""
        after = max(steps - self.warmup_steps - 1, 1)  # steps are counted from 0
        main = {
            "cosine": optax.cosine_decay_schedule(self.learning_rate, after, self.final_scale),
            "linear": optax.linear_schedule(self.learning_rate, self.learning_rate * self.final_scale, after),
            "constant": optax.constant_schedule(self.learning_rate),
        }[self.schedule]
        if not self.warmup_steps:
            return main
        # The first step already learns: warm-up ends at `learning_rate` after exactly `warmup_steps` steps.
        lowest = self.learning_rate / self.warmup_steps
        rise = optax.linear_schedule(lowest, self.learning_rate, max(self.warmup_steps - 1, 1))
        return optax.join_schedules([rise, main], [self.warmup_steps])

    def build(self, steps: int, matrices: Callable = by_rank) -> optax.GradientTransformation:
        """The optax chain for a run of `steps`. Its update takes the `step`, as skipped steps count in the schedule.

        `matrices` maps parameters to whether each is a matrix: see `seqjax.training.state.matrices`.
        """
        return optax.chain(
            *([_stateless(self.trained)] if self.groups else []),
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
            self._parted(self._optimiser(matrices)),
            *(self._decays(matrices) if self.weight_decay else [optax.identity()]),
            _stateless(functools.partial(self._scaled, self.rate(steps))),
        )

    def rules(self, params) -> dict[str, Rule]:
        """Path -> how each parameter is trained. Raises ConfigError if `groups` do not fit the parameters."""
        return groups.rules(self.groups, self.layer_decay, params)

    def told(self, params) -> list[str]:
        """What `groups` and `layer_decay` do with the parameters: one line each."""
        return groups.told(self.groups, self.layer_decay, params)

    def trained(self, step, new, old=None):
        """`new` for the parameters that train at `step`, and `old` (None: zero) for those that are frozen then."""
        if not self.groups:
            return new

        def one(rule, new, old):
            if not rule.start:
                return old if rule.start is None else new
            return jnp.where(step >= rule.start, new, old)

        return groups.each(one, self.rules(new), new, jax.tree.map(jnp.zeros_like, new) if old is None else old)

    def _optimiser(self, matrices: Callable) -> optax.GradientTransformation:
        roles = {"muon_weight_dimension_numbers": _turned_by_muon(matrices)} if self.name == "muon" else {}
        return OPTIMISERS[self.name](learning_rate=1.0, **self.options, **roles)

    def _parted(self, tx: optax.GradientTransformation) -> optax.GradientTransformation:
        """The optimiser; if `groups` start at several steps, one for each step, and none for frozen parameters."""
        starts = sorted({group.from_step for group in self.groups} | {0})
        frozen = any(not group.rate for group in self.groups)
        if starts == [0] and not frozen:
            return tx
        label = lambda rule, _: "frozen" if rule.start is None else f"from_{rule.start}"
        parts = {f"from_{start}": _from(start, tx) for start in starts} | {"frozen": optax.set_to_zero()}
        return optax.partition(parts, lambda updates: groups.each(label, self.rules(updates), updates))

    def _decays(self, matrices: Callable) -> list[optax.GradientTransformation]:
        """Weight decay, once for each factor in `groups`. The update of the optimiser already has a negative sign."""

        def mask(factor, params):
            one = lambda rule, is_matrix: is_matrix and rule.decay == factor
            return groups.each(one, self.rules(params), matrices(params))

        factors = sorted({group.decay for group in self.groups if group.decay} | {1.0})
        return [optax.add_decayed_weights(-self.weight_decay * f, functools.partial(mask, f)) for f in factors]

    def _scaled(self, schedule: Callable, step, updates):
        rate = schedule(step)
        one = lambda rule, u: ((rate if rule.rate == 1 else rule.rate * rate) * u).astype(u.dtype)
        return self.trained(step, groups.each(one, self.rules(updates), updates))


def _stateless(function: Callable) -> optax.GradientTransformationExtraArgs:
    """A transformation that maps (step, updates) to updates."""
    update = lambda updates, state, params=None, *, step, **_: (function(step, updates), state)
    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _from(start: int, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """The transformation, whose state stays the initial one before the step `start`."""
    if not start:
        return tx
    tx = optax.with_extra_args_support(tx)

    def update(updates, state, params=None, *, step, **more):
        updates, new = tx.update(updates, state, params, step=step, **more)
        return updates, jax.tree.map(lambda n, o: jnp.where(step >= start, n, o), new, state)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _turned_by_muon(matrices: Callable) -> Callable:
    axes = optax.contrib.MuonDimensionNumbers()
    # optax also passes a tree in which the parameters that muon does not update are masked.
    one = lambda is_matrix, p: axes if is_matrix and not isinstance(p, optax.MaskedNode) and p.ndim == 2 else None
    return lambda params: jax.tree.map(one, matrices(params), params)
