"""Bad input: what is raised, and that the message names the argument, says what it got and what it wants.

Each message as a whole line is in test_error_messages.py.
Nothing here relies on ``assert``, so the whole file also runs under ``python -O`` (the last test does it).
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fastgen_rf as rf

ARGUMENTS = {
    "add_noise": ("x0", "eps"),
    "pred_noise_to_pred_x0": ("pred_noise", "noisy_latents"),
    "pred_x0_from_flow": ("pred_flow", "noisy_latents"),
    "x0_to_eps": ("x0", "x_t"),
    "x0_to_flow": ("x0", "x_t"),
}
every_formula = pytest.mark.parametrize("formula", sorted(ARGUMENTS))
every_time = pytest.mark.parametrize("t", [0.5, (0.5, 0.5)], ids=["a float t", "an array t"])
every_coefficient = pytest.mark.parametrize("coefficient", [rf.rf_alpha, rf.rf_sigma])


def raises(kind, *parts):
    """``pytest.raises`` for a message that holds ``parts``, regular expressions, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(parts))


def call(xp, formula, **bad):
    """Call a formula with good arguments save ``bad``, by the names first, second and t, a tuple for an array."""
    good = {"first": xp.array(np.ones((2, 3))), "second": xp.array(np.ones((2, 3))), "t": 0.5}
    if isinstance(bad.get("t"), tuple):
        bad["t"] = xp.array(np.array(bad["t"]))
    return getattr(rf, formula)(*(good | bad).values())


def repr_of(value):
    return type(value).__name__


# Arrays

NO_ARRAYS = pytest.mark.parametrize("bad", [[[1.0, 2.0]], None, "x", 1.0, 3, object()], ids=repr_of)


@every_formula
@pytest.mark.parametrize("place", [0, 1])
@NO_ARRAYS
def test_what_is_no_array_is_a_type_error(xp, formula, place, bad):
    with raises(TypeError, f"{ARGUMENTS[formula][place]} must be an array", type(bad).__name__):
        call(xp, formula, **{("first", "second")[place]: bad})


@every_formula
@pytest.mark.parametrize("bad", [[0.5], None, "0.5", object()], ids=repr_of)
def test_t_that_is_neither_number_nor_array_is_a_type_error(xp, formula, bad):
    with raises(TypeError, "t must be", type(bad).__name__):
        call(xp, formula, t=bad)


@every_formula
@every_time
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_arrays_that_are_not_real_floating_are_a_type_error(xp, formula, place, dtype, t):
    bad = other_dtype(xp, np.ones((2, 3)), dtype)
    with raises(TypeError, f"{ARGUMENTS[formula][place]} must be a real floating array", dtype):
        call(xp, formula, t=t, **{("first", "second")[place]: bad})


@every_formula
@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_an_integer_t_is_told_to_divide(xp, formula, dtype):
    with raises(TypeError, "t must be a real floating array", dtype, "divide"):
        call(xp, formula, t=other_dtype(xp, np.ones(2), dtype))


@every_formula
@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_a_boolean_or_complex_t_is_a_type_error(xp, formula, dtype):
    with raises(TypeError, "t must be a real floating array", dtype):
        call(xp, formula, t=other_dtype(xp, np.ones(2), dtype))


def other_dtype(xp, values, dtype):
    placed = {"device": xp.device} if xp.name in ("torch", "array_api_strict") else {}
    return xp.namespace.asarray(values.astype(dtype), **placed)


@every_formula
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.backends("torch", "cupy", "array_api_strict", "dask")
def test_arrays_of_two_frameworks_are_a_type_error(xp, formula, place):
    names = ARGUMENTS[formula]
    with raises(TypeError, names[0], names[1], "one framework", rf"pass [\w.]+\.asarray\({names[place]}\)"):
        call(xp, formula, **{("first", "second")[place]: np.ones((2, 3), np.float32)})


