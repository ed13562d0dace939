"""Formulas as source text for compilers of kernels, operation by operation."""

from __future__ import annotations

import pytest

from fastgen_rf import _formulas
from fastgen_rf.arithmetic._term import name_of, source

FORMULAS = {
    "add_noise": "((first * (1.0 - t)) + (second * t))",
    "noise_to_x0": "((second - (t * first)) / maximum((1.0 - t), 1e-06))",
    "x0_to_eps": "((second - ((1.0 - t) * first)) / maximum(t, 1e-06))",
    "v_to_v_vp": "(first / sqrt((((1.0 - t) * (1.0 - t)) + (t * t))))",
}


@pytest.mark.parametrize(("name", "text"), FORMULAS.items(), ids=FORMULAS)
def test_the_text_is_the_formula(name: str, text: str) -> None:
    assert source(getattr(_formulas, name)) == text


def test_numbers_keep_all_digits_and_operands_their_order() -> None:
    text = source(lambda first, second, t, fn: 1 / (0.1 + (t / 3) * (2 - first)) + (second - 1) * 5)
    assert text == "((1.0 / (0.1 + ((t / 3.0) * (2.0 - first)))) + ((second - 1.0) * 5.0))"
    text = source(lambda first, second, t, fn: 2 * -first + fn.sqrt(second) * fn.maximum(t, 0.1))
    assert text == "((2.0 * (first * -1.0)) + (sqrt(second) * maximum(t, 0.1)))"


def test_a_kernel_is_named_after_its_function_or_class() -> None:
    assert name_of(_formulas.add_noise) == "add_noise"
    assert name_of(_formulas.Shift(3.0)) == "Shift"
