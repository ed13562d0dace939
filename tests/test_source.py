"""Formulas as source text: what compilers on an accelerator are given is the formula, operation by operation."""

from __future__ import annotations

import pytest

from fastgen_rf import flow_matching
from fastgen_rf.backends._source import source


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("_add_noise", "((first * (1.0 - t)) + (second * t))"),
        ("_noise_to_x0", "((second - (t * first)) / maximum((1.0 - t), 1e-06))"),
        ("_flow_to_x0", "(second - (t * first))"),
        ("_x0_to_eps", "((second - ((1.0 - t) * first)) / maximum(t, 1e-06))"),
        ("_x0_to_flow", "((second - first) / maximum(t, 1e-06))"),
    ],
)
def test_the_text_is_the_formula(formula: str, text: str) -> None:
    assert source(getattr(flow_matching, formula)) == text


def test_numbers_are_written_with_all_their_digits_and_on_their_side() -> None:
    text = source(lambda first, second, t, maximum: 1 / (0.1 + (t / 3) * (2 - first)) + (second - 1) * 5)
    assert text == "((1.0 / (0.1 + ((t / 3.0) * (2.0 - first)))) + ((second - 1.0) * 5.0))"
