"""CuPy: memory layouts, subnormals, devices and generators.

Values, dtypes, features and errors of all functions are tested by the files that run on every framework.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import cupy
import numpy as np
import pytest
from ml_dtypes import bfloat16

import fastgen_rf as rf
from tests.catalogue import REPRESENTATIVE, ROWS

SHAPE = (3, 4, 5, 6)
CFG = rf.SampleTimestepConfig("uniform")
TWO = [ROWS[name] for name in REPRESENTATIVE]


def pair(dtype: Any = np.float32) -> list[Any]:
    return list(np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(dtype))


def times(**how: Any) -> Any:
    return rf.sample_timesteps(5, CFG, **how)


# Layouts


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1)], ids=["C", "Fortran", "channels last"])
def test_a_dense_layout_is_kept_and_gives_numpys_bits(axes: tuple[int, ...]) -> None:
    host = pair()
    device = [cupy.asarray(x.transpose(axes).copy()).transpose(np.argsort(axes).tolist()) for x in host]
    for row, t in product(TWO, (0.3, np.array([0.0, 0.5, 1.0]), np.full((3, 4), 0.7))):
        result = row(*device, t if isinstance(t, float) else cupy.asarray(t))
        assert result.strides == device[0].strides
        assert np.array_equal(cupy.asnumpy(result), row(*host, t))


# Numbers


@pytest.mark.parametrize(("dtype", "smallest"), [(np.float32, 2.0**-149), (bfloat16, 2.0**-133)])
def test_subnormals_are_kept(dtype: Any, smallest: float) -> None:
    """CuPy's own casts flush them to 0."""
    host = (np.arange(-4, 5) * smallest).astype(dtype)
    x = cupy.asarray(host)
    assert cupy.asnumpy(rf.pred_x0_from_flow(x, x, 0.0)).tolist() == host.tolist()
    assert cupy.asnumpy(rf.x0_to_flow(-x, x, 1.0)).tolist() == (2 * host.astype(np.float64)).tolist()
    quantiles = rf.timestep_quantile(x[5:], rf.SampleTimestepConfig("uniform", 0.0, 1.0))
    assert cupy.asnumpy(quantiles).tolist() == host[5:].tolist()


# Devices. On a machine with one GPU the last device is the current one.


def test_a_device_may_be_given_as_its_index() -> None:
    assert times(rng=0, xp=cupy, device=np.int64(0)).device == cupy.cuda.Device(0)


LAST = cupy.cuda.Device(cupy.cuda.runtime.getDeviceCount() - 1)
CALLS = [
    lambda x, y, t: rf.rf_alpha(t),
    rf.add_noise,
    *(lambda x, y, t, pair=pair: rf.ode_step(x, y, *pair(t)) for pair in (lambda t: (t, 0.1), lambda t: (0.1, t))),
    lambda x, y, t: rf.ode_step(x, y, 0.2, 0.1),
    lambda x, y, t: rf.convert_time(t, source="rf", target="sigma"),
    lambda x, y, t: rf.shift_timesteps(t, 3.0),
    lambda x, y, t: rf.timestep_quantile(t, CFG),
    lambda x, y, t: rf.timestep_density(t, CFG),
    lambda x, y, t: rf.expand_like(x[:1, :1, 0, 0], x, axes=(1, 0)),
]


def test_a_result_is_on_its_arguments_device() -> None:
    host = *pair(), np.array([0.25, 0.3, 0.75], np.float32)
    with LAST:
        device = [cupy.asarray(x) for x in host]
    for call in CALLS:
        result = call(*device)
        assert result.device == LAST
        np.testing.assert_allclose(cupy.asnumpy(result), call(*host), rtol=1e-6)
    t, index = rf.sample_from_t_list(99, (0.75, 0.5, 0.25, 0.0), rng=0, xp=cupy, device=LAST, return_index=True)
    assert t.device == index.device == LAST
    assert [(0.75, 0.5, 0.25)[i] for i in cupy.asnumpy(index)] == cupy.asnumpy(t).tolist()


def test_a_sample_is_on_its_generators_device_else_on_the_one_asked_for() -> None:
    with LAST:
        rng = cupy.random.default_rng(0)
    for device in (None, LAST, LAST.id, np.int64(LAST.id), f"cuda:{LAST.id}", "cuda"):
        assert times(rng=rng, device=device).device == LAST
    for other in (0, 2**40, None, np.random.default_rng(0)):
        assert times(rng=other, xp=cupy, device=LAST).device == LAST
        assert times(rng=other, xp=cupy).device == cupy.cuda.Device()
    if LAST.id:
        with pytest.raises(ValueError, match=r"rng and device must agree, got a generator on cuda:0 and device cuda:1"):
            times(rng=cupy.random.default_rng(0), device="cuda:1")


# Generators


def test_long_seeds_the_global_generator_and_a_random_state_draw() -> None:
    short, long = (cupy.asnumpy(times(rng=seed, xp=cupy)) for seed in (3, 3 + 2**40))
    assert not np.array_equal(short, long)
    cupy.random.seed(3)
    first = cupy.asnumpy(times(xp=cupy))
    cupy.random.seed(3)
    assert np.array_equal(cupy.asnumpy(times(rng=cupy.random.get_random_state())), first)
    with pytest.raises(TypeError, match=r"rng must be a cupy\.random\.Generator, .*, an int or None, got ndarray"):
        times(rng=cupy.ones(1), xp=cupy)
