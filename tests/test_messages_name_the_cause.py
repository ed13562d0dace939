"""Error messages that name the true cause, and what to pass instead.

Each message as a whole line is in test_error_messages.py; here are the causes that are easy to confuse.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastgen_rf as rf

CFG = rf.SampleTimestepConfig()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"rng": 42}, r"an int \(rng=42\)"),
        ({"device": "cuda"}, r"a string \(device='cuda'\)"),
        ({"dtype": "float32"}, r"a string \(dtype='float32'\)"),
        ({"dtype": np.dtype("float32")}, r"a NumPy dtype \(dtype=dtype\('float32'\)\)"),
        ({"dtype": np.float32}, r"a type \(dtype=<class 'numpy.float32'>\)"),
        ({"rng": np.int64(7), "device": 0}, r"an int \(rng=7\) or an int \(device=0\)"),
        ({"rng": 7, "device": "cpu"}, r"an int \(rng=7\) or a string \(device='cpu'\)"),
    ],
    ids=repr,
)
def test_values_that_every_framework_accepts_do_not_identify_one(given, found):
    with pytest.raises(TypeError, match=f"framework: {found} does not identify one; add xp="):
        rf.sample_timesteps(3, CFG, **given)


@pytest.mark.parametrize(
    ("rng", "got"),
    [
        (np.random, "unrecognized rng: got module numpy.random; "),
        (np.random.default_rng, "unrecognized rng: got .* default_rng; "),
        (np.random.Generator, "unrecognized rng: got type Generator; "),
        ([1], "unrecognized rng: got list; "),
        ("seed", "^rng must be a generator .*got 'seed'$"),
    ],
    ids=["module", "function", "class", "list", "string"],
)
@pytest.mark.parametrize("names_framework", [False, True])
def test_what_is_no_rng_is_told_what_rng_may_be(xp, rng, got, names_framework):
    with pytest.raises(TypeError, match=got) as error:
        rf.sample_timesteps(3, CFG, rng=rng, **(xp.draw_args if names_framework else {}))
    wanted = r"rng must be a generator \(numpy.random.Generator, .*\), a JAX key, an int or None"
    error.match(wanted)


@pytest.mark.backends("torch", "jax", "cupy")
def test_numpys_legacy_generator_is_no_second_framework(xp):
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, .* got RandomState"):
        rf.sample_timesteps(3, CFG, rng=np.random.RandomState(0), xp=xp.namespace)


def test_an_unrecognized_device_is_told_what_a_device_may_be():
    with pytest.raises(
        TypeError, match=r"unrecognized device: got list; device must be a device of an array framework"
    ):
        rf.sample_timesteps(3, CFG, rng=0, device=["cuda"])


@pytest.mark.parametrize(
    "function", [rf.timestep_quantile, rf.timestep_density, lambda t, c: rf.sample_timesteps(3, c)]
)
def test_a_config_as_a_dict_is_told_to_unpack_it(function):
    with pytest.raises(TypeError, match=r"^cfg must be .*, got a dict: pass SampleTimestepConfig\(\*\*cfg\)$"):
        function(0.5, {"time_dist_type": "uniform", "min_t": 0.0, "max_t": 1.0})


def test_a_config_says_which_distribution_requires_the_missing_attribute():
    cfg = SimpleNamespace(time_dist_type="mode", min_t=0.0, max_t=1.0)
    with pytest.raises(TypeError, match=r"cfg has no attribute 'mode_scale', required for time_dist_type='mode': pass"):
        rf.timestep_quantile(0.5, cfg)
    del cfg.max_t
    with pytest.raises(TypeError, match=r"cfg has no attribute 'max_t', required for every timestep distribution"):
        rf.timestep_quantile(0.5, cfg)


def test_an_entry_of_t_list_is_not_the_list():
    with pytest.raises(TypeError, match=r"^each entry of t_list must be a real number, got '0\.5'$"):
        rf.SampleTimestepConfig(t_list=[1.0, "0.5", 0.0])


@pytest.mark.backends("array_api_strict", "dask")
def test_a_missing_special_function_is_not_a_missing_float64(xp):
    with pytest.raises(
        TypeError, match=r"u is an array of .*, which has no special functions: pass a NumPy array as u"
    ):
        rf.timestep_quantile(xp.array(np.array([0.5])), CFG)


@pytest.mark.parametrize("source", ["angle", "sigma", "log_snr", "alpha_bar"])
def test_integers_of_another_time_parameterization_are_not_told_to_divide(source):
    for time in (np.arange(3), True, 0.5j):
        with pytest.raises(TypeError, match=r"^time must be") as error:
            rf.convert_time(time, source=source, target="rf")
        assert "divide" not in str(error.value)
        assert "[0, 1]" not in str(error.value)
    assert rf.convert_time(1, source=source, target=source) == 1.0


def test_axes_as_one_integer_are_told_to_be_a_tuple():
    with pytest.raises(TypeError, match=r"^axes must be a tuple or list of integers, got 0$"):
        rf.expand_like(np.ones(2), np.ones((2, 3)), axes=0)


@pytest.mark.parametrize("shift", [1e300, 1e-300])
def test_times_that_coincide_are_told_to_shift_less(shift):
    with pytest.raises(ValueError, match=r"timesteps coincide in float32 for .*; use a shift closer to 1 or fewer"):
        rf.make_t_list(4, shift=shift, max_t=1.0)
    assert len(rf.make_t_list(4, shift=shift**0.01, max_t=1.0)) == 5


@pytest.mark.backends("jax")
def test_the_devices_that_jax_is_said_to_have_are_names_that_can_be_passed(xp):
    with pytest.raises(ValueError, match="device must be one of") as error:
        rf.sample_timesteps(3, CFG, rng=0, xp=xp.namespace, device="xpu")
    names = str(error.value).partition("one of ")[2].partition(", got")[0].split(", ")
    for name in names[:2]:
        assert rf.sample_timesteps(3, CFG, rng=0, xp=xp.namespace, device=name).shape == (3,)
