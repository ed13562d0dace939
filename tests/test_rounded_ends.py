"""Python floats a rounding error outside of their interval, such as the last of many steps: taken as its end."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig(time_dist_type="logitnormal")
BELOW, ABOVE = (-2.2e-16, -1e-12, np.float64(-1e-13)), (math.nextafter(1, 2), 1 + 1e-12, np.float64(1 + 1e-13))
ENDS = [(0.0, t) for t in BELOW] + [(1.0, t) for t in ABOVE]


def test_a_float_t_next_to_an_end_is_the_end(xp):
    x, y = xp.array(np.linspace(-2, 2, 6).reshape(2, 3)), xp.array(np.linspace(3, 1, 6).reshape(2, 3))
    calls = [
        lambda t: rf.add_noise(x, y, t),
        lambda t: rf.flow_step(x, y, 0.1, t),
        lambda t: rf.ode_step(x, y, t, 0.1),
        lambda t: rf.convert_state(x, t, source="ve", target="vp"),
    ]
    for end, t in ENDS:
        for call in calls:
            assert np.array_equal(xp.numpy(call(t)), xp.numpy(call(end)))


def test_functions_of_a_float_alone_take_it_for_the_end():
    for end, t in ENDS:
        assert rf.rf_sigma(t) == end
        assert rf.rf_alpha(t) == 1 - end
        assert rf.shift_timesteps(t, 3.0) == end
        assert rf.timestep_quantile(t, CFG) == rf.timestep_quantile(end, CFG)


LEVELS = [("rf", 0.0, 1.0), ("alpha_bar", 0.0, 1.0), ("angle", 0.0, math.pi / 2), ("sigma", 0.0, math.inf)]


@pytest.mark.parametrize(("source", "low", "high"), LEVELS)
def test_each_time_has_ends_of_its_own(source, low, high):
    target = "rf" if source != "rf" else "sigma"
    for end, time in ((low, low - 1e-12), (high, high + 1e-12)):
        assert rf.convert_time(time, source=source, target=source) == end
        assert rf.convert_time(time, source=source, target=target) == rf.convert_time(end, source=source, target=target)
    for time in (low - 1.1e-12, *([] if high == math.inf else [high + 1.1e-12]), math.nan):
        with pytest.raises(ValueError, match=r"^time must lie in"):
            rf.convert_time(time, source=source, target=target)


def test_configuration_stays_strict():
    bad = -1e-13
    for name, call in {
        "min_t": lambda: rf.SampleTimestepConfig(min_t=bad),
        "max_t": lambda: rf.make_t_list(4, max_t=1 + 1e-12),
        "equal": lambda: rf.sample_timestep_pairs(3, CFG, equal=bad, rng=0, xp=np),
        "t_list": lambda: rf.sample_from_t_list(3, [1.0, 0.5, bad], rng=0, xp=np),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


def test_an_array_is_not_clamped(xp):
    x = xp.array(np.ones((2, 3)), "float32")
    t = xp.array(np.array([-0.5, 1.5]), "float32")
    assert np.array_equal(xp.numpy(rf.add_noise(x, 2 * x, t)), np.array([[0.5] * 3, [2.5] * 3], np.float32))


@pytest.mark.backends("torch")
@pytest.mark.slow
def test_the_end_is_taken_in_a_compiled_program(xp):
    torch = xp.namespace
    x = torch.rand(2, 3)
    step = torch.compile(lambda x, t: rf.flow_step(x, x, 0.1, t), backend="eager", fullgraph=True)
    for end, t in ((0.3, 0.3), (0.0, -2.2e-16), (0.0, -3.3e-16)):
        assert torch.equal(step(x, t), rf.flow_step(x, x, 0.1, end))
