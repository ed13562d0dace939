"""A formula as source text, for compilers that take text: found by evaluating it on :class:`Term` operands.

Nothing here names a framework: the text is in the operators and parentheses that C and Python share, numbers are such
that they are float64 in both, and ``maximum``, of two arguments, and ``sqrt`` are functions that its reader must know.
"""

from __future__ import annotations

import functools
from typing import Any

from fastgen_rf._typing import Formula
from fastgen_rf.arithmetic import Functions


class Term:
    """A piece of an expression, whose operators write what they are asked to compute, in its order."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __neg__(self) -> Term:
        return Term(f"({self.text} * -1.0)")  # Triton reads -x as 0 - x, which loses -0.0

    def __add__(self, other: Any) -> Term:
        return Term(f"({self.text} + {_text(other)})")

    def __radd__(self, other: Any) -> Term:
        return Term(f"({_text(other)} + {self.text})")

    def __sub__(self, other: Any) -> Term:
        return Term(f"({self.text} - {_text(other)})")

    def __rsub__(self, other: Any) -> Term:
        return Term(f"({_text(other)} - {self.text})")

    def __mul__(self, other: Any) -> Term:
        return Term(f"({self.text} * {_text(other)})")

    def __rmul__(self, other: Any) -> Term:
        return Term(f"({_text(other)} * {self.text})")

    def __truediv__(self, other: Any) -> Term:
        return Term(f"({self.text} / {_text(other)})")

    def __rtruediv__(self, other: Any) -> Term:
        return Term(f"({_text(other)} / {self.text})")


def _text(operand: Any) -> str:
    return operand.text if isinstance(operand, Term) else repr(float(operand))  # all its digits, and a point


def _maximum(value: Any, floor: Any) -> Term:
    return Term(f"maximum({_text(value)}, {_text(floor)})")


def _sqrt(value: Any) -> Term:
    return Term(f"sqrt({_text(value)})")


_FUNCTIONS = Functions(_maximum, _sqrt)


def name_of(formula: Formula) -> str:
    """Name for what is compiled of ``formula``, a function or an object that can be called."""
    name: str = getattr(formula, "__name__", type(formula).__name__)
    return name


@functools.cache
def source(formula: Formula) -> str:
    """``formula`` as an expression in ``first``, ``second`` and ``t``: ``((first * (1.0 - t)) + (second * t))``."""
    text: str = formula(Term("first"), Term("second"), Term("t"), _FUNCTIONS).text
    return text
