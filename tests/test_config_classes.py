"""A config's class in the place of a config: its attributes are defaults, or none at all."""

from __future__ import annotations

import numpy as np
import pytest

import fastgen_rf as rf


class Foreign:
    time_dist_type, min_t, max_t = "uniform", 0.1, 0.9


@pytest.mark.parametrize("cls", [rf.SampleTimestepConfig, Foreign])
def test_a_config_s_class_is_a_type_error_that_says_to_call_it(cls):
    for call in (
        lambda: rf.sample_timesteps(3, cls, rng=0, xp=np),
        lambda: rf.sample_timestep_pairs(3, cls, rng=0, xp=np),
        lambda: rf.timestep_quantile(0.5, cls),
        lambda: rf.timestep_density(0.5, cls),
    ):
        with pytest.raises(TypeError, match=rf"cfg must be an instance, got the class {cls.__name__}: pass .*\(...\)$"):
            call()
    assert rf.timestep_quantile(0.5, Foreign()) == 0.5
