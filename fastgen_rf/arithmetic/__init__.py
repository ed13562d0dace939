"""What a formula can be evaluated on besides float64 arrays: its operators act on these classes as on numbers.

:class:`~fastgen_rf.arithmetic._words.Words` is float64's arithmetic without float64,
:class:`~fastgen_rf.arithmetic._slope.Slope` a value and its derivative, :class:`~fastgen_rf.arithmetic._term.Term`
source text, :class:`~fastgen_rf.arithmetic._inplace.InPlace` a block that stays in cache. Nothing here knows a
framework or a formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Functions(NamedTuple):
    """The arithmetic that has no operator, for one kind of operand."""

    maximum: Callable[[Any, float], Any]
    """Larger of the operand and a Python float; NaN stays NaN."""
    sqrt: Callable[[Any], Any]
    xp: Any = None
    """Namespace of the other elementary functions, where the operand has any; only maps of times take them."""


class Float32(NamedTuple):
    """A framework's float32, as :class:`~fastgen_rf.arithmetic._words.Words` compute with it."""

    xp: Any
    """Namespace of ``where``, ``copysign``, ``sign``, ``abs`` and ``sqrt``."""
    plus: Callable[[Any, Any, Any, float], Any]
    """``plus(c, a, b, scale)`` is ``c + scale * a * b``, rounded once or more often; ``b`` may be a Python float."""
    add_to: Callable[[Any, Any, Any, float], Any]
    """The same where ``c``, of the result's shape, is needed no more."""
    leading: Callable[[Any], Any]
    """An array with 12 bits of each element's 24, rounded to nearest."""


FLOATS = Functions(max, math.sqrt)
