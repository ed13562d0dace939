"""Whole error messages: those that give advice, explain a cause, or are put together from several parts.

A message is part of the interface: change it here as well. That each function raises an error that names the argument,
on each framework, is in test_errors.py.
"""

from __future__ import annotations

import functools
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastgen_rf as rf

# A call, and below it the error that it raises. X is an array of shape (2, 3), of NumPy or of the framework in the
# heading; sample(...) is sample_timesteps(2, CFG, ...). In braces is a value that a framework shows in its own way.

ON_EVERY_FRAMEWORK = """
add_noise([1.0], X, 0.5)
    TypeError: x0 must be an array of NumPy, PyTorch, JAX, CuPy or an array API namespace, got list
add_noise(np.ma.ones((2, 3)), X, 0.5)
    TypeError: x0 must not be a masked array, got MaskedArray: fill it, or leave masked elements out
add_noise(X.view(type('Metres', (np.ndarray,), {'__array_ufunc__': None})), X, 0.5)
    TypeError: x0 must be a plain array, got Metres, whose unit or mask would be lost: pass its values alone
add_noise(type('Array', (), {'__array_namespace__': lambda self, api_version: np})(), X, 0.5)
    TypeError: x0 must follow the array API standard, got numpy, whose arrays have no device: pass NumPy arrays and
    convert the result
add_noise(X, X, np.ones(2, int))
    TypeError: t must be a real floating array, got dtype int64; t runs from 0 (data) to 1 (noise): divide integer
    timesteps (e.g. diffusers' 0..1000) by 1000
add_noise(X, X, 500)
    TypeError: t must be a float in [0, 1] or a real floating array, got 500; t runs from 0 (data) to 1 (noise): divide
    integer timesteps (e.g. diffusers' 0..1000) by 1000
timestep_quantile(500, CFG)
    TypeError: u must be a float in [0, 1] or a real floating array, got 500
expand_like(X, X, axes=(0, 0.5))
    TypeError: axes must be a tuple or list of integers, got (0, 0.5)
timestep_density(0.5, {'min_t': 0.0})
    TypeError: cfg must be a SampleTimestepConfig, got a dict: pass SampleTimestepConfig(**cfg)
timestep_density(0.5, 'uniform')
    TypeError: cfg must be a SampleTimestepConfig, got a string: pass SampleTimestepConfig('uniform')
timestep_density(0.5, None)
    TypeError: cfg has no attribute 'time_dist_type', required for every timestep distribution: pass a
    SampleTimestepConfig or an object with its attributes, got None
timestep_quantile(0.5, BARE)
    TypeError: cfg has no attribute 'mode_scale', required for time_dist_type='mode': pass a SampleTimestepConfig or an
    object with its attributes, got namespace(time_dist_type='mode', min_t=0.0, max_t=1.0)
timestep_density(0.5, SampleTimestepConfig)
    TypeError: cfg must be an instance, got the class SampleTimestepConfig: pass SampleTimestepConfig(...)
shift_timesteps(0.5, X)
    TypeError: shift must be a number where t is a number, got ndarray
shift_timesteps(X.astype(int), X)
    TypeError: t must be a real floating array, got dtype int64; t runs from 0 (data) to 1 (noise): divide integer
    timesteps (e.g. diffusers' 0..1000) by 1000
convert_time(500, source='rf', target='sigma')
    TypeError: time must be a float in [0, 1] or a real floating array, got 500; t runs from 0 (data) to 1 (noise):
    divide integer timesteps (e.g. diffusers' 0..1000) by 1000
convert_time(0.5j, source='sigma', target='rf')
    TypeError: time must be a float or a real floating array for source 'sigma', got 0.5j
sample_timesteps(-1, CFG, rng=0, xp=np)
    ValueError: n must not be negative, got -1
sample_timesteps((2, 10**20), CFG, rng=0, xp=np)
    ValueError: n is too large for an array, got (2, 100000000000000000000)
sample_timesteps(2.5, CFG, rng=0, xp=np)
    TypeError: n must be an integer or a tuple of integers, got 2.5
sample_timesteps(np.ones(2), CFG, rng=0, xp=np)
    TypeError: n must be an integer or a tuple of integers, got array([1., 1.]); n is static: pass x.shape[0] or int(n),
    and under jax.jit use static_argnames='n'
sample(rng=0, xp=np, dtype='float33')
    TypeError: dtype must be a real floating dtype, got 'float33'
sample()
    TypeError: cannot infer the array framework: pass a generator as rng (numpy.random.Generator, torch.Generator, JAX
    key, cupy.random.Generator), or xp=numpy, torch, jax.numpy or cupy, or a torch.device or torch.dtype
sample(rng=42)
    TypeError: cannot infer the array framework: an int (rng=42) does not identify one; add xp=numpy, torch, jax.numpy
    or cupy, or pass a generator, key, device or dtype of the framework itself
sample(device='cuda')
    TypeError: cannot infer the array framework: a string (device='cuda') does not identify one; add xp=numpy, torch,
    jax.numpy or cupy, or pass a generator, key, device or dtype of the framework itself
sample(dtype=X.dtype)
    TypeError: cannot infer the array framework: a NumPy dtype (dtype=dtype('float64')) does not identify one; add
    xp=numpy, torch, jax.numpy or cupy, or pass a generator, key, device or dtype of the framework itself
sample(rng=np.int64(7), device=0)
    TypeError: cannot infer the array framework: an int (rng=7) or an int (device=0) does not identify one; add
    xp=numpy, torch, jax.numpy or cupy, or pass a generator, key, device or dtype of the framework itself
sample(rng=[1], xp=np)
    TypeError: unrecognized rng: got list; rng must be a generator (numpy.random.Generator, torch.Generator,
    cupy.random.Generator), a JAX key, an int or None
sample(rng=np.random)
    TypeError: unrecognized rng: got module numpy.random; rng must be a generator (numpy.random.Generator,
    torch.Generator, cupy.random.Generator), a JAX key, an int or None
sample(rng=0, device=['cuda'])
    TypeError: unrecognized device: got list; device must be a device of an array framework, its name or None

add_noise(X, X[:1], 0.5)
    ValueError: x0 and eps must have the same shape, got (2, 3) and (1, 3)
add_noise(X, X, np.ones(3))
    ValueError: t must have a leading part of x0's shape (2, 3), or broadcast to it after trailing singleton axes, got
    (3,); use expand_like(t, x0, axes=...) to align t with other axes
expand_like(np.ones(2), X, axes=(1,))
    ValueError: x must broadcast against target's shape (2, 3), got (2,) aligned with axes (1,)
convert_time(0.5, source='rf', target='t')
    ValueError: target must be one of rf, angle, sigma, log_snr, alpha_bar, got 't'
convert_time(10**400, source='sigma', target='rf')
    ValueError: time must be a number that float64 can hold, got {HUGE}
shift_timesteps(X, np.ones(3))
    ValueError: shift must have a leading part of t's shape (2, 3), or broadcast to it after trailing singleton axes,
    got (3,); use expand_like(shift, t, axes=...) to align shift with other axes
resolution_shift(9, base_tokens=4, max_tokens=4)
    ValueError: base_tokens and max_tokens must differ, got 4 twice
resolution_shift(5_000_000)
    ValueError: shift overflows float64 (log shift = 846.8) for tokens=5000000
make_t_list(4, max_t=1.0, terminal=1.0)
    ValueError: terminal must lie in (0, 1), got 1.0
make_t_list(4, terminal=0.1)
    ValueError: terminal needs max_t=1, got max_t=0.999
make_t_list(1, max_t=1.0, terminal=0.1)
    ValueError: terminal needs at least 2 steps, got steps=1
make_t_list(2.5)
    TypeError: steps must be an integer, got 2.5
make_t_list(0)
    ValueError: steps must be at least 1, got 0
make_t_list(2, max_t=1.5)
    ValueError: max_t must lie in (0, 1], got 1.5
shift_timesteps(0.5, -1)
    ValueError: shift must be positive, got -1
convert_time(float('nan'), source='rf', target='log_snr')
    ValueError: time must lie in [0, 1], got nan
convert_time(-2, source='sigma', target='rf')
    ValueError: time must lie in [0.0, inf] for source 'sigma', got -2
make_t_list(2, shift=1e9)
    ValueError: timesteps coincide in float32 for shift=1000000000.0, steps=2; use a shift closer to 1 or fewer steps
SampleTimestepConfig(t_list=3)
    TypeError: t_list must be a sequence of floats, got 3
SampleTimestepConfig(t_list=[0.5, 1, 0])
    ValueError: t_list must be strictly decreasing, start at <= 1, end at 0 and have at least 2 entries, got (0.5, 1.0,
    0.0)
timestep_quantile(0.5, LISTED)
    ValueError: t_list must be strictly decreasing, start at <= 1, end at 0 and have at least 2 entries, got (0.5, 1.0)
SampleTimestepConfig('loguniform', min_t=0)
    ValueError: min_t must be positive for time_dist_type='loguniform', got 0.0
timestep_density(0.5, SampleTimestepConfig('polynomial'))
    ValueError: time_dist_type 'polynomial' has no density: it is discrete
timestep_density(0.5, SampleTimestepConfig('shifted'))
    ValueError: time_dist_type 'shifted' has no density because clamping puts a point mass at a bound; use truncate=True
sample(rng=0, xp=np, device='cuda')
    ValueError: device must be None or 'cpu' for NumPy, got 'cuda'; name another framework with xp
sample_timestep_pairs(2, CFG, equal='a', rng=0, xp=np)
    TypeError: equal must be a number in [0, 1], got 'a'
sample_timestep_pairs(2, CFG, equal=1.5, rng=0, xp=np)
    ValueError: equal must lie in [0, 1], got 1.5
sample_timestep_pairs(2, CFG, zero=0.5, rng=0, xp=np)
    ValueError: equal + zero must be at most 1, got equal=0.75 (its default is 0.75) and zero=0.5
"""
ON_ONE_FRAMEWORK = {
    "torch": """
sample(rng=0, xp=np, dtype=xp.float32)
    TypeError: xp and dtype belong to different frameworks: got numpy and torch
add_noise(X, np.ones((2, 3)), 0.5)
    TypeError: x0 and eps must come from one framework, got torch and numpy: pass torch.asarray(eps)
add_noise(np.ones((2, 3)), X, 0.5)
    TypeError: x0 and eps must come from one framework, got numpy and torch: pass torch.asarray(x0)
add_noise(X, X.to('meta'), 0.5)
    ValueError: x0 and eps must be on one device, got cpu and meta
ode_step(X, X, 0.5, X.to('meta'))
    ValueError: x0 and t_next must be on one device, got cpu and meta
expand_like(X, np.ones((2, 3)))
    TypeError: x and target must come from one framework, got torch and numpy: pass torch.asarray(target)
sample(rng=xp.float32)
    TypeError: rng must be a torch.Generator, a numpy.random.Generator, an int or None, got dtype
sample(rng=0, xp=xp, device='gpu')
    ValueError: device must be a torch.device or its name, such as 'cuda:0', got 'gpu'
SampleTimestepConfig(t_list=X[0].to('meta'))
    TypeError: t_list must be a sequence of floats, got tensor(..., device='meta', size=(3,)), which cannot be read;
    t_list is static: make it outside the traced function, or jit with static_argnames='t_list'
""",
    "jax": """
__import__('jax').jit(lambda: sample(rng=np.random.default_rng(0)))()
    TypeError: rng must be a JAX key or an int in a function that JAX traces (jit, scan, checkpoint, export, ...), got
    Generator: a NumPy generator is read once, while the function is traced, and every call returns the same values;
    pass a key as an argument, or draw outside and pass the result
sample(xp=xp)
    TypeError: rng must be given for JAX, which has no global generator: pass jax.random.key(seed)
sample(rng=xp.float32)
    TypeError: rng must be a JAX key, a numpy.random.Generator or an int for JAX, got _ScalarMeta
sample(rng=X)
    TypeError: rng must be a JAX key, a numpy.random.Generator or an int for JAX, got an array of dtype float32
sample(rng=xp.zeros((2, 2), 'uint32'))
    ValueError: rng must be one JAX key, got keys of shape (2, 2): vmap over them
sample(rng=KEY, device=OTHER)
    ValueError: rng and device must agree, got a key on {KEY.sharding} and device {OTHER}
""",
    "cupy": """
sample(xp=xp, device='cpu')
    ValueError: device must be a cupy.cuda.Device, an index or a name such as 'cuda:0', got 'cpu'
""",
    "array_api_strict": """
add_noise(X, xp.zeros((2, 3), device=xp.Device('device1'), dtype=xp.float32), 0.5)
    ValueError: x0 and eps must be on one device, got {X.device} and array_api_strict.Device('device1')
timestep_quantile(X, CFG)
    TypeError: u is an array of array_api_strict, which has no special functions: pass a NumPy array as u and convert
    the result
convert_time(X, source='rf', target='angle')
    TypeError: 'angle' and 'log_snr' need float64, which device {X.device} lacks: pass a float or a NumPy array as time
    and move the result to the device
""",
}


