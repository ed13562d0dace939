"""What is public, and that each public name is documented with an example that runs."""

from __future__ import annotations

import doctest
import inspect

import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf import flow_matching

TEN = {
    "rf_alpha",
    "rf_sigma",
    "add_noise",
    "pred_noise_to_pred_x0",
    "pred_x0_from_flow",
    "x0_to_eps",
    "x0_to_flow",
    "sample_timesteps",
    "sample_from_t_list",
    "expand_like",
}
MORE = {
    "SampleTimestepConfig",
    "convert_prediction",
    "convert_state",
    "convert_time",
    "flow_step",
    "make_t_list",
    "ode_step",
    "resolution_shift",
    "sample_timestep_pairs",
    "shift_timesteps",
    "timestep_density",
    "timestep_quantile",
}
DOCUMENTED = [getattr(rf, name) for name in sorted(TEN | MORE)]
every_public_object = pytest.mark.parametrize("public", DOCUMENTED, ids=lambda public: public.__name__)


def public_members(module):
    return {name for name in vars(module) if not name.startswith("_") and not inspect.ismodule(getattr(module, name))}


def test_the_package_exports_its_public_members_and_no_others():
    assert set(rf.__all__) == TEN | MORE | {"flow_matching"}
    assert public_members(rf) == TEN | MORE


def test_flow_matching_exposes_the_ten_functions():
    assert set(flow_matching.__all__) == TEN
    assert {name: getattr(flow_matching, name) for name in TEN} == {name: getattr(rf, name) for name in TEN}


@every_public_object
def test_docstring_has_every_section(public):
    doc = inspect.getdoc(public)
    sections = ["Parameters\n---", "Raises\n---", "Examples\n---"]
    sections += [] if inspect.isclass(public) else ["Returns\n---"]
    assert [section for section in sections if section not in doc] == []


@every_public_object
def test_docstring_examples_run(public):
    names = {name: getattr(rf, name) for name in rf.__all__} | {"np": np}
    (test,) = doctest.DocTestFinder(recurse=False).find(public, globs=names)
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.attempted > 0
    assert results.failed == 0


@every_public_object
def test_signature_is_typed_completely(public):
    signature = inspect.signature(public)
    assert [name for name, p in signature.parameters.items() if p.annotation is p.empty] == []
