"""Devices without float64: double-word arithmetic, and results equal to float64's rounding.

The formulas' float64 results are NumPy's, which test_formulas.py holds against exact arithmetic bit for bit.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf.arithmetic._doubleword import FUNCTIONS, DoubleWord

FORMULAS = ["add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"]
UNIT = Fraction(1, 2**24)  # half an ulp of float32, relative
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


def doublewords(seed, count=400):
    """Pairs of float32 whose sum has some 48 bits, and their exact values."""
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(count) * 10.0 ** rng.uniform(-6, 6, count)
    hi = exact.astype(np.float32)
    lo = (exact - hi).astype(np.float32)
    return DoubleWord(hi, lo, np), fractions(hi, lo)


def fractions(hi, lo):
    return [Fraction(float(a)) + Fraction(float(b)) for a, b in zip(hi, lo, strict=True)]


@pytest.mark.parametrize(
    ("operate", "bound"),  # Joldes, Muller and Popescu 2017: with u = 2**-24, 3 u**2, 5 u**2 (7 there) and 10 u**2
    [
        (lambda a, b: a + b, 3.01),
        (lambda a, b: a - b, 3.01),
        (lambda a, b: a * b, 7),
        (lambda a, b: a / b, 15),
    ],
    ids=["sum", "difference", "product", "quotient"],
)
def test_doubleword_operation_is_within_its_proven_relative_error(operate, bound):
    (a, exact_a), (b, exact_b) = doublewords(0), doublewords(1)
    result = operate(a, b)
    errors = [
        abs(got - operate(x, y)) / abs(operate(x, y)) / UNIT**2
        for got, x, y in zip(fractions(result.hi, result.lo), exact_a, exact_b, strict=True)
    ]
    assert max(errors) <= bound


@pytest.mark.parametrize(
    "operate",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b],
    ids=["sum", "difference", "product", "quotient"],
)
def test_doubleword_operation_leaves_hi_the_rounded_sum(operate):
    result = operate(doublewords(2)[0], doublewords(3)[0])
    assert np.array_equal(result.hi, result.hi + result.lo)
    assert result.hi.dtype == result.lo.dtype == np.float32


@pytest.mark.parametrize("number", [0.3, 1.0, 1e-6, 1 - 2.0**-40])
@pytest.mark.parametrize(
    ("operate", "bound"),
    [
        (lambda a, c: a + c, 3.01),
        (lambda a, c: c - a, 3.01),
        (lambda a, c: a - c, 3.01),
        (lambda a, c: c * a, 7),
        (lambda a, c: a / c, 15),
    ],
    ids=["a + c", "c - a", "a - c", "c a", "a / c"],
)
def test_doubleword_takes_python_floats_at_48_bits(operate, bound, number):
    a, exact = doublewords(4)
    result = operate(a, number)
    single = np.float32(number)
    held = Fraction(float(single)) + Fraction(float(np.float32(number - float(single))))
    errors = [
        abs(got - operate(x, held)) / abs(operate(x, held)) / UNIT**2
        for got, x in zip(fractions(result.hi, result.lo), exact, strict=True)
    ]
    assert max(errors) <= bound
    assert abs(held - Fraction(number)) <= UNIT**2 / 2 * held


def test_doubleword_maximum_compares_the_whole_value():
    single = np.float32(1e-6)
    rest = np.float32(1e-6 - float(single))
    step = np.float32(2.0**-40) * single
    pair = DoubleWord(np.full(3, single), np.array([rest - step, rest, rest + step], np.float32), np)
    largest = FUNCTIONS.maximum(pair, 1e-6)
    assert largest.lo.tolist() == [rest, rest, np.float32(rest + step)]
    assert np.isnan(FUNCTIONS.maximum(DoubleWord(np.array([np.nan]), np.array([0.0]), np), 1e-6).hi).tolist() == [True]


def test_doubleword_square_root_is_within_its_relative_error():
    a, _ = doublewords(5)
    squares = a * a
    roots = FUNCTIONS.sqrt(squares)
    wanted = fractions(squares.hi, squares.lo)
    assert all(
        abs(root * root - square) <= 12 * UNIT**2 * square
        for root, square in zip(fractions(roots.hi, roots.lo), wanted, strict=True)
    )


def test_doubleword_infinity_stands_alone():
    infinite = DoubleWord(np.array([np.inf, -np.inf], np.float32), np.zeros(2, np.float32), np)
    assert (infinite * DoubleWord(np.full(2, 2.0, np.float32), np.zeros(2, np.float32), np)).hi.tolist() == [
        np.inf,
        -np.inf,
    ]
    assert (infinite + 1.0).hi.tolist() == [np.inf, -np.inf]


# The formulas


def ulps_apart(got, wanted):
    """Distance in float32 steps, element by element."""
    order = [np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) for bits in map(as_integers, (got, wanted))]
    return np.abs(order[0] - order[1])


def as_integers(array):
    return np.ascontiguousarray(array, np.float32).view(np.int32).astype(np.int64)


def results(xp, formula, first, second, t):
    """A formula's float32 result on the device, and NumPy's in float64 rounded once."""
    native = [xp.array(array) if isinstance(array, np.ndarray) else array for array in (first, second, t)]
    convert = getattr(rf, formula)
    return xp.numpy(convert(*native)), convert(first, second, t)


every_formula = pytest.mark.parametrize("formula", FORMULAS)
T = np.random.default_rng(8).uniform(0.001, 0.999, 256).astype(np.float32)
EXTREME_T = np.resize(np.array([0.0, 1e-8, 2e-6, 1 - 2.0**-24, 1.0], np.float32), 256)


def steps_off(xp, formula, scales, t):
    """How many float32 steps each of 102,400 results is away from float64's."""
    rng = np.random.default_rng(5)
    first, second = ((rng.standard_normal((256, 400)) * scale).astype(np.float32) for scale in scales)
    return ulps_apart(*results(xp, formula, first, second, t))


