"""The public names: what is exported, documented, typed and imported, and the names that arguments select by."""

from __future__ import annotations

import doctest
import inspect
from itertools import permutations
from typing import get_args, get_type_hints

import numpy as np
import pytest

import fastgen_rf as rf
from fastgen_rf import _formulas, _time_maps, _typing, flow_matching
from fastgen_rf._distributions import DISTRIBUTIONS
from tests.processes import run_alone

MODELOPTS = {
    *("rf_alpha", "rf_sigma", "add_noise", "pred_noise_to_pred_x0", "pred_x0_from_flow", "x0_to_eps", "x0_to_flow"),
    *("sample_timesteps", "sample_from_t_list", "expand_like"),
}
every_public_object = pytest.mark.parametrize("name", sorted(set(rf.__all__) - {"flow_matching"}))


def test_the_package_exports_its_public_members_and_no_others() -> None:
    members = {name for name in vars(rf) if not name.startswith("_") and not inspect.ismodule(getattr(rf, name))}
    assert set(rf.__all__) == members | {"flow_matching"}


def test_flow_matching_exposes_modelopts_ten_functions() -> None:
    assert set(flow_matching.__all__) == MODELOPTS
    assert all(getattr(flow_matching, name) is getattr(rf, name) for name in MODELOPTS)


@every_public_object
def test_a_docstring_has_every_section_and_a_signature_every_type(name: str) -> None:
    public = getattr(rf, name)
    sections = ["Parameters", "Raises", "Examples", *([] if inspect.isclass(public) else ["Returns"])]
    assert [section for section in sections if f"{section}\n---" not in (inspect.getdoc(public) or "")] == []
    signature = inspect.signature(public)
    assert [name for name, p in signature.parameters.items() if p.annotation is p.empty] == []


@every_public_object
def test_the_examples_of_a_docstring_run(name: str) -> None:
    names = {other: getattr(rf, other) for other in rf.__all__} | {"np": np}
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(rf, name), globs=names)
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.attempted > 0
    assert results.failed == 0


# Names that arguments select by: one ``Literal`` each, and every table of formulas has exactly those names


def test_each_pair_of_names_has_a_formula() -> None:
    assert set(_formulas.CONVERSIONS) == set(permutations(get_args(_typing.PredictionType), 2))
    assert set(_formulas.RESCALINGS) == set(permutations(get_args(_typing.StatePath), 2))
    assert set(_time_maps.CONVERSIONS) == set(permutations(get_args(_typing.TimeParameterization), 2))


def test_each_timestep_distribution_has_its_formulas() -> None:
    assert get_args(_typing.TimeDistType) == tuple(DISTRIBUTIONS)


def test_the_config_s_types_at_run_time_are_those_that_omegaconf_accepts() -> None:
    """``OmegaConf.structured`` reads them, and before 2.4 it accepts no ``Literal``."""
    assert get_type_hints(rf.SampleTimestepConfig)["time_dist_type"] is str
    assert get_type_hints(rf.SampleTimestepConfig)["t_list"] == tuple[float, ...] | None


# Imports

HEAVY = ("torch", "jax", "jaxlib", "cupy", "dask", "scipy", "array_api_compat", "array_api_strict", "ml_dtypes")


def imported_by(statement: str) -> set[str]:
    """Which of the heavy packages are loaded after ``statement`` in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    return set(run_alone(code).split())


@pytest.mark.slow
def test_importing_the_package_and_calling_it_on_numpy_imports_no_framework() -> None:
    assert imported_by("import fastgen_rf, fastgen_rf.flow_matching") == set()
    assert imported_by("import numpy as np, fastgen_rf as rf; rf.add_noise(np.ones(2), np.ones(2), 0.5)") == set()
    assert "scipy" in imported_by("import fastgen_rf, scipy.special")  # the check can fail
