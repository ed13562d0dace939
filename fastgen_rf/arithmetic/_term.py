"""A formula as source text, for compilers that read text: the result of evaluating it on :class:`Term` operands.

The text uses operators and parentheses that C and Python share, and numbers that are float64 in both. It calls
``maximum``, a function of two arguments, and ``sqrt``, which the compiler must define.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastgen_rf.arithmetic import Formula, Ops


def _joined(sign: str) -> tuple[Callable[[Any, Any], Term], Callable[[Any, Any], Term]]:
    """Make an operator and its reflection."""
    return (
        lambda left, right: Term(f"({_text(left)} {sign} {_text(right)})"),
        lambda right, left: Term(f"({_text(left)} {sign} {_text(right)})"),
    )


class Term:
    """The text of an expression. An operator joins the texts of its operands, in the order of the operation."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __neg__(self) -> Term:
        # Triton compiles -x as 0 - x, which loses the sign of a zero.
        return Term(f"({self.text} * -1.0)")

    __add__, __radd__ = _joined("+")
    __sub__, __rsub__ = _joined("-")
    __mul__, __rmul__ = _joined("*")
    __truediv__, __rtruediv__ = _joined("/")


def _text(operand: Any) -> str:
    # The repr of a float has all of its digits, and a decimal point.
    return operand.text if isinstance(operand, Term) else repr(float(operand))


_OPS = Ops(
    lambda value, floor: Term(f"maximum({_text(value)}, {_text(floor)})"),
    lambda value: Term(f"sqrt({_text(value)})"),
)
ARRAYS, TIMES = ("first", "second"), ("t", "t_next")


@functools.cache
def source(formula: Formula) -> str:
    """Text of a formula in the names of ``ARRAYS`` and ``TIMES``: ``((first * (1.0 - t)) + (second * t))``."""
    names = ARRAYS[: len(formula.constants)] + TIMES[: formula.times]
    text: str = formula.function(*map(Term, names), _OPS).text
    return text