class Foreign:
    """An array of a framework of the standard's that nobody has installed."""

    shape, dtype, device, ndim = (2, 3), "float32", "cpu", 2

    def __array_namespace__(self, api_version=None):
        foreign = ModuleType("foreign")
        foreign.isdtype = lambda dtype, kind: True
        return foreign


@pytest.mark.backends("torch", "cupy", "array_api_strict", "dask")
def test_two_frameworks_neither_of_which_is_numpy_are_named(xp):
    with raises(TypeError, "x0 and eps must come from one framework", r"got [\w.]+ and foreign$"):
        call(xp, "add_noise", second=Foreign())


@every_formula
@pytest.mark.backends("torch", "cupy", "array_api_strict", "dask")
def test_t_of_another_framework_is_a_type_error(xp, formula):
    with raises(TypeError, ARGUMENTS[formula][0], "t must come from one framework", "numpy", r"asarray\(t\)"):
        call(xp, formula, t=np.ones(2, np.float32))


@pytest.mark.backends("torch", "cupy", "array_api_strict", "dask")
def test_expand_like_refuses_two_frameworks(xp):
    with raises(TypeError, "x and target must come from one framework", r"asarray\(target\)"):
        rf.expand_like(xp.array(np.ones(2)), np.ones((2, 3)))


@every_formula
@every_time
@pytest.mark.parametrize("shape", [(2,), (2, 3, 1), (3, 2), (1, 3), ()], ids=str)
def test_arrays_of_two_shapes_are_a_value_error(xp, formula, shape, t):
    first, second = ARGUMENTS[formula]
    with raises(ValueError, f"{first} and {second} must have the same shape", r"\(2, 3\)"):
        call(xp, formula, t=t, second=xp.array(np.ones(shape)))


@every_formula
@pytest.mark.parametrize("shape", [(3,), (4,), (0,), (2, 2), (1, 2), (3, 1), (2, 3, 1), (1, 1, 1), (2, 3, 4)], ids=str)
def test_t_that_does_not_fit_is_a_value_error(xp, formula, shape):
    with raises(ValueError, "t must", ARGUMENTS[formula][0], r"\(2, 3\)", str(shape)[1:-1]):
        call(xp, formula, t=xp.array(np.full(shape, 0.5)))


@every_formula
@pytest.mark.parametrize("place", ["second", "t"])
@pytest.mark.backends("torch", "array_api_strict", "jax")
def test_arrays_on_two_devices_are_a_value_error(xp, formula, place):
    values = np.full((2, 3), 0.5, np.float32)
    if xp.name == "torch":
        first, elsewhere = xp.array(values), xp.namespace.empty((2, 3), device="meta")
    elif xp.name == "jax":
        import jax

        first, elsewhere = (jax.device_put(values, device) for device in jax.devices("cpu")[:2])
    else:
        other = "device1" if str(xp.device) != str(xp.namespace.Device("device1")) else "CPU_DEVICE"
        first = xp.array(values)
        elsewhere = xp.namespace.asarray(values, dtype=xp.namespace.float32, device=xp.namespace.Device(other))
    second = elsewhere if place == "second" else first
    t = elsewhere if place == "t" else 0.5
    name = ARGUMENTS[formula][1] if place == "second" else "t"
    with raises(ValueError, ARGUMENTS[formula][0], name, "one device"):
        getattr(rf, formula)(first, second, t)


# Python numbers as t

OUTSIDE = [-1.1e-12, -1.0, 1 + 1.1e-12, 1.5, 500.0, math.inf, -math.inf, math.nan, np.float64(1.5)]


@every_formula
@pytest.mark.parametrize("t", OUTSIDE)
def test_a_float_t_outside_0_1_is_a_value_error(xp, formula, t):
    with raises(ValueError, r"t must lie in \[0, 1\]"):
        call(xp, formula, t=t)


@every_coefficient
@pytest.mark.parametrize("t", OUTSIDE)
def test_coefficients_refuse_a_float_t_outside_0_1(coefficient, t):
    with raises(ValueError, r"t must lie in \[0, 1\], got"):
        coefficient(t)


