"""Arguments as people pass them: NumPy scalars, floats next to an end, subclasses of ndarray, NumPy next to JAX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig(time_dist_type="logitnormal")
HALVES = [np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5)]
BELOW, ABOVE = (-2.2e-16, -1e-12, np.float64(-1e-13)), (math.nextafter(1, 2), 1 + 1e-12, np.float64(1 + 1e-13))
ENDS = [(0.0, t) for t in BELOW] + [(1.0, t) for t in ABOVE]


class Loud(float):
    """A number with an arithmetic of its own."""

    def __mul__(self, other: Any) -> Any:
        raise RuntimeError("used")

    __rmul__ = __sub__ = __rsub__ = __mul__


class Image(np.ndarray):
    """An array that carries notes along: imageio's is of this sort."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array.view(Image)


# Numbers: NumPy scalars, subclasses of float, and floats within a rounding error of the ends of [0, 1]


def test_a_number_of_any_type_is_a_time_and_next_to_an_end_it_is_the_end(xp: Any) -> None:
    x, y = xp.array(np.linspace(-2, 2, 12).reshape(3, 4)), xp.array(np.linspace(3, 1, 12).reshape(3, 4))
    for call in (
        lambda t: rf.add_noise(x, y, t),
        lambda t: rf.ode_step(x, y, t, 0.25),
        lambda t: rf.ode_step(x, y, 1.0, t),
        lambda t: rf.convert_state(x, t, source="ve", target="vp"),
    ):
        for wanted, t in (*((0.5, half) for half in (*HALVES, Loud(0.5))), *ENDS):
            assert np.array_equal(xp.numpy(call(t)), xp.numpy(call(wanted)))


def test_functions_of_a_number_alone_return_a_python_float() -> None:
    calls = (
        *(rf.rf_alpha, rf.rf_sigma, lambda t: rf.shift_timesteps(t, 3.0), lambda u: rf.timestep_quantile(u, CFG)),
        *(lambda t: rf.timestep_density(t, CFG), lambda t: rf.convert_time(t, source="alpha_bar", target="rf")),
    )
    for call in calls:
        for wanted, t in (*((0.5, half) for half in HALVES), (0.0, 0), (1.0, 1), *ENDS):
            assert type(call(t)) is float
            assert call(t) == call(wanted) == call(np.array([wanted]))[0]
    assert (rf.rf_alpha(0.25), rf.rf_sigma(0.25), rf.rf_sigma(-1e-12)) == (0.75, 0.25, 0.0)
    assert (rf.timestep_density(1.5, CFG), rf.timestep_density(-0.5, CFG)) == (0.0, 0.0)
    assert rf.shift_timesteps(0.5, np.float16(0.5)) == rf.shift_timesteps(0.5, 0.5)


@pytest.mark.parametrize("source", ["rf", "alpha_bar", "angle", "sigma"])
def test_a_float_next_to_an_end_of_its_time_parameterization_is_the_end(source: Any) -> None:
    target = "rf" if source != "rf" else "sigma"
    high = {"angle": math.pi / 2, "sigma": math.inf}.get(source, 1.0)
    for end, time in ((0.0, -1e-12), (high, high + 1e-12)):
        assert rf.convert_time(time, source=source, target=source) == end
        assert rf.convert_time(time, source=source, target=target) == rf.convert_time(end, source=source, target=target)
    for time in (-1.1e-12, *([] if high == math.inf else [high + 1.1e-12, np.float32(500)]), math.nan):
        with pytest.raises(ValueError, match=r"^time must lie in"):
            rf.convert_time(time, source=source, target=target)


def test_an_array_of_times_is_not_clamped(xp: Any) -> None:
    x, t = xp.array(np.ones((2, 3))), xp.array(np.array([-0.5, 1.5]))
    assert np.array_equal(xp.numpy(rf.add_noise(x, 2 * x, t)), np.array([[0.5] * 3, [2.5] * 3], np.float32))


# Arrays


def test_a_subclass_with_ndarray_s_arithmetic_is_data(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3))
    on_disk = np.memmap(tmp_path / "values", dtype=np.float64, mode="w+", shape=values.shape)
    on_disk[:] = values
    for array in (on_disk, values.view(Image), values.view(np.matrix)):
        assert np.array_equal(rf.add_noise(array, 2 * values, 0.3), rf.add_noise(values, 2 * values, 0.3))
        assert np.array_equal(rf.rf_alpha(array), rf.rf_alpha(values))


@pytest.mark.backends("dask")
def test_chunks_of_unknown_size_are_accepted(xp: Any) -> None:
    host = np.linspace(-1, 1, 12, dtype=np.float32)
    x = xp.array(host)
    unknown, other = x[x > -0.5], (2 * x)[x > -0.5]
    kept = host[host > -0.5]
    assert np.array_equal(xp.numpy(rf.add_noise(unknown, other, 0.25)), rf.add_noise(kept, 2 * kept, 0.25))
    density = rf.timestep_density(abs(unknown), rf.SampleTimestepConfig(time_dist_type="uniform"))
    assert not np.isnan(xp.numpy(density)).any()
    assert xp.numpy(rf.expand_like(unknown, rf.expand_like(other, xp.array(np.zeros((12, 1)))))).shape == (len(kept), 1)


@pytest.mark.backends("jax")
def test_numpy_next_to_jax_is_converted_even_if_nothing_else_is(xp: Any) -> None:
    host, here = np.ones((2, 3), np.float32), xp.array(np.ones((2, 3)))
    assert isinstance(rf.convert_prediction(host, here, 0.5, source="v", target="v"), type(here))
