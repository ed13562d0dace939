"""SampleTimestepConfig and foreign configs: fields, defaults, ranges. test_errors.py has invalid fields."""

from __future__ import annotations

import dataclasses
import math
import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

DEFAULTS = {
    **{"time_dist_type": "shifted", "min_t": 0.001, "max_t": 0.999, "shift": 5.0, "p_mean": 0.0, "p_std": 1.0},
    **{"t_list": None, "truncate": False, "mode_scale": 1.29, "beta_a": 1.5, "beta_b": 1.0},
}


def test_the_config_has_the_published_defaults() -> None:
    assert dataclasses.asdict(rf.SampleTimestepConfig()) == DEFAULTS


def test_the_config_is_frozen_and_equal_ones_hash_alike() -> None:
    first, second = (rf.SampleTimestepConfig("uniform", 0, 1, t_list=[1, 0.5, 0]) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != rf.SampleTimestepConfig("uniform", 0, 1)
    for field in DEFAULTS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(first, field, 0.5)


def test_numbers_are_stored_as_python_floats() -> None:
    config = rf.SampleTimestepConfig("uniform", min_t=Fraction(1, 100), max_t=np.float32(0.75), shift=np.int64(5))
    assert [type(x) for x in (config.min_t, config.max_t, config.shift, config.mode_scale)] == [float] * 4
    for value in (sys.float_info.max, -sys.float_info.max, 2**1023, Fraction(1, 3)):
        assert rf.SampleTimestepConfig(p_mean=value).p_mean == float(value)


def test_t_list_is_stored_as_a_tuple_of_floats(xp: Any) -> None:
    for given in ([1.0, 0.5, 0.0], (1.0, 0.5, 0.0), [1, 0.5, 0], np.array([1.0, 0.5, 0.0]), xp.array([1.0, 0.5, 0.0])):
        stored = rf.SampleTimestepConfig(t_list=given).t_list
        assert stored == (1.0, 0.5, 0.0)
        assert [type(stored), *map(type, stored)] == [tuple, float, float, float]


def test_a_t_list_ends_in_0_whatever_the_sign_of_its_zero() -> None:
    for end in (-0.0, 0.0, -0.0):
        assert str(rf.SampleTimestepConfig(t_list=[1.0, 0.625, end]).t_list) == "(1.0, 0.625, 0.0)"


# Foreign configs, and subclasses


@dataclasses.dataclass(frozen=True)
class WithNotes(rf.SampleTimestepConfig):
    """A config that has no hash."""

    notes: list[str] = dataclasses.field(default_factory=list)


def test_a_subclass_is_the_config_that_its_fields_make(xp: Any) -> None:
    how = {"rng": 3, **xp.draw_args}
    samples = [rf.sample_timesteps(8, cfg("uniform", 0.1, 0.9), **how) for cfg in (WithNotes, rf.SampleTimestepConfig)]
    assert np.array_equal(*map(xp.numpy, samples))


def test_a_foreign_config_may_lack_the_fields_that_its_distribution_does_not_use() -> None:
    fields = {"time_dist_type": "uniform", "min_t": 0.1, "max_t": 0.9}
    wanted = rf.sample_timesteps(8, rf.SampleTimestepConfig(**fields), rng=0, xp=np)
    for cfg in (SimpleNamespace(**fields), SimpleNamespace(**dict.fromkeys(DEFAULTS) | fields)):
        assert np.array_equal(rf.sample_timesteps(8, cfg, rng=0, xp=np), wanted)


@pytest.mark.parametrize("missing", ["time_dist_type", "max_t", "p_std"])
def test_a_foreign_config_without_a_field_that_it_needs_is_a_type_error(missing: str) -> None:
    fields = DEFAULTS | {"time_dist_type": "shifted_logitnormal"}
    del fields[missing]
    with pytest.raises(TypeError, match=f"cfg .*{missing}"):
        rf.sample_timesteps(3, SimpleNamespace(**fields), xp=np)
    for bad in (None, math.inf):  # its fields are checked as ours are
        with pytest.raises((TypeError, ValueError), match=f"{missing} must"):
            rf.sample_timesteps(3, SimpleNamespace(**fields | {missing: bad}), xp=np)