@every_formula
@pytest.mark.parametrize("t", [2, -1, 500])
def test_an_int_t_other_than_0_and_1_is_told_to_divide(xp, formula, t):
    with raises(TypeError, "t must be a float", str(t), "divide"):
        call(xp, formula, t=t)


@every_formula
@pytest.mark.parametrize("t", [True, False, 0.5j])
def test_a_bool_or_complex_t_is_a_type_error(xp, formula, t):
    with raises(TypeError, "t must be", str(t)):
        call(xp, formula, t=t)


@every_coefficient
@pytest.mark.parametrize("t", [2, -1, True, False, 0.5j, None, "0.5", [0.5]], ids=repr)
def test_coefficients_refuse_what_is_no_time(coefficient, t):
    with raises(TypeError, "t must be"):
        coefficient(t)


@every_coefficient
@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_coefficients_refuse_arrays_that_are_not_real_floating(xp, coefficient, dtype):
    with raises(TypeError, "t must be a real floating array", dtype):
        coefficient(other_dtype(xp, np.ones(2), dtype))


# expand_like


@pytest.mark.parametrize(("x", "named"), [([1.0], "x"), (None, "x"), (0.5, "x")])
def test_expand_like_takes_arrays_only(xp, x, named):
    with raises(TypeError, f"{named} must be an array"):
        rf.expand_like(x, xp.array(np.ones((2, 3))))
    with raises(TypeError, "target must be an array"):
        rf.expand_like(xp.array(np.ones(2)), x)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 3, 1)], ids=str)
def test_expand_like_refuses_what_does_not_broadcast(xp, shape):
    with raises(ValueError, "x must broadcast", r"\(2, 3\)"):
        rf.expand_like(xp.array(np.ones(shape)), xp.array(np.ones((2, 3))))


@pytest.mark.parametrize("axes", [(0,), (0, 1, 2), (0, 0), (0, -3), (0, 3), (-4, 1), ()], ids=str)
def test_expand_like_refuses_axes_that_do_not_name_each_once(xp, axes):
    with raises(ValueError, "axes must name 2 different axes of a 3-dimensional target"):
        rf.expand_like(xp.array(np.ones((1, 1))), xp.array(np.ones((2, 3, 4))), axes=axes)


def test_expand_like_refuses_sizes_that_do_not_match_along_axes(xp):
    with raises(ValueError, "x must broadcast", r"axes \(0, 2\)"):
        rf.expand_like(xp.array(np.ones((2, 3))), xp.array(np.ones((2, 3, 4))), axes=(0, 2))


@pytest.mark.parametrize("axes", [(0.0, 1.0), ("0", "1"), (True, False), (None, None), 0, 1.5], ids=str)
def test_expand_like_refuses_axes_that_are_no_integers(xp, axes):
    with raises(TypeError, "axes must be a tuple or list of integers"):
        rf.expand_like(xp.array(np.ones((2, 3))), xp.array(np.ones((2, 3, 4))), axes=axes)


# Configs

OUT_OF_RANGE = [
    ("min_t", -0.1),
    ("min_t", 0.999),
    ("min_t", 1.0),
    ("min_t", math.nan),
    ("min_t", -math.inf),
    ("max_t", 0.001),
    ("max_t", 0.0),
    ("max_t", 1.0000001),
    ("max_t", math.inf),
    ("max_t", math.nan),
    ("shift", 0.0),
    ("shift", -5.0),
    ("shift", math.inf),
    ("shift", math.nan),
    ("p_mean", math.inf),
    ("p_mean", math.nan),
    ("p_std", 0.0),
    ("p_std", -1.0),
    ("p_std", math.inf),
    ("p_std", math.nan),
    ("time_dist_type", "normal"),
    ("time_dist_type", ""),
    ("t_list", []),
    ("t_list", [1.0]),
    ("t_list", [0.0]),
    ("t_list", [0.5, 1.0, 0.0]),
    ("t_list", [1.0, 0.5, 0.5, 0.0]),
    ("t_list", [1.0, 0.5]),
    ("t_list", [1.001, 0.5, 0.0]),
    ("t_list", [1.0, math.nan, 0.0]),
    ("t_list", [math.nan, 0.0]),
    ("t_list", [0.5, -0.5]),
    ("t_list", [0.5, 0.0, -0.5]),
    ("t_list", [math.inf, 0.0]),
]
WRONG_TYPE = [
    ("min_t", "0.1"),
    ("min_t", None),
    ("max_t", True),
    ("max_t", 1j),
    ("shift", None),
    ("shift", [5.0]),
    ("p_mean", "0"),
    ("p_std", None),
    ("t_list", 1.0),
    ("t_list", "10"),
    ("t_list", [1.0, "0.5", 0.0]),
    ("t_list", [True, False]),
]
out_of_range = pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE, ids=str)
wrong_type = pytest.mark.parametrize(("field", "value"), WRONG_TYPE, ids=str)
FIELDS = {
    "time_dist_type": "shifted",
    "min_t": 0.001,
    "max_t": 0.999,
    "shift": 5.0,
    "p_mean": 0.0,
    "p_std": 1.0,
    "t_list": None,
}


