"""The random streams are part of the interface: a seed gives the timesteps that it gave when this file was written.

If a new version of a framework changes its generator, change the numbers below. If this library changed them, that is a
change for every user: do not, or say so in the changelog.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

UNIFORM = rf.SampleTimestepConfig("uniform")
STREAMS: dict[str, dict[str, list[float]]] = {
    "numpy": {
        "uniform": [0.62484527, 0.89641935, 0.7751343],
        "stratified": [0.20894842, 0.6321398, 0.9243781],
        "pairs": [0.62484527, 0.89641935, 0.8728063, 0.62484527, 0.30056596, 0.7751343],
        "t_list": [0.5, 0.25, 0.25],
        "long seed": [0.04539828, 0.57298577, 0.089062445],
    },
    "torch": {
        "uniform": [0.27982166, 0.27414632, 0.8613688],
        "stratified": [0.093940556, 0.7573821, 0.6204563],
        "pairs": [0.65637505, 0.9216843, 0.8613688, 0.65637505, 0.27414632, 0.8388663],
        "t_list": [0.75, 0.75, 0.25],
        "long seed": [0.04539828, 0.57298577, 0.089062445],
    },
    "torch without float64": {
        "uniform": [0.53485274, 0.1994056, 0.6588933],
        "stratified": [0.51161754, 0.73246855, 0.22029777],
        "pairs": [0.6565765, 0.23329605, 0.6588933, 0.6565765, 0.19940563, 0.6588933],
        "t_list": [0.5, 1.0, 0.5],
        "long seed": [0.04539828, 0.57298577, 0.089062445],
    },
    "jax": {
        "uniform": [0.6737418, 0.9736677, 0.30323797],
        "stratified": [0.22524726, 0.9905559, 0.43441266],
        "pairs": [0.6737418, 0.9736677, 0.6306678, 0.6737418, 0.9736677, 0.6306678],
        "t_list": [0.5, 0.25, 0.75],
        "long seed": [0.7636043, 0.62419206, 0.5533674],
    },
}
STREAMS["jax without float64"] = STREAMS["jax"]
STREAMS["array_api_strict"] = STREAMS["dask"] = STREAMS["numpy"]


def samples(**how: Any) -> list[Any]:
    return [
        rf.sample_timesteps(3, UNIFORM, rng=7, **how),
        rf.sample_timesteps(3, UNIFORM, rng=7, stratified=True, **how),
        *rf.sample_timestep_pairs(3, UNIFORM, rng=7, equal=0.5, **how),
        rf.sample_from_t_list(3, (1.0, 0.75, 0.5, 0.25, 0.0), rng=7, **how),
        rf.sample_timesteps(3, UNIFORM, rng=2**70 + 7, **how),
    ]


def compare(xp: Any, got: list[Any], name: str) -> None:
    wanted = STREAMS[name]
    # Special functions differ in their last bits between versions and processors, hence a unit in the last place.
    known = [value for sample in wanted.values() for value in sample]
    np.testing.assert_allclose(np.concatenate([xp.numpy(t) for t in got]), known, rtol=2**-23, atol=0)


@pytest.mark.backends("numpy", "torch", "jax", "array_api_strict", "dask")
def test_a_seed_gives_the_timesteps_that_it_gave(xp: Any) -> None:
    compare(xp, samples(**xp.draw_args), xp.name)


@pytest.mark.backends("torch", "jax")
def test_a_seed_gives_the_timesteps_that_it_gave_without_float64(xp: Any) -> None:
    compare(xp, xp.no_float64(lambda: samples(**xp.draw_args), []), f"{xp.name} without float64")
