"""A dtype's name means the same on a framework, whatever else has been imported, and is refused where it means none."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import fastgen_rf as rf
from tests.processes import run_alone

CFG = rf.SampleTimestepConfig(time_dist_type="uniform")
DRAW = """
import sys
import numpy, torch_or_numpy as xp
import fastgen_rf as rf

def draw(dtype):
    try:
        return str(rf.sample_timesteps(3, rf.SampleTimestepConfig(), rng=0, xp=xp, dtype=dtype).dtype)
    except TypeError as error:
        return str(error)

names = sys.argv[1].split()
before = [draw(name) for name in names]
print(before, "ml_dtypes" in sys.modules)
import ml_dtypes
print(before == [draw(name) for name in names])
print(draw(ml_dtypes.float8_e4m3fn), draw(numpy.dtype(ml_dtypes.bfloat16)))
"""
COMPILED = """
import sys, torch
import fastgen_rf as rf

def draw(dtype):
    return rf.sample_timesteps(3, rf.SampleTimestepConfig(), xp=torch, dtype=dtype)

for name in ("bfloat16", "float8_e4m3fn", "f4"):
    print(torch.compile(lambda: draw(name), backend="eager", fullgraph=True)().dtype)
print("ml_dtypes" in sys.modules)
"""


def test_a_name_that_is_no_floating_dtype_here_is_a_type_error(xp):
    lacking = {"array_api_strict": ["float16", "half", "longdouble", np.float16, np.dtype("float16")]}
    lacking |= {"jax": [">f4"], "torch": [np.longdouble, object]}
    for dtype in ["float33", "pi", "float_power", "ndarray", "float4_e2m1fn_x2", *lacking.get(xp.name, [])]:
        with pytest.raises(TypeError, match=r"^dtype must be a real floating dtype"):
            rf.sample_timesteps(3, CFG, rng=0, dtype=dtype, **xp.draw_args)
    if xp.has_float64:
        assert rf.sample_timesteps(3, CFG, rng=0, dtype="float", **xp.draw_args).dtype == xp.dtype("float64")


@pytest.mark.skipif(not importlib.util.find_spec("ml_dtypes"), reason="ml_dtypes is not installed")
@pytest.mark.slow
@pytest.mark.backends("numpy", "torch")
def test_a_name_means_the_same_before_and_after_ml_dtypes_is_imported(xp):
    prefix = "torch." if xp.name == "torch" else ""
    names = "bfloat16 float8_e4m3fn float8_e5m2 float16 half single float e float8_e9 bool"
    wanted = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float16", "float32", "float64", "float16"]
    wanted = [prefix + name for name in wanted]
    wanted += [f"dtype must be a real floating dtype, got {bad}" for bad in ("'float8_e9'", prefix + "bool")]
    before, same, classes = run_alone(DRAW.replace("torch_or_numpy", xp.name), names).splitlines()
    assert before.startswith(str(wanted))
    assert same == "True"
    assert classes == f"{prefix}float8_e4m3fn {prefix}bfloat16"


@pytest.mark.slow
@pytest.mark.backends("torch")
def test_a_compiled_program_knows_torch_s_names_without_ml_dtypes(xp):
    assert run_alone(COMPILED).split() == ["torch.bfloat16", "torch.float8_e4m3fn", "torch.float32", "False"]