@out_of_range
def test_a_config_out_of_range_is_a_value_error_at_construction(field, value):
    with raises(ValueError, field, "must", "got"):
        rf.SampleTimestepConfig(**{field: value})


@pytest.mark.parametrize("powers", [(0, 1), (1, 0), (-1, 1), (1, -1), (2, 3)])
def test_powers_of_beta_that_are_not_positive_or_without_a_one_are_a_value_error(powers):
    with raises(ValueError, "beta_a and beta_b must be positive and one of them 1", "got"):
        rf.SampleTimestepConfig("beta", beta_a=powers[0], beta_b=powers[1])


@wrong_type
def test_a_config_of_the_wrong_type_is_a_type_error_at_construction(field, value):
    with raises(TypeError, field, "must", "got"):
        rf.SampleTimestepConfig(**{field: value})


@out_of_range
def test_a_foreign_config_out_of_range_is_a_value_error_at_the_call(field, value):
    with raises(ValueError, field, "must", "got"):
        rf.sample_timesteps(3, SimpleNamespace(**(FIELDS | {field: value})), xp=np)


@wrong_type
def test_a_foreign_config_of_the_wrong_type_is_a_type_error_at_the_call(field, value):
    with raises(TypeError, field, "must", "got"):
        rf.sample_timesteps(3, SimpleNamespace(**(FIELDS | USES_ALL | {field: value})), xp=np)


def test_a_foreign_config_is_checked_by_quantile_too():
    with raises(ValueError, "p_std must be positive"):
        rf.timestep_quantile(np.array([0.5]), SimpleNamespace(**(FIELDS | {"p_std": 0.0})))


USES_ALL = {"time_dist_type": "shifted_logitnormal"}  # of the fields that a foreign config has


@pytest.mark.parametrize("missing", ["time_dist_type", "min_t", "max_t", "shift", "p_mean", "p_std"])
def test_a_config_without_what_its_law_uses_is_a_type_error(missing):
    fields = {name: value for name, value in (FIELDS | USES_ALL).items() if name != missing}
    with raises(TypeError, f"cfg has no attribute '{missing}', required for "):
        rf.sample_timesteps(3, SimpleNamespace(**fields), xp=np)
    if missing != "time_dist_type":  # None there is told what it must be, too, in words of its own
        with raises(TypeError, missing, "must"):
            rf.sample_timesteps(3, SimpleNamespace(**(fields | {missing: None})), xp=np)


@pytest.mark.parametrize("cfg", [None, 3, "shifted", FIELDS], ids=["None", "int", "str", "dict"])
def test_what_is_no_config_is_a_type_error(xp, cfg):
    with raises(TypeError, "cfg (must|has no)", "pass (a )?SampleTimestepConfig"):
        rf.sample_timesteps(3, cfg, rng=0, **xp.draw_args)


