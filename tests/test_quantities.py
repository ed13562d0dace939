"""NumPy arrays with an arithmetic of their own, such as quantities with units: refused where they would lose it."""

from __future__ import annotations

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig(time_dist_type="uniform")


class Metres(np.ndarray):
    """An array with a unit, by ufuncs: astropy's and unyt's quantities, and astropy's Masked, are of this sort."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise AssertionError


class Seconds(np.ndarray):
    """An array with a unit, by operators alone, as the package quantities has it."""

    def __add__(self, other):
        raise AssertionError


class Image(np.ndarray):
    """An array that carries notes along: imageio's is of this sort."""

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array.view(Image)


with_unit = pytest.mark.parametrize("kind", [Metres, Seconds])


@with_unit
def test_an_array_with_an_arithmetic_of_its_own_is_a_type_error(xp, kind):
    x, with_unit, t = xp.array(np.ones((2, 3))), np.ones((2, 3)).view(kind), np.full(2, 0.5).view(kind)
    calls = {
        "x0": lambda: rf.add_noise(with_unit, x, 0.5),
        "eps": lambda: rf.add_noise(x, with_unit, 0.5),
        "t": lambda: rf.add_noise(x, x, t),
        "t_next": lambda: rf.flow_step(x, x, 0.5, t),
        "x_t": lambda: rf.convert_prediction(x, with_unit, 0.5, source="x0", target="x0"),
        "x": lambda: rf.expand_like(t, x),
        "target": lambda: rf.expand_like(x, with_unit),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name} must be a plain array, got {kind.__name__}"):
            call()


@with_unit
def test_a_time_with_an_arithmetic_of_its_own_is_a_type_error(kind):
    time = np.full((), 0.5).view(kind)
    calls = {
        "t": [rf.rf_alpha, rf.rf_sigma, lambda t: rf.shift_timesteps(t, 3.0), lambda t: rf.timestep_density(t, CFG)],
        "time": [lambda t: rf.convert_time(t, source="angle", target="rf")],
        "u": [lambda u: rf.timestep_quantile(u, CFG)],
        "t_list": [
            lambda t: rf.sample_from_t_list(3, [1.0, t, 0.0], rng=0, xp=np),
            lambda t: rf.SampleTimestepConfig(t_list=np.array([1.0, 0.5, 0.0]).view(type(t))),
        ],
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(TypeError, match=f"^{name} must be a plain array, got {kind.__name__}"):
                function(time)
    for call in (
        lambda: rf.shift_timesteps(0.5, time),
        lambda: rf.SampleTimestepConfig(shift=time),
    ):
        with pytest.raises(TypeError, match="shift must be a real number"):
            call()


def test_a_subclass_with_ndarray_s_arithmetic_is_data(tmp_path):
    values = np.random.default_rng(0).random((2, 3))
    on_disk = np.memmap(tmp_path / "values", dtype=np.float64, mode="w+", shape=values.shape)
    on_disk[:] = values
    for array in (on_disk, values.view(Image), values.view(np.matrix)):
        assert np.array_equal(rf.add_noise(array, 2 * values, 0.3), rf.add_noise(values, 2 * values, 0.3))
        assert np.array_equal(rf.rf_alpha(array), rf.rf_alpha(values))
