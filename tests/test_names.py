"""The names that arguments select by: one ``Literal`` each, and every table of formulas has exactly those names."""

from __future__ import annotations

from itertools import permutations
from typing import get_args, get_type_hints

from fastgen_rf import SampleTimestepConfig, _formulas, _time_maps, _typing
from fastgen_rf._distributions import DISTRIBUTIONS


def test_each_pair_of_names_has_a_formula() -> None:
    assert set(_formulas.CONVERSIONS) == set(permutations(get_args(_typing.PredictionType), 2))
    assert set(_formulas.RESCALINGS) == set(permutations(get_args(_typing.StatePath), 2))
    assert set(_time_maps.CONVERSIONS) == set(permutations(get_args(_typing.TimeParameterization), 2))


def test_each_timestep_distribution_has_its_formulas() -> None:
    assert get_args(_typing.TimeDistType) == tuple(DISTRIBUTIONS)


def test_the_config_s_types_at_run_time_are_those_that_omegaconf_accepts() -> None:
    """``OmegaConf.structured`` reads them, and before 2.4 it accepts no ``Literal``."""
    assert get_type_hints(SampleTimestepConfig)["time_dist_type"] is str
    assert get_type_hints(SampleTimestepConfig)["t_list"] == tuple[float, ...] | None