@pytest.mark.parametrize(("field", "t_list"), [case for case in OUT_OF_RANGE if case[0] == "t_list"], ids=str)
def test_a_bad_t_list_is_a_value_error_at_the_call(xp, field, t_list):
    with raises(ValueError, f"{field} must", "got"):
        rf.sample_from_t_list(3, t_list, rng=0, **xp.draw_args)


@pytest.mark.parametrize("t_list", [None, 1.0, "10", [1.0, "0.5", 0.0], [True, False], [1.0, None, 0.0]], ids=str)
def test_a_t_list_of_the_wrong_type_is_a_type_error(xp, t_list):
    with raises(TypeError, "t_list must", "got"):
        rf.sample_from_t_list(3, t_list, rng=0, **xp.draw_args)


# n, dtype, bounds


def draw(sampler, n, **named):
    """``n`` draws of a sampler."""
    if sampler == "sample_timesteps":
        return rf.sample_timesteps(n, rf.SampleTimestepConfig(), **named)
    if sampler == "sample_timestep_pairs":
        return rf.sample_timestep_pairs(n, rf.SampleTimestepConfig(), **named)
    return rf.sample_from_t_list(n, [1.0, 0.5, 0.0], **named)


@pytest.mark.parametrize("flag", [1, None, "yes"], ids=repr)
def test_a_return_index_that_is_no_bool_is_a_type_error(xp, flag):
    with raises(TypeError, "return_index must be True or False, got"):
        rf.sample_from_t_list(3, [1.0, 0.0], rng=0, return_index=flag, **xp.draw_args)


every_sampler = pytest.mark.parametrize("sampler", ["sample_timesteps", "sample_timestep_pairs", "sample_from_t_list"])


@every_sampler
@pytest.mark.parametrize("n", [-1, -100, np.int64(-3)])
def test_a_negative_n_is_a_value_error(xp, sampler, n):
    with raises(ValueError, "n must not be negative, got"):
        draw(sampler, n, rng=0, **xp.draw_args)


@every_sampler
@pytest.mark.parametrize("n", [None, 3.0, "3", True, (3, 1.5), np.float64(3)], ids=repr)
def test_an_n_that_is_no_integer_is_a_type_error(xp, sampler, n):
    with raises(TypeError, "n must be an integer or a tuple of integers, got"):
        draw(sampler, n, rng=0, **xp.draw_args)


@every_sampler
@pytest.mark.parametrize("name", ["int32", "bool", "complex64"])
def test_a_dtype_that_is_not_real_floating_is_a_type_error(xp, sampler, name):
    with raises(TypeError, "dtype must be a real floating dtype, got"):
        draw(sampler, 3, rng=0, dtype=np.dtype(name), **xp.draw_args)


@pytest.mark.dtypes()
def test_bounds_with_no_value_of_the_dtype_between_are_a_value_error(xp, dtype):
    cfg = rf.SampleTimestepConfig(min_t=0.5 + 2.0**-52, max_t=0.5 + 2.0**-51)
    if dtype != "float64":
        with raises(ValueError, "dtype", r"no value in \[min_t, max_t\]", "0.5"):
            rf.sample_timesteps(3, cfg, rng=0, dtype=xp.dtype(dtype), **xp.draw_args)
    else:
        rf.sample_timesteps(3, cfg, rng=0, dtype=xp.dtype(dtype), **xp.draw_args)


@pytest.mark.parametrize("bad", [[0.5], None, "u"], ids=repr)
def test_quantile_takes_floats_and_arrays_only(bad):
    with raises(TypeError, "u must be a float or an array"):
        rf.timestep_quantile(bad, rf.SampleTimestepConfig())


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_quantile_takes_real_floating_arrays_only(xp, dtype):
    with raises(TypeError, "u must be a real floating array", dtype):
        rf.timestep_quantile(other_dtype(xp, np.ones(2), dtype), rf.SampleTimestepConfig())


# Randomness


