"""The declared properties of every formula, the operators that it may use on every type of operand, and blocks."""

from __future__ import annotations

import itertools
import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastgen_rf import _formulas
from fastgen_rf._formulas import CONVERSIONS, RESCALINGS
from fastgen_rf.arithmetic import FLOATS, Formula, Operand, Ops, formula, gradient
from fastgen_rf.arithmetic._inplace import InPlace, blocks, part
from fastgen_rf.arithmetic._slope import Slope, slope_ops
from fastgen_rf.arithmetic._term import Term, source
from fastgen_rf.arithmetic._triple_float32 import TripleFloat32
from fastgen_rf.backends._standard import Backend

FORMULAS = {value.name: value for value in vars(_formulas).values() if isinstance(value, Formula)}
FORMULAS |= {value.name: value for table in (CONVERSIONS, RESCALINGS) for value in table.values()}
EXACT = Ops(max, lambda x: Fraction(abs(float(x)) ** 0.5))
TIMES = [Fraction(k, 101) for k in range(1, 101)]


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_what_it_declares(name: str) -> None:
    declared = FORMULAS[name]
    assert declared.divides == ("/" in source(declared))
    others = [Fraction(1000, 1001)] * (declared.times - 1)
    for place, constant in enumerate(declared.constants):
        function, h = gradient(declared, place).function, Fraction(1, 10**5)
        values, later, earlier = ([function(1, t + d, *others, EXACT) for t in TIMES] for d in (0, h, -h))
        slopes = [function(1, Slope(t, Fraction(1)), *others, slope_ops(EXACT)).slope for t in TIMES]
        if constant is not None:
            assert (set(values), set(slopes)) == ({constant}, {0})
        else:
            assert len(set(values)) > 50
            differences = [float((y - x) / (2 * h)) for x, y in zip(earlier, later, strict=True)]
            assert [float(slope) for slope in slopes] == pytest.approx(differences, rel=1e-4, abs=1e-4)


def test_a_gradient_keeps_the_coefficient_of_one_array() -> None:
    first, second = (gradient(_formulas.x0_to_eps, place) for place in (0, 1))
    assert first.function(3.0, 0.25, FLOATS) == -9.0
    assert second.function(3.0, 0.25, FLOATS) == 12.0
    assert (first.name, first.times, first.divides, first.constants) == ("x0_to_eps_gradient_0", 1, True, (None,))
    assert gradient(_formulas.flow_step, 1).constants == (1.0,)
    assert gradient(RESCALINGS["rf", "vp"], 0) is RESCALINGS["rf", "vp"]


def test_the_text_keeps_all_digits_and_the_order_of_operands() -> None:
    @formula()
    def numbers(first: Any, second: Any, t: Any, ops: Ops) -> Any:
        return 1 / (0.1 + (t / 3) * (2 - first)) + ops.sqrt(-second) * ops.maximum(t, 0.1)

    text = "((1.0 / (0.1 + ((t / 3.0) * (2.0 - first)))) + (sqrt((second * -1.0)) * maximum(t, 0.1)))"
    assert source(numbers) == text


class Float32Only(Backend):
    """NumPy on a device without float64."""

    def has_float64(self, device: Any) -> bool:
        return False


X, Y = np.array([0.5, -3.0, 7.0]), np.array([2.0, 0.25, -5.0])
OPERANDS = {
    "Slope": (lambda x: Slope(x, 1.0), lambda slope: slope.value),
    "InPlace": (lambda x: InPlace(x.copy()), lambda block: block.values),
    "TripleFloat32": (
        lambda x: TripleFloat32((x.astype(np.float32),), Float32Only(np)._float32),
        lambda triple: triple.float32().astype(np.float64),
    ),
    "Term": (lambda x: Term("x"), lambda term: eval(term.text, {"x": X})),
}
BINARY = {f"__{side}{name}__" for name in ("add", "sub", "mul", "truediv") for side in ("", "r")}


@pytest.mark.parametrize("name", OPERANDS)
def test_an_operand_has_every_operator_that_a_formula_may_use(name: str) -> None:
    make, value = OPERANDS[name]
    assert {"__neg__", *BINARY} == {name for name in vars(Operand) if name in vars(float) and name not in vars(object)}
    np.testing.assert_array_equal(value(-make(X)), -X)
    for operate in (operator.add, operator.sub, operator.mul, operator.truediv):
        for number in (2.0, -0.25):
            np.testing.assert_array_equal(value(operate(make(X), number)), operate(X, number))
            expected = operate(number, X)
            rounded = expected if name != "TripleFloat32" else expected.astype(np.float32).astype(np.float64)
            np.testing.assert_array_equal(value(operate(number, make(X))), rounded)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((), 1, [()]),
        ((3, 0), 1, [()]),
        ((2, 3, 4), 24, [()]),
        ((2, 3, 4), 23, [(slice(0, 1),), (slice(1, 2),)]),
        ((2, 3, 4), 8, [(i, slice(j, j + 2)) for i in range(2) for j in (0, 2)]),
        ((2, 3, 4), 7, [(i, slice(j, j + 1)) for i in range(2) for j in range(3)]),
        ((2, 3, 4), 3, [(*outer, slice(k, k + 2)) for outer in itertools.product((0, 1), (0, 1, 2)) for k in (0, 2)]),
        ((10,), 4, [(slice(0, 4),), (slice(4, 8),), (slice(8, 12),)]),
        ((9,), 8, [(slice(0, 5),), (slice(5, 10),)]),  # not 8 and 1
    ],
)
def test_an_array_is_cut_along_one_axis_evenly_and_in_order(shape: Any, size: int, expected: Any) -> None:
    assert list(blocks(shape, size)) == expected
    reached = [np.arange(np.prod(shape, dtype=int)).reshape(shape)[index].ravel() for index in expected]
    assert np.concatenate(reached).tolist() == list(range(np.prod(shape, dtype=int)))
    assert max(map(len, reached)) <= size


def test_the_block_of_an_operand_has_the_axes_that_the_operand_has() -> None:
    whole, index = np.arange(24).reshape(2, 3, 4), (1, slice(1, 3))
    assert part(0.25, index) == 0.25
    assert part(whole, index).tolist() == whole[1, 1:3].tolist()
    assert part(whole[:1], index).tolist() == whole[0, 1:3].tolist()
    assert part(whole[:, :1], index).tolist() == whole[1, :1].tolist()
    assert part(whole[:1, :1], index).tolist() == whole[0, :1].tolist()
    assert part(whole, ()).tolist() == whole.tolist()
