"""Every formula of the library, found and not listed: what compiles them goes through all, those still to come too."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from fastgen_rf import _formulas


def _is_formula(candidate: Any) -> bool:
    """Whether it takes two arrays, a time and the functions."""
    names = list(inspect.signature(candidate).parameters)
    return len(names) == 4 and names[3] == "fn"


def _found() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, member in vars(_formulas).items():
        if getattr(member, "__module__", None) != _formulas.__name__:
            continue
        if inspect.isfunction(member) and _is_formula(member):
            found[name] = member
        elif dataclasses.is_dataclass(member) and isinstance(member, type) and _is_formula(member.__call__.__get__(0)):
            for number in (3.0, 0.3):
                found[f"{name}({number})"] = member(*(number for _ in dataclasses.fields(member)))
    return found


FORMULAS = _found()
every_formula = pytest.mark.parametrize("formula", list(FORMULAS.values()), ids=list(FORMULAS))
