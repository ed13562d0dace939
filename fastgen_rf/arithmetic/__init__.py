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


FLOATS = Functions(max, math.sqrt)
