"""Any call of a function of arrays gives the right values: those of its definition, solved in extended precision."""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgen_rf as rf
from tests.cases.any_arrays import arrays, assert_near, dtypes, exactly, is_number, levels, shapes, spread, times

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{what} encountered:RuntimeWarning")
    for what in ("overflow", "invalid value", "divide by zero")  # of casts to float16, of infinities, at t = 0 and 1
]

norm = lambda t: np.sqrt((1 - t) ** 2 + t**2)  # noqa: E731
KINDS = {  # what x_0 and eps are multiplied with, from the definitions
    "x0": lambda t: (1 + 0 * t, 0 * t),
    "eps": lambda t: (0 * t, 1 + 0 * t),
    "flow": lambda t: (-1 + 0 * t, 1 + 0 * t),
    "v": lambda t: (-t, 1 - t),
    "v_vp": lambda t: (-t / norm(t), (1 - t) / norm(t)),
    "score": lambda t: (0 * t, -1 / t),
    "state": lambda t: (1 - t, t),
}
SCALES = {"rf": lambda t: 1, "vp": lambda t: 1 / norm(t), "ve": lambda t: 1 / (1 - t)}


class Call(NamedTuple):
    """A function of two arrays and two times, its exact value, and which of the arrays it takes its dtype from."""

    ours: Any
    exact: Any
    like: int = 0


def conversion(ours: Any, source: str, target: str, like: int = 0, steps: bool = False) -> Call:
    """``target`` of the x_0 and eps that a prediction and the state at t imply: two equations in two unknowns."""

    def exact(pred: Any, x_t: Any, t: Any, t_next: Any) -> Any:
        (p, q), (r, s) = KINDS[source](t), KINDS[target](t_next if steps else t)
        determinant = (1 - t) * q - t * p
        x0, eps = (q * x_t - t * pred) / determinant, ((1 - t) * pred - p * x_t) / determinant
        return np.where(r == 0, 0, r * x0) + np.where(s == 0, 0, s * eps)

    return Call(ours, exact, like)


def convert(source: str, target: str) -> Call:
    return conversion(
        lambda a, b, t, t_next: rf.convert_prediction(a, b, t, source=source, target=target), source, target
    )


def rescale(source: str, target: str) -> Call:
    return Call(
        lambda a, b, t, t_next: rf.convert_state(a, t, source=source, target=target),
        lambda a, b, t, t_next: a * SCALES[target](t) / SCALES[source](t),
    )


CALLS = [
    Call(lambda a, b, t, t_next: rf.add_noise(a, b, t), lambda a, b, t, t_next: (1 - t) * a + t * b),
    conversion(lambda a, b, t, t_next: rf.pred_noise_to_pred_x0(a, b, t), "eps", "x0", 1),
    conversion(lambda a, b, t, t_next: rf.pred_x0_from_flow(a, b, t), "flow", "x0", 1),
    conversion(lambda a, b, t, t_next: rf.x0_to_eps(a, b, t), "x0", "eps"),
    conversion(lambda a, b, t, t_next: rf.x0_to_flow(a, b, t), "x0", "flow"),
    conversion(rf.ode_step, "x0", "state", 1, steps=True),
    conversion(rf.flow_step, "flow", "state", 1, steps=True),
    *(convert(*pair) for pair in permutations([kind for kind in KINDS if kind != "state"], 2)),
    *(rescale(*pair) for pair in permutations(SCALES, 2)),
]


@given(data=st.data())
def test_a_formula_is_its_definition_rounded_once(xp: Any, data: Any) -> None:
    """Where t is at least 1e-6 from 0 and 1, or one of them; between, what a formula divides by is bounded."""
    call, shape = data.draw(st.sampled_from(CALLS)), data.draw(shapes(xp))
    names = [data.draw(dtypes(xp)) for _ in range(2)]
    given = [data.draw(arrays(xp, shape, name)) for name in names]
    t, t_next = data.draw(times(xp, shape)), data.draw(times(xp, shape))
    got = call.ours(*given, t, t_next)
    like = given[call.like]
    assert type(got) is type(like)
    assert tuple(got.shape) == shape
    assert got.dtype == like.dtype
    assert xp.device_of(got) == xp.device_of(like)
    a, b, now, then = (spread(exactly(xp, value), len(shape)) for value in (*given, t, t_next))
    with np.errstate(all="ignore"):
        exact = call.exact(a, b, now, then)
        inside = (now == 0) | (now == 1) | ((now >= 1e-6) & (1 - now >= 1e-6))
        near = np.where(inside & (now > 0) & (now < 1), np.minimum(now, 1 - now), 1)
        slack = (np.abs(a) + np.abs(b)) / near**2 * 2.0**-50
        # a sum of huge and tiny numbers is huge on the way where only the other array counts
        exact = np.where(inside & np.isfinite(a) & np.isfinite(b), exact, np.nan)
    assert_near(xp, got, exact, slack, names[call.like])


