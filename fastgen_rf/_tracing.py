"""What a trace by ``torch.compile`` or ``torch.export`` needs beyond the eager code. Nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["evaluated_by_tracer"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def evaluated_by_tracer(function: FunctionT) -> FunctionT:
    """Mark a pure function of Python numbers and strings, which Dynamo then calls instead of tracing it.

    Its result is a constant of the compiled program.
    ``torch.compiler.assume_constant_result`` sets the same attribute, and would import PyTorch. A release of PyTorch
    that does not know the attribute traces the function, as it would without it.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
