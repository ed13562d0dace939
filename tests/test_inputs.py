"""Arguments as people really pass them: NumPy scalars, float subclasses, NumPy next to JAX, chunks of unknown size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

HALVES = [np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5)]


class Loud(float):
    """A number with an arithmetic of its own."""

    def __mul__(self, other: Any) -> Any:
        raise RuntimeError("used")

    __rmul__ = __sub__ = __rsub__ = __mul__


def test_a_numpy_scalar_or_a_float_subclass_is_a_number_as_t(xp: Any) -> None:
    x, y = xp.array(np.linspace(-2, 2, 12).reshape(3, 4)), xp.array(np.linspace(3, 1, 12).reshape(3, 4))
    for call in (
        lambda t: rf.add_noise(x, y, t),
        lambda t: rf.ode_step(x, y, t, 0.25),
        lambda t: rf.ode_step(x, y, 1.0, t),
        lambda t: rf.flow_step(x, y, t, 0.25),
        lambda t: rf.convert_prediction(x, y, t, source="eps", target="v"),
    ):
        wanted = xp.numpy(call(0.5))
        for half in (*HALVES, Loud(0.5)):
            assert np.array_equal(xp.numpy(call(half)), wanted)


def test_functions_of_a_numpy_scalar_alone_return_a_python_float() -> None:
    cfg = rf.SampleTimestepConfig(time_dist_type="logitnormal")
    for half in HALVES:
        for call in (
            rf.rf_alpha,
            rf.rf_sigma,
            lambda t, shift=half: rf.shift_timesteps(t, shift),
            lambda u: rf.timestep_quantile(u, cfg),
            lambda t: rf.timestep_density(t, cfg),
            lambda sigma: rf.convert_time(sigma, source="sigma", target="rf"),
        ):
            assert type(call(half)) is float
            assert call(half) == pytest.approx(call(0.5), rel=1e-15)


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
    t = np.array([0.5, 0.25], np.float32)
    assert rf.convert_prediction(here, host, t, source="v", target="v") is here
    assert isinstance(rf.convert_prediction(host, here, t, source="v", target="v"), type(here))
    assert rf.convert_state(here, t, source="vp", target="vp") is here


@pytest.mark.backends("torch")
@pytest.mark.parametrize("dtype", [np.longdouble, object], ids=lambda dtype: dtype.__name__)
def test_a_dtype_that_torch_lacks_is_a_type_error(xp: Any, dtype: Any) -> None:
    with pytest.raises(TypeError, match="dtype must be a real floating dtype"):
        rf.sample_timesteps(4, rf.SampleTimestepConfig(), rng=0, **xp.draw_args, dtype=dtype)


@pytest.mark.backends("jax")
def test_a_device_that_jax_lacks_is_a_value_error(xp: Any) -> None:
    with pytest.raises(ValueError, match="device must be one of"):
        rf.sample_timesteps(4, rf.SampleTimestepConfig(), rng=0, xp=xp.namespace, device="cpu:99")
