"""Times, pairs of times and indices as functions of uniform numbers.

Times, Pairs and Index are :class:`~fastgen_rf.backends._standard.Draws`. They say how many uniform numbers a number of
samples needs, and compute the samples from them in float64, inside the bounds of the dtype. All are hashable, because
they are static arguments of ``jax.jit``. The bounds of a dtype are computed here as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastgen_rf import _distributions
from fastgen_rf._config import SampleTimestepConfig
from fastgen_rf._tracing import cached, evaluated_by_tracer
from fastgen_rf.backends import Backend
from fastgen_rf.backends._standard import Draws

_BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class Times(Draws):
    """One time for each sample: the quantile function of a distribution, clipped to the bounds of a dtype."""

    config: Any
    low: float
    high: float
    stratified: bool = False

    def __call__(self, u: Any, xp: Any, special: Any, order: Any = None) -> tuple[Any, ...]:
        if self.stratified:
            place, stratum, n = _in_strata(u, order, xp)
            u = (stratum + place) / n
        return (self.at(u, xp, special),)

    def at(self, u: Any, xp: Any, special: Any) -> Any:
        """Return the timesteps at ``u`` in [0, 1]."""
        return xp.clip(_distributions.quantile(u, self.config, xp, special), self.low, self.high)


@dataclass(frozen=True)
class Pairs(Draws):
    """The larger and the smaller of two independent times. The smaller may be replaced by the larger, or by 0."""

    first: Times
    second: Times
    stratified: bool = False
    equal: float = 0.0
    zero: float | None = None

    count = 2
    # Two uniform numbers for the times, and one that chooses what to replace.
    leading = (3,)

    def __call__(self, u: Any, xp: Any, special: Any, order: Any = None) -> tuple[Any, ...]:
        if self.stratified:
            place, stratum, n = _in_strata(u, order, xp)
            u, chosen, start = (stratum + place) / n, place[2], stratum[2]
        else:
            n, chosen, start = 1, u[2], 0
        # JAX rounds 64 random bits to a float64, which may give 1.
        chosen = xp.clip(chosen, 0.0, _BELOW_ONE)
        first, second = self.first.at(u[0], xp, special), self.second.at(u[1], xp, special)
        t, r = xp.maximum(first, second), xp.minimum(first, second)
        # The sum start + chosen is uniform on (0, n). A pair has r = t if the sum is below n equal, and r = 0 if it is
        # at least n - n zero. The sum would be rounded, and the differences here are exact: equal = 0.75 gives 48 pairs
        # of 64, never 47 or 49.
        if self.zero is not None:
            r = xp.where(chosen >= n - n * self.zero - start, 0.0, r)
        return t, xp.where(chosen < n * self.equal - start, t, r)


def _in_strata(u: Any, order: Any, xp: Any) -> tuple[Any, Any, int]:
    """Places in strata, the number of the stratum of each sample, and the number of strata."""
    place = u[..., 0, :]
    if order is None:
        order = xp.argsort(u[..., 1, :])
    # The sum makes float64 numbers of the integers. Some namespaces would divide integers in float32.
    return place, order + 0 * place, u.shape[-1]


@dataclass(frozen=True)
class Index(Draws):
    """The index of one of k entries for each sample: the number of boundaries ``1/k, ..., (k-1)/k`` that are <= u."""

    k: int

    @property
    def boundaries(self) -> tuple[float, ...]:
        return _quotients(self.k)

    def __call__(self, u: Any, xp: Any, special: Any, order: Any = None) -> tuple[Any, ...]:
        # XLA replaces a division by a constant by a multiplication with its rounded reciprocal, which moves some
        # boundaries by 1 ulp. The select makes an array of the divisor that XLA does not recognize as a constant.
        divisor = xp.where(u == u, float(self.k), u)
        # The index is not floor(u k), because that product may round up to a whole number. Here the product only finds
        # the nearest boundary, and one comparison with this boundary decides.
        nearest = xp.floor(u * self.k + 0.5)
        index = xp.where(u < nearest / divisor, nearest - 1, nearest)
        return (xp.clip(index, 0.0, self.k - 1.0),)


# Dynamo takes a second to trace a loop of 1,000 steps.
@cached
@evaluated_by_tracer
def _quotients(k: int) -> tuple[float, ...]:
    return tuple(i / k for i in range(1, k))


def bounds(config: SampleTimestepConfig, backend: Backend, dtype: Any) -> tuple[float, float]:
    """Return the smallest and the largest value of ``dtype`` in ``[min_t, max_t]``."""
    eps, tiny = backend.finfo(dtype)
    low = on_grid(config.min_t, eps, tiny, math.ceil)
    high = on_grid(config.max_t, eps, tiny, math.floor)
    if low > high:
        raise ValueError(f"dtype {dtype} has no value in [min_t, max_t] = [{config.min_t!r}, {config.max_t!r}]")
    return low, high


@cached
@evaluated_by_tracer
def rounded_entries(entries: tuple[float, ...], eps: float, tiny: float) -> tuple[float, ...]:
    """Entries of a t_list, rounded to the nearest number of a dtype; an entry below 1 stays below 1."""
    below_one = on_grid(_BELOW_ONE, eps, tiny, math.floor)
    return tuple(1.0 if t == 1 else min(on_grid(t, eps, tiny, round), below_one) for t in entries)


def on_grid(x: float, eps: float, tiny: float, rounding: Any) -> float:
    """Round ``x`` to a number of a dtype, given the dtype's spacing above 1 and its smallest normal number."""
    spacing = max(2.0 ** (math.frexp(x)[1] - 1), tiny) * eps
    return float(rounding(x / spacing) * spacing)