CFG = rf.SampleTimestepConfig()
KNOWN = {name: getattr(rf, name) for name in rf.__all__} | {
    "np": np,
    "CFG": CFG,
    "HUGE": 10**400,
    "sample": functools.partial(rf.sample_timesteps, 2, CFG),
    "BARE": SimpleNamespace(time_dist_type="mode", min_t=0.0, max_t=1.0),
    "LISTED": SimpleNamespace(time_dist_type="uniform", min_t=0.0, max_t=1.0, t_list=[0.5, 1.0]),
}


def check(text: str, **names: Any) -> None:
    entries = re.findall(r"^(\S.*)\n((?:    .*\n)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\S", text, re.MULTILINE))
    for call, message in entries:
        with pytest.raises((TypeError, ValueError)) as caught:
            eval(call, KNOWN | names)
        # Without the notes that JAX adds to an error
        assert f"{type(caught.value).__name__}: {caught.value}" == " ".join(message.split()).format(**KNOWN | names)


def test_the_messages_of_every_framework() -> None:
    check(ON_EVERY_FRAMEWORK, X=np.ones((2, 3)))
    assert str(rf._evaluate.mixed("x", SimpleNamespace(name="a"), "y", SimpleNamespace(name="b"))).endswith("a and b")


def check_on(xp: Any, **names: Any) -> None:
    check(ON_ONE_FRAMEWORK[xp.name], X=xp.array(np.ones((2, 3))), xp=xp.namespace, **names)


@pytest.mark.backends("torch", "cupy")
def test_the_messages_of_one_framework(xp: Any) -> None:
    check_on(xp)


@pytest.mark.backends("jax")
def test_the_messages_of_jax(xp: Any) -> None:
    here, other = xp.jax.devices("cpu")[:2]
    check_on(xp, KEY=xp.jax.device_put(xp.jax.random.key(0), here), OTHER=other)


@pytest.mark.backends("array_api_strict")
@pytest.mark.needs("no float64")
def test_the_messages_of_a_device_without_float64(xp: Any) -> None:
    check_on(xp)