TANGENTS = {  # ratio of noise to signal
    "rf": lambda t: t / (1 - t),
    "angle": np.tan,
    "sigma": lambda sigma: sigma,
    "log_snr": lambda log_snr: np.exp(-log_snr / 2),
    "alpha_bar": lambda alpha_bar: np.sqrt((1 - alpha_bar) / alpha_bar),
}
LABELS = {
    "rf": lambda ratio: ratio / (1 + ratio),
    "angle": np.arctan,
    "sigma": lambda ratio: ratio,
    "log_snr": lambda ratio: -2 * np.log(ratio),
    "alpha_bar": lambda ratio: 1 / (1 + ratio**2),
}
LEAST = 2.0**-1074  # of float64: a subnormal result is rounded to a multiple of it
FUNCTIONLESS = ("rf", "sigma", "alpha_bar")


@given(data=st.data())
def test_a_noise_level_is_itself_under_each_of_its_names(xp: Any, data: Any) -> None:
    kinds = sorted(TANGENTS) if xp.has_float64 else FUNCTIONLESS
    source, target = data.draw(st.sampled_from(list(permutations(kinds, 2))))
    name = data.draw(dtypes(xp))
    time = data.draw(levels(xp, source, name))
    got = rf.convert_time(time, source=source, target=target)
    value = exactly(xp, time)
    with np.errstate(all="ignore"):
        exact = LABELS[target](TANGENTS[source](value))
        # a level that its label holds apart from its ends: 1 - alpha_bar and 1 - t have the digits that remain
        exact = np.where((value != 0) & ((source not in ("rf", "alpha_bar")) | (value < 1)), exact, np.nan)
    # Near the middle extended precision loses digits of a log_snr, and pi/4 is rounded.
    least = 2.0**-49 if source == "angle" else 2.0**-60
    slack = np.abs(exact) * 2.0**-49 + (least if target == "log_snr" else LEAST)
    if is_number(time):
        assert type(got) is float
        assert not abs(got - exact) > slack
        return
    assert type(got) is type(time)
    assert got.dtype == time.dtype
    assert_near(xp, got, exact, slack, name)


@given(data=st.data())
def test_a_function_of_t_is_its_definition_rounded_once(xp: Any, data: Any) -> None:
    shift = data.draw(st.floats(1e-3, 1e3))
    ours, exact = data.draw(
        st.sampled_from(
            [
                (rf.rf_alpha, lambda t: 1 - t),
                (rf.rf_sigma, lambda t: t),
                (lambda t: rf.shift_timesteps(t, shift), lambda t: shift * t / (1 + (shift - 1) * t)),
            ]
        )
    )
    t = data.draw(times(xp, data.draw(shapes(xp))))
    got = ours(t)
    value = exact(exactly(xp, t))
    if is_number(t):
        assert type(got) is float or got is t
        assert abs(got - value) <= abs(value) * 2.0**-50 + LEAST
        return
    assert type(got) is type(t)
    assert got.shape == t.shape
    assert got.dtype == t.dtype
    name = next(
        name
        for name in ("float64", "float32", "bfloat16", "float16")
        if name in xp.dtypes and xp.dtype(name) == t.dtype
    )
    assert_near(xp, got, value, np.abs(value) * 2.0**-50, name)


@given(data=st.data())
def test_expand_like_lays_axes_where_they_are_asked_for(xp: Any, data: Any) -> None:
    shape = data.draw(shapes(xp))
    places = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(0, len(shape)))]
    leading = data.draw(st.booleans())
    places = list(range(len(places))) if leading else places
    mine = tuple(data.draw(st.sampled_from([1, shape[at]])) for at in places)
    x, target = data.draw(arrays(xp, mine, "float32")), data.draw(arrays(xp, shape, "float32"))
    signed = [at - len(shape) if data.draw(st.booleans()) else at for at in places]
    got = rf.expand_like(x, target) if leading else rf.expand_like(x, target, axes=signed)
    host = exactly(xp, x)
    want = np.moveaxis(host.reshape(host.shape + (1,) * (len(shape) - host.ndim)), range(len(places)), places)
    assert tuple(got.shape) == want.shape
    np.testing.assert_array_equal(exactly(xp, got), want)
