"""What a sampler asks of a backend: times, and pairs of times, made of uniform numbers.

Each class here is a :class:`~fastgen_rf.backends._standard.Draws`: it says how many uniform numbers n samples take, and
makes float64 timesteps of them, inside the bounds of the dtype already. All are hashable: static arguments of
``jax.jit``. The bounds of a dtype are found here as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fastgen_rf._config import SampleTimestepConfig
from fastgen_rf._tracing import evaluated_by_tracer
from fastgen_rf._typing import InverseCdf
from fastgen_rf.backends import Backend

__all__ = ["Pairs", "Quantile", "Times", "bounds", "on_grid", "rounded_entries"]

_BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class Quantile:
    """A law at one config, bounded: a function of u in [0, 1]."""

    law: InverseCdf
    config: Any
    low: float
    high: float

    def at(self, u: Any, xp: Any, special: Any) -> Any:
        """Evaluate the law at ``u``, between the bounds."""
        return xp.clip(self.law(xp.clip(u, 0.0, 1.0), self.config, xp, special), self.low, self.high)


@dataclass(frozen=True)
class Times:
    """One time for each sample."""

    quantile: Quantile
    stratified: bool = False

    count: ClassVar[int] = 1
    rows: ClassVar[tuple[int, ...]] = ()

    def shape(self, n: int) -> tuple[int, ...]:
        """Shape of the uniform numbers of n samples; stratified, places and numbers that order the strata."""
        return (*self.rows, 2, n) if self.stratified else (*self.rows, n)

    def __call__(self, u: Any, xp: Any, special: Any) -> tuple[Any, ...]:
        if self.stratified:
            place, order = u[..., 0, :], u[..., 1, :]
            # Strata as wide as u: beside a number, integers may come out in a namespace's default dtype.
            return self.times(place, xp.argsort(order) + 0 * place, u.shape[-1], xp, special)
        return self.times(u, 0, 1, xp, special)

    def times(self, u: Any, stratum: Any, n: Any, xp: Any, special: Any) -> tuple[Any, ...]:
        """Times at places ``u`` in strata of n that are numbered from 0; one stratum is none."""
        return (self.quantile.at((stratum + u) / n, xp, special),)


@dataclass(frozen=True)
class Pairs(Times):
    """The larger and the smaller of two independent times, or the larger one twice."""

    equal: float = 0.0

    count: ClassVar[int] = 2
    rows: ClassVar[tuple[int, ...]] = (3,)

    def times(self, u: Any, stratum: Any, n: Any, xp: Any, special: Any) -> tuple[Any, ...]:
        """The larger times and the smaller; the third row of ``u`` says where both are the larger."""
        strata = (stratum,) * 3 if isinstance(stratum, int) else stratum
        first, second = (self.quantile.at((strata[i] + u[i]) / n, xp, special) for i in range(2))
        place = xp.clip(u[2], 0.0, _BELOW_ONE)  # a backend's u may round to 1
        is_equal = place < n * self.equal - strata[2]  # exact: 48 of 64 at 0.75, never one more or less
        t = xp.maximum(first, second)
        return t, xp.where(is_equal, t, xp.minimum(first, second))


def bounds(config: SampleTimestepConfig, backend: Backend, dtype: Any) -> tuple[float, float]:
    """Outermost values of ``dtype`` inside ``[min_t, max_t]``."""
    eps, tiny = backend.finfo(dtype)
    low = on_grid(config.min_t, eps, tiny, math.ceil)
    high = on_grid(config.max_t, eps, tiny, math.floor)
    if low > high:
        raise ValueError(f"dtype {dtype} has no value in [min_t, max_t] = [{config.min_t!r}, {config.max_t!r}]")
    return low, high


# Dynamo takes a second to trace this for 1,000 entries.
@evaluated_by_tracer
def rounded_entries(entries: tuple[float, ...], eps: float, tiny: float) -> tuple[float, ...]:
    """Entries of a t_list, rounded to the nearest number of a dtype; an entry below 1 stays below 1."""
    below_one = on_grid(_BELOW_ONE, eps, tiny, math.floor)
    return tuple(1.0 if t == 1 else min(on_grid(t, eps, tiny, round), below_one) for t in entries)


def on_grid(x: float, eps: float, tiny: float, rounding: Any) -> float:
    """``x`` rounded by ``rounding`` to a number of the dtype with this spacing above 1 and smallest normal number."""
    spacing = max(2.0 ** (math.frexp(x)[1] - 1), tiny) * eps
    return float(rounding(x / spacing) * spacing)
