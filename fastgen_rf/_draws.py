"""What a sampler asks of a backend: times, and pairs of times, made of uniform numbers.

Each class here is a :class:`~fastgen_rf.backends._standard.Draws`: it says how many uniform numbers n samples take, and
makes float64 timesteps of them, inside the bounds of the dtype already. All are hashable: static arguments of
``jax.jit``. Which law, which bounds and which dtype is :mod:`fastgen_rf.timesteps`' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fastgen_rf._laws import clamped_to
from fastgen_rf._typing import InverseCdf

__all__ = ["Pairs", "Quantile", "Times"]

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
        return self.law(clamped_to(u, 0.0, 1.0, xp), self.config, self.low, self.high, xp, special)

    __call__ = at


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
