"""Formulas, and the operands on which they can be evaluated.

A :class:`Formula` uses the operators of :class:`Operand` and the functions of :class:`Ops`. Its operands are Python
floats, float64 arrays, or one of four classes: :class:`~fastgen_rf.arithmetic._triple_float32.TripleFloat32` is
float64 arithmetic on devices without float64, :class:`~fastgen_rf.arithmetic._slope.Slope` a value with its derivative,
:class:`~fastgen_rf.arithmetic._term.Term` source text, and :class:`~fastgen_rf.arithmetic._inplace.InPlace` a block of
an array that the operators overwrite. Nothing here names a framework or a formula.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias


class Operand(Protocol):
    """The operators that a formula may use; the other operand may be a Python float."""

    def __neg__(self, /) -> Operand: ...
    def __add__(self, other: Any, /) -> Operand: ...
    def __radd__(self, other: Any, /) -> Operand: ...
    def __sub__(self, other: Any, /) -> Operand: ...
    def __rsub__(self, other: Any, /) -> Operand: ...
    def __mul__(self, other: Any, /) -> Operand: ...
    def __rmul__(self, other: Any, /) -> Operand: ...
    def __truediv__(self, other: Any, /) -> Operand: ...
    def __rtruediv__(self, other: Any, /) -> Operand: ...


class Ops(NamedTuple):
    """The functions of one type of operand that have no operator."""

    maximum: Callable[[Any, float], Operand]
    """Larger of the operand and a Python float; NaN stays NaN."""
    sqrt: Callable[[Any], Operand]
    xp: Any = None
    """Namespace of the other elementary functions. Only a :data:`TimeMap` uses them."""


FLOATS = Ops(max, math.sqrt)

TimeMap: TypeAlias = Callable[..., Any]
"""``time_map(*times, *constants, ops)``: an elementwise function of one or two times."""


@dataclass(frozen=True, eq=False)
class Formula:
    """``function(*arrays, *times, ops)``, elementwise and linear in its arrays, and its properties.

    A backend chooses how to evaluate a formula by these properties, so a wrong one makes wrong numbers. Each is checked
    by tests/arithmetic/test_formula.py.
    """

    function: Callable[..., Any]
    times: int
    """Number of times, 1 or 2."""
    divides: bool
    """Whether the formula divides."""
    constants: tuple[float | None, ...]
    """Coefficient of each array if it is a constant; None if it depends on a time."""

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__


def formula(
    *, times: int = 1, divides: bool = False, constants: tuple[float | None, ...] = ()
) -> Callable[[Callable[..., Any]], Formula]:
    """Return a function, or decorator, that makes a :class:`Formula`; by default, no coefficient is constant."""

    def decorate(function: Callable[..., Any]) -> Formula:
        arrays = function.__code__.co_argcount - times - 1
        return Formula(function, times, divides, constants or (None,) * arrays)

    return decorate


@functools.cache
def gradient(formula: Formula, place: int) -> Formula:
    """The formula that multiplies one array, a gradient, by the coefficient of the array at ``place``."""
    count = len(formula.constants)
    if count == 1:
        return formula

    def function(array: Any, *rest: Any) -> Any:
        return formula.function(*[array if at == place else 0.0 for at in range(count)], *rest)

    function.__name__ = f"{formula.name}_gradient_{place}"
    return Formula(function, formula.times, formula.divides, (formula.constants[place],))


class Float32(NamedTuple):
    """The float32 operations of a framework, for :class:`~fastgen_rf.arithmetic._triple_float32.TripleFloat32`."""

    xp: Any
    """Namespace of ``where``, ``copysign``, ``sign``, ``abs`` and ``sqrt``."""
    plus: Callable[[Any, Any, Any, float], Any]
    """``plus(c, a, b, scale)`` is ``c + scale * a * b``, rounded once or more often; ``b`` may be a Python float."""
    add_to: Callable[[Any, Any, Any, float], Any]
    """The same, which may overwrite ``c``, an array of the shape of the result."""
    leading: Callable[[Any], Any]
    """An array with the first 12 of each element's 24 bits, rounded to nearest."""
