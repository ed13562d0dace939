"""SampleTimestepConfig and foreign configs: fields, defaults, checks."""

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
from tests.exact import DISTRIBUTIONS

FIELDS = dataclasses.asdict(rf.SampleTimestepConfig())


def test_the_config_has_the_published_defaults() -> None:
    assert FIELDS == {
        "time_dist_type": "shifted",
        "min_t": 0.001,
        "max_t": 0.999,
        "shift": 5.0,
        "p_mean": 0.0,
        "p_std": 1.0,
        "t_list": None,
        "truncate": False,
        "mode_scale": 1.29,
        "beta_a": 1.5,
        "beta_b": 1.0,
    }


def test_the_config_is_frozen_and_equal_ones_hash_alike() -> None:
    first, second = (rf.SampleTimestepConfig("uniform", 0, 1, t_list=[1, 0.5, 0]) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != rf.SampleTimestepConfig("uniform", 0, 1)
    for field in FIELDS:
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


# Foreign configs


@pytest.mark.parametrize("name", list(DISTRIBUTIONS))
def test_any_object_with_the_fields_of_its_distribution_is_a_config(xp: Any, name: str) -> None:
    config = rf.SampleTimestepConfig(name, min_t=0.1, max_t=0.6, p_mean=-1.0)
    foreign = SimpleNamespace(**dataclasses.asdict(config), something_else="ignored")
    before = dict(vars(foreign))
    ours, theirs = (rf.sample_timesteps(20, cfg, rng=xp.rng(4), **xp.draw_args) for cfg in (config, foreign))
    assert np.array_equal(xp.numpy(ours), xp.numpy(theirs))
    assert vars(foreign) == before


def test_a_foreign_config_may_lack_the_fields_that_its_distribution_does_not_use() -> None:
    fields = {"time_dist_type": "uniform", "min_t": 0.1, "max_t": 0.9}
    unused = dict.fromkeys(("shift", "p_mean", "p_std", "t_list", "truncate", "mode_scale", "beta_a", "beta_b"))
    wanted = rf.sample_timesteps(8, rf.SampleTimestepConfig(**fields), rng=0, xp=np)
    for cfg in (SimpleNamespace(**fields), SimpleNamespace(**fields, **unused)):
        assert np.array_equal(rf.sample_timesteps(8, cfg, rng=0, xp=np), wanted)


USED = {"time_dist_type": "shifted_logitnormal", "min_t": 0.1, "max_t": 0.9, "shift": 5.0, "p_mean": 0.0, "p_std": 1.0}


@pytest.mark.parametrize("missing", USED)
def test_a_foreign_config_without_a_field_that_it_needs_is_a_type_error(missing: str) -> None:
    fields = {name: value for name, value in USED.items() if name != missing}
    with pytest.raises(TypeError, match=f"cfg .*{missing}"):
        rf.sample_timesteps(3, SimpleNamespace(**fields), xp=np)
    if missing != "time_dist_type":
        with pytest.raises(TypeError, match=f"{missing} must"):
            rf.sample_timesteps(3, SimpleNamespace(**fields, **{missing: None}), xp=np)


@pytest.mark.parametrize("cfg", [None, 3, "shifted", FIELDS], ids=["None", "int", "str", "dict"])
def test_an_object_that_is_no_config_is_a_type_error(cfg: Any) -> None:
    for call in (
        lambda: rf.sample_timesteps(3, cfg, rng=0, xp=np),
        lambda: rf.sample_timestep_pairs(3, cfg, rng=0, xp=np),
        lambda: rf.timestep_quantile(0.5, cfg),
        lambda: rf.timestep_density(0.5, cfg),
    ):
        with pytest.raises(TypeError, match=r"^cfg "):
            call()


# Checks

BAD_T_LISTS = [
    [],
    [1.0],
    [0.0],
    [0.5, 1.0, 0.0],
    [1.0, 0.5, 0.5, 0.0],
    [1.0, 0.5],
    [1.001, 0.5, 0.0],
    [1.0, math.nan, 0.0],
    [0.5, -0.5],
    [0.5, 0.0, -0.5],
    [math.inf, 0.0],
]
OUT_OF_RANGE: dict[str, list[Any]] = {
    "min_t": [-0.1, 0.999, 1.0, math.nan, -math.inf],
    "max_t": [0.001, 0.0, 1.0000001, math.inf, math.nan],
    "shift": [0.0, -5.0, math.inf, math.nan],
    "p_mean": [math.inf, math.nan],
    "p_std": [0.0, -1.0, math.inf, math.nan],
    "mode_scale": [-1.0, -1.5, 2 / (math.pi - 2), 1.8, math.nan, math.inf],
    "beta_a": [0.0, -1.0, 2.0, math.nan, math.inf],  # beta_b is 0.5 here: one of the two must be 1
    "time_dist_type": ["normal", ""],
    "t_list": BAD_T_LISTS,
}
WRONG_TYPE: dict[str, list[Any]] = {
    "time_dist_type": [3, None],
    **{name: ["0.1", None, True, 1j, [5.0]] for name in OUT_OF_RANGE if name not in ("time_dist_type", "t_list")},
    "truncate": [1, "yes", None],
    "t_list": [1.0, "10", [1.0, "0.5", 0.0], [True, False], [1.0, None, 0.0]],
}


def every(table: dict[str, list[Any]]) -> Any:
    cases = [(field, value) for field, values in table.items() for value in values]
    return pytest.mark.parametrize(("field", "value"), cases, ids=str)


def fields_with(field: str, value: Any) -> dict[str, Any]:
    return {**({"beta_b": 0.5} if field == "beta_a" else {}), field: value}


@every(OUT_OF_RANGE)
def test_a_field_out_of_range_is_a_value_error(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}.* must .*got"):
        rf.SampleTimestepConfig(**fields_with(field, value))
    with pytest.raises(ValueError, match=f"{field}.* must .*got"):
        rf.sample_timesteps(3, SimpleNamespace(**{**FIELDS, **fields_with(field, value)}), xp=np)


@every(WRONG_TYPE)
def test_a_field_of_the_wrong_type_is_a_type_error(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{field} must .*got"):
        rf.SampleTimestepConfig(**fields_with(field, value))


@pytest.mark.parametrize("t_list", BAD_T_LISTS, ids=str)
def test_a_bad_t_list_is_a_value_error_of_the_sampler_too(t_list: list[float]) -> None:
    with pytest.raises(ValueError, match=r"t_list must .*got"):
        rf.sample_from_t_list(3, t_list, rng=0, xp=np)


@pytest.mark.parametrize("t_list", [None, *WRONG_TYPE["t_list"]], ids=str)
def test_a_t_list_of_the_wrong_type_is_a_type_error_of_the_sampler_too(t_list: Any) -> None:
    with pytest.raises(TypeError, match=r"t_list must .*got"):
        rf.sample_from_t_list(3, t_list, rng=0, xp=np)


def test_loguniform_needs_a_positive_min_t() -> None:
    with pytest.raises(ValueError, match=r"min_t must be positive .*loguniform"):
        rf.SampleTimestepConfig("loguniform", min_t=0.0)
    assert rf.SampleTimestepConfig("uniform", min_t=0.0).min_t == 0