@every_formula
@pytest.mark.parametrize("scales", [(1e-6, 1e-6), (1.0, 1.0), (1e6, 1e6), (1e-6, 1e6), (1e6, 1e-6)], ids=str)
@pytest.mark.parametrize("t", [T, EXTREME_T], ids=["ordinary", "extreme"])
@pytest.mark.needs("no float64")
def test_without_float64_at_most_1_in_100_000_is_off_by_one_ulp(xp, formula, scales, t):
    apart = steps_off(xp, formula, scales, t)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= 1


@every_formula
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("t", [2.0**-20, 0.25, 0.625, 1 - 2.0**-24])
@pytest.mark.needs("no float64")
def test_without_float64_a_python_float_t_that_float32_holds_is_as_good(xp, formula, scale, t):
    apart = steps_off(xp, formula, (scale, scale), t)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= 1


@every_formula
@pytest.mark.parametrize(
    ("t", "scales"),
    [(0.3, (1, 1)), (0.1, (1, 1)), (2 / 3, (1, 1)), (0.999, (1, 1)), (1e-5, (1, 1)), (0.75, (1e-6, 1e6))],
)
@pytest.mark.needs("no float64")
def test_without_float64_a_near_tie_costs_at_most_one_ulp(xp, formula, t, scales):
    """Some products fall within float64's last bits of halfway between two float32, and 48 bits cannot tell on which
    side: those of a decimal t, such as 0.3, with short significands, and those of a short t, such as 0.75, with
    the other term 12 decades below. More than 1 in 100,000 may do so.
    """
    assert steps_off(xp, formula, scales, t).max() <= 1


@every_formula
@pytest.mark.needs("no float64")
def test_plain_float32_would_not_do(xp, formula):
    """The twin of the test above: the same comparison rejects the formula evaluated in float32."""
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((2, 256, 400)).astype(np.float32)
    t = T[:, None]
    one = np.float32(1)
    plain = {
        "add_noise": lambda: first * (one - t) + second * t,
        "pred_noise_to_pred_x0": lambda: (second - t * first) / (one - t),
        "pred_x0_from_flow": lambda: second - t * first,
        "x0_to_eps": lambda: (second - (one - t) * first) / t,
        "x0_to_flow": lambda: (second - first) / t,
    }[formula]()
    _, wanted = results(xp, formula, first, second, T)
    assert np.count_nonzero(ulps_apart(plain, wanted)) > 0.1 * plain.size


# The samplers


@pytest.mark.backends("array_api_strict", "dask")
def test_quantile_of_an_array_without_special_functions_is_a_type_error(xp):
    with pytest.raises(TypeError, match=r"u is an array of .* NumPy"):
        rf.timestep_quantile(xp.array(np.array([0.5])), rf.SampleTimestepConfig())


@pytest.mark.needs("no float64")
@pytest.mark.parametrize("law", ["uniform", "logitnormal", "lognormal", "shifted", "polynomial"])
def test_sampling_works_where_there_is_no_float64(xp, law):
    cfg = rf.SampleTimestepConfig(time_dist_type=law)
    t = rf.sample_timesteps(500, cfg, rng=4, **xp.draw_args)
    on_host = rf.sample_timesteps(500, cfg, rng=4, xp=np)
    assert xp.device_of(t) == xp.device
    assert t.dtype == xp.dtype("float32")
    assert np.array_equal(xp.numpy(t), on_host)


@pytest.mark.needs("no float64")
def test_float64_asked_of_a_device_without_it_is_an_error(xp):
    with pytest.raises((TypeError, ValueError)):
        rf.sample_timesteps(3, rf.SampleTimestepConfig(), rng=0, dtype=xp.namespace.float64, **xp.draw_args)