@every_sampler
@pytest.mark.parametrize(
    "says",
    [{}, {"rng": None}, {"rng": 0}, {"dtype": np.float32}, {"device": "cpu"}, {"rng": 0, "dtype": np.dtype("float64")}],
    ids=str,
)
def test_no_framework_named_is_a_type_error_that_tells_what_to_pass(sampler, says):
    with raises(TypeError, "cannot infer the array framework: ", "xp=numpy"):
        draw(sampler, 3, **says)


@every_sampler
@pytest.mark.parametrize("rng", ["seed", 0.5, [1], True, object(), np.random], ids=repr_of)
def test_an_rng_that_is_none_is_a_type_error(xp, sampler, rng):
    with raises(TypeError, "rng must be"):
        draw(sampler, 3, rng=rng, **xp.draw_args)


@every_sampler
@pytest.mark.backends("numpy", "array_api_strict", "dask", "torch", "jax")
def test_numpys_legacy_generator_is_a_type_error(xp, sampler):
    with raises(TypeError, "rng"):
        draw(sampler, 3, rng=np.random.RandomState(0), **xp.draw_args)


@every_sampler
@pytest.mark.backends("torch", "jax", "cupy")
def test_generator_and_namespace_of_two_frameworks_are_a_type_error(xp, sampler):
    with raises(TypeError, "xp and rng belong to different frameworks: got numpy and"):
        draw(sampler, 3, rng=xp.rng(0), xp=np)


@every_sampler
@pytest.mark.backends("torch", "array_api_strict")
def test_dtype_and_namespace_of_two_frameworks_are_a_type_error(xp, sampler):
    with raises(TypeError, "xp and dtype belong to different frameworks: got numpy and"):
        draw(sampler, 3, rng=0, xp=np, dtype=xp.namespace.float32)


@every_sampler
@pytest.mark.backends("torch", "jax", "array_api_strict")
def test_device_and_namespace_of_two_frameworks_are_a_type_error(xp, sampler):
    with raises(TypeError, "xp and device belong to different frameworks: got numpy and"):
        draw(sampler, 3, rng=0, xp=np, device=xp.device)


@every_sampler
@pytest.mark.backends("jax")
def test_jax_without_a_key_is_a_type_error(xp, sampler):
    with raises(TypeError, "rng must be given for JAX", r"jax.random.key\(seed\)"):
        draw(sampler, 3, **xp.draw_args)


@every_sampler
@pytest.mark.backends("torch")
def test_torch_generator_and_device_that_disagree_are_a_value_error(xp, sampler):
    with raises(ValueError, "rng and device must agree"):
        draw(sampler, 3, rng=xp.rng(0), device="meta")


@every_sampler
@pytest.mark.backends("jax")
def test_jax_key_and_device_that_disagree_are_a_value_error(xp, sampler):
    import jax

    first, second, *_ = jax.devices("cpu")
    with raises(ValueError, "rng and device must agree"):
        draw(sampler, 3, rng=jax.device_put(jax.random.key(0), first), device=second)


@every_sampler
def test_numpy_on_another_device_is_a_value_error(sampler):
    with raises(ValueError, "device must be None or 'cpu' for NumPy, got 'cuda'"):
        draw(sampler, 3, rng=0, xp=np, device="cuda")


@every_sampler
@pytest.mark.parametrize("namespace", [3, "numpy", object(), math], ids=repr_of)
def test_an_xp_that_is_no_array_namespace_is_a_type_error(sampler, namespace):
    with raises(TypeError, "xp must be an array namespace"):
        draw(sampler, 3, rng=0, xp=namespace)


# Without assertions


@pytest.mark.backends("numpy")
def test_all_of_this_holds_under_python_O(xp):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    command += [__file__, "--backend", "numpy", "-k", "not python_O"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    if run.returncode != 0:
        pytest.fail(run.stdout[-3000:] + run.stderr[-3000:])


def test_nothing_in_the_package_asserts():
    """``python -O`` removes assertions; a check must not be one."""
    sources = sorted(Path(rf.__file__).parent.rglob("*.py"))
    asserting = [path.name for path in sources if "\n    assert " in path.read_text(encoding="utf-8")]
    if not sources or asserting:
        pytest.fail(f"assert statements in {asserting}")
