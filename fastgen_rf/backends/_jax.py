"""JAX: every evaluation under ``jax.jit``, in a float64 scope that leaves the global x64 flag alone.

The scope (``jax.enable_x64``) is entered inside the function that is traced, and anew in every rule of derivatives:
JAX applies its own rules outside, where their constants would come out as float32. So no derivative is left to them,
of whatever order (:func:`_run`). Random integers are drawn outside the scope, because float64 draws inside it fail in
an outer jit (https://github.com/jax-ml/jax/issues/5982). They become float64 numbers inside it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.sharding import AxisType, Sharding, SingleDeviceSharding

from fastgen_rf._typing import Formula, TimeFormula, TimeMap
from fastgen_rf.arithmetic import Float32, Functions
from fastgen_rf.arithmetic._slope import coefficients
from fastgen_rf.arithmetic._term import source
from fastgen_rf.arithmetic._words import FUNCTIONS as WORDS
from fastgen_rf.arithmetic._words import Words, plus, split
from fastgen_rf.backends._numpy import NumpyDtypes
from fastgen_rf.backends._standard import Draws, Function


class JaxBackend(NumpyDtypes):
    """JAX arrays and tracers, under every transformation."""

    generator = "jax.random.key"

    def device(self, array: Any) -> Any:
        return None if isinstance(array, Tracer) else array.sharding

    def device_name(self, array: Any) -> str:
        return _platform(self.device(array))

    def share_device(self, array: Any, other: Any) -> bool:
        if isinstance(array, Tracer) or isinstance(other, Tracer):
            return True  # under a trace placement is the compiler's business
        if not (array.committed and other.committed):
            return True  # JAX moves what nobody has placed
        return bool(array.sharding.device_set == other.sharding.device_set)

    def has_float64(self, device: Any) -> bool:
        return _computes_float64(_platform(device))

    def float64(self, device: Any) -> str:
        return "scoped" if self.has_float64(device) else "emulated"

    def devices(self) -> list[Any]:
        return list(jax.devices())

    def astype(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)

    @property
    def float32(self) -> Float32:
        return _FLOAT32

    def complement(self, t: Any) -> Any:
        return _complement(t)

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        relative, *times = t if isinstance(t, _Times) else (None, t)
        if not self.has_float64(self.device(first)):
            words = [tuple(map(np.float32, split(t))) if isinstance(t, float) else t for t in times]
            return _evaluate_on_words(formula, relative, dtype, first, second, *words)
        start, end = times[0], times[-1]
        if isinstance(start, float) or isinstance(end, float):
            traced = isinstance(first, Tracer) or isinstance(second, Tracer)
            with jax.enable_x64(True):  # in which a Python float is a float64
                if not (traced or isinstance(start, Tracer) or isinstance(end, Tracer)):
                    return _evaluate(formula, relative, dtype, first, second, *times)
                times = [jnp.asarray(time, jnp.float64) if isinstance(time, float) else time for time in times]
        # Outside, since what JAX traces as float32 may be a Python float or NumPy's float64, and would be one inside.
        return _evaluate(formula, relative, dtype, first, second, *times)

    def is_symbolic(self, n: Any) -> bool:
        from jax import export

        return bool(export.is_symbolic_dim(n))

    def check_rng(self, rng: Any) -> None:
        if rng is None:
            raise TypeError("rng must be given for JAX, which has no global generator: pass jax.random.key(seed)")
        typed = isinstance(rng, jax.Array) and jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
        raw = isinstance(rng, jax.Array) and rng.dtype == np.uint32
        if not (typed or raw):
            got = f"an array of dtype {rng.dtype}" if isinstance(rng, jax.Array) else type(rng).__name__
            raise TypeError(f"rng must be a JAX key, a numpy.random.Generator or an int for JAX, got {got}")
        if rng.ndim != (1 if raw else 0):
            raise ValueError(f"rng must be one JAX key, got keys of shape {rng.shape}: vmap over them")

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        key = _key(rng) if isinstance(rng, int) else rng
        place = _place(device)
        if place is not None and not isinstance(key, Tracer) and key.committed:
            devices = place.device_set if isinstance(place, jax.sharding.Sharding) else {place}
            if key.sharding.device_set != devices:
                raise ValueError(f"rng and device must agree, got a key on {key.sharding} and device {device}")
        where = key.sharding if place is None and not isinstance(key, Tracer) else place
        times: tuple[Any, ...] = (_sample if self.has_float64(where) else _sample_on_host)(shape, draws, key, dtype)
        return times if place is None else tuple(_put(t, place) for t in times)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        # Without the scope, JAX would turn float64 into float32.
        with jax.enable_x64(True):
            return jax.device_put(jnp.asarray(values.astype(dtype)), _place(device))

    def relative_time(self, formula: TimeFormula, t: Any, t_next: Any, rank: int) -> Any:
        return _Times(formula, t, t_next)

    def relabel(self, formula: TimeMap, time: Any) -> Any:
        if not self.has_float64(self.device(time)):
            return super().relabel(formula, time)
        return _map(_Relabelled(formula), time)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        if not self.has_float64(self.device(array)):
            return super().map(function, array, name)  # JAX has special functions
        return _map(function, array)

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        taken = _take(values, dtype, index)
        if isinstance(index, Tracer) or taken.sharding == index.sharding:
            return taken
        # This is the same placement, but with the sharding that the caller wrote.
        return jax.device_put(taken, index.sharding)


class _Times(NamedTuple):
    """A time made of two, not yet evaluated: a gradient then keeps the two, and no float64."""

    formula: TimeFormula
    t: Any
    t_next: Any


@dataclass(frozen=True)
class _Applied:
    """A formula as a function of float64 arrays alone, with the time that ``relative`` makes of two if it is given."""

    formula: Formula
    relative: TimeFormula | None = None

    def __call__(self, first: Any, second: Any, *times: Any) -> Any:
        (time,) = times if self.relative is None else (_Relative(self.relative)(*times),)
        return self.formula(first, second, time, _FUNCTIONS)

    def exactly(self, first: Any, second: Any, t: Any, *t_next: Any) -> Any:
        """The same where an ulp of float64 shows: a select, which is not linear for JAX, keeps XLA from it."""
        return self(first, second, t if t_next else _elementwise(t, first), *t_next)


@dataclass(frozen=True)
class _Relative:
    """A time made of two, as a function of float64 arrays alone."""

    formula: TimeFormula

    def __call__(self, t: Any, t_next: Any) -> Any:
        return self.formula(_elementwise(t, t_next), t_next, _FUNCTIONS)


@dataclass(frozen=True)
class _Mapped:
    """A function of a float64 array alone."""

    function: Function

    def __call__(self, x: Any) -> Any:
        return self.function(x, jnp, jax.scipy.special)


@dataclass(frozen=True)
class _Relabelled:
    """A map of times as a function that :func:`_map` takes."""

    formula: TimeMap

    def __call__(self, time: Any, xp: Any, special: Any) -> Any:
        return self.formula(time, _FUNCTIONS)


@dataclass(frozen=True)
class _Slope:
    """Derivative of an elementwise function for one of its arguments, elementwise too.

    It depends on all its arguments, constant or not: where vmap maps a function with derivatives of its own over an
    argument, and its result is not mapped, JAX 0.10 fails at a gradient, or multiplies it by the size of the axis.
    """

    function: Any
    place: int

    def __call__(self, *arrays: Any) -> Any:
        def along(x: Any) -> Any:
            return self.function(*arrays[: self.place], x, *arrays[self.place + 1 :])

        x = arrays[self.place]
        slope = jax.jvp(along, (x,), (jnp.ones_like(x),))[1]
        return jnp.where(False, sum(arrays), slope)


def _elementwise(t: Any, like: Any) -> Any:
    """``t`` for each element of ``like``: by a broadcast t XLA does not divide, it multiplies by 1 / t: an ulp off."""
    return jnp.where(like != like, like, t)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _evaluate(formula: Formula, relative: TimeFormula | None, dtype: Any, first: Any, second: Any, *times: Any) -> Any:
    with jax.enable_x64(True):
        times = tuple(_with_trailing_axes(jnp.asarray(time), first.ndim) for time in times)
        arrays = [  # none that the formula ignores: see _Slope
            jnp.zeros((1,) * array.ndim, array.dtype) if coefficient == 0 else array
            for array, coefficient in zip((first, second), coefficients(formula), strict=True)
        ]
    return _run(_Applied(formula, relative), dtype, *arrays, *times)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _evaluate_on_words(
    formula: Formula, relative: TimeFormula | None, dtype: Any, first: Any, second: Any, *times: Any
) -> Any:
    """The same on float32 words; a time is an array or the words of a Python float, lest each float be compiled for."""
    first, second, *words = [
        Words(t, t[0], _FLOAT32)
        if isinstance(t, tuple)
        else Words.of(_with_trailing_axes(t.astype(jnp.float32), first.ndim), _FLOAT32)
        for t in (first, second, *times)
    ]
    t = words[0] if relative is None else relative(words[0], words[1], WORDS)
    return formula(first, second, t, WORDS).float32().astype(dtype)


def _with_trailing_axes(t: Any, rank: int) -> Any:
    """``t`` with trailing singleton axes, by a reshape: a gradient undoes an index with None by a sum."""
    return t.reshape(*t.shape, *(1,) * (rank - t.ndim))


@partial(jax.jit, static_argnums=0)
def _map(function: Function, array: Any) -> Any:
    return _run(_Mapped(function), array.dtype, array)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _run(function: Any, dtype: Any, *arrays: Any) -> Any:
    """``function``, elementwise, of ``arrays`` in float64, cast to ``dtype``; its derivatives are made in the scope."""
    # Quotients by a number of 53 bits lie on ties of float32, where one of float64 decides: 0.25 % of them at t = 0.7.
    wide_time = any(array.dtype == jnp.float64 for array in arrays[2:])
    divides = isinstance(function, _Applied) and "/" in source(function.formula)
    exactly = divides and (dtype == jnp.float64 or wide_time)
    with jax.enable_x64(True):
        wide = [array.astype(jnp.float64) for array in arrays]
        return (function.exactly if exactly else function)(*wide).astype(dtype)


@partial(_run.defjvp, symbolic_zeros=True)
def _derivative(function: Any, dtype: Any, arrays: Any, tangents: Any) -> Any:
    """Slopes times tangents, summed in float64: a gradient keeps the arrays that it needs, at their own dtype."""
    result = _run(function, dtype, *arrays)
    wanted = {at: tangent for at, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)}
    kept = arrays
    if isinstance(function, _Applied):  # linear in its two arrays: only a slope in time needs them
        moving = [max(wanted) > 1 and coefficient is None for coefficient in coefficients(function.formula)]
        kept = tuple(array if moves else None for array, moves in zip(arrays, (*moving, True, True), strict=False))

    @jax.checkpoint  # what float64 makes of the arrays is made again
    def along(kept: Any, wanted: Any) -> Any:
        step, at = function, [jnp.zeros((1,) * result.ndim, dtype) if array is None else array for array in kept]
        if isinstance(function, _Applied) and function.relative is not None:  # one slope in the time that two make
            moves = [wanted.pop(2 + i, jnp.zeros_like(time)) for i, time in enumerate(at[2:])]
            time, move = jax.jvp(partial(_run, _Relative(function.relative), jnp.float64), at[2:], moves)
            step, at, wanted = _Applied(function.formula), [*at[:2], time], {**wanted, 2: move}
        total = jnp.zeros_like(result, jnp.float64)  # of the result's sharding, and varying over what it varies over
        for place, tangent in wanted.items():
            total += _run(_Slope(step, place), jnp.float64, *at) * tangent.astype(jnp.float64)
        return total.astype(dtype)

    with jax.enable_x64(True):  # JAX may call this rule when the scope of the call is left
        return result, along(kept, wanted)


def _leading(a: Any) -> Any:
    """``a`` rounded to 12 bits, in its bits."""
    bits = (jax.lax.bitcast_convert_type(a, jnp.int32) + 0x800) & -0x1000
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


_FUNCTIONS = Functions(jnp.maximum, jnp.sqrt, jnp)
_FLOAT32 = Float32(jnp, plus, plus, _leading)


def _sample(shape: tuple[Any, ...], draws: Draws, key: Any, dtype: Any) -> tuple[Any, ...]:
    # Two programs, because the first one takes longest to compile, and it depends on the shape alone.
    bits, order = _random_bits((2, *draws.shape(math.prod(shape))), draws.stratified, key)
    times: tuple[Any, ...] = _timesteps(shape, draws, bits, order, dtype)
    return times


@partial(jax.jit, static_argnums=(0, 1))
def _random_bits(shape: tuple[Any, ...], stratified: bool, key: Any) -> tuple[Any, Any]:
    """Random integers of 32 bits and, if stratified, the order of the strata."""
    bits = jax.random.bits(key, shape, jnp.uint32)
    # Two sort keys of 32 bits, because a TPU cannot sort float64.
    return bits, jnp.lexsort((bits[1, ..., 1, :], bits[0, ..., 1, :])) if stratified else None


@partial(jax.jit, static_argnums=(0, 1, 4))
def _timesteps(shape: tuple[Any, ...], draws: Draws, bits: Any, order: Any, dtype: Any) -> tuple[Any, ...]:
    with jax.enable_x64(True):
        high, low = bits.astype(jnp.float64)
        times = draws(high * 2.0**-32 + low * 2.0**-64, jnp, jax.scipy.special, order)
        return tuple(t.astype(dtype).reshape(shape) for t in times)


@partial(jax.jit, static_argnums=(0, 1))
def _take(values: tuple[float, ...], dtype: Any, index: Any) -> Any:
    with jax.enable_x64(True):
        # The table is a constant of the program, so that a call transfers nothing. It is wide, because XLA aborts at a
        # constant of a dtype of 6 bits.
        table = jnp.asarray(np.asarray(values, np.float64 if dtype == np.float64 else np.float32))
        # On a mesh of Explicit axes, a gather needs the sharding of its result.
        sharding = jax.typeof(index).sharding
        return table.at[index].get(mode="promise_in_bounds", out_sharding=sharding).astype(dtype)


def _sample_on_host(shape: tuple[Any, ...], draws: Draws, key: Any, dtype: Any) -> tuple[Any, ...]:
    def on_host(bits: Any) -> Any:
        from scipy import special

        high, low = np.asarray(bits).astype(np.float64)
        times = draws(high * 2.0**-32 + low * 2.0**-64, np, special)
        return tuple(t.astype(dtype).reshape(shape) for t in times)

    bits, _ = _random_bits((2, *draws.shape(math.prod(shape))), False, key)
    described: Any = jax.eval_shape(lambda: (jnp.zeros(shape, dtype),) * draws.count)
    times: tuple[Any, ...] = jax.pure_callback(on_host, described, bits, vmap_method="sequential")
    return times


@jax.jit
def _complement(t: Any) -> Any:
    with jax.enable_x64(True):  # else a float64 array comes out as float32
        return 1 - t


def _put(t: Any, place: Any) -> Any:
    if not isinstance(t, Tracer) or not isinstance(place, Sharding):
        return jax.device_put(t, place)
    if set(jax.sharding.get_abstract_mesh().axis_types) == {AxisType.Explicit}:
        reshard: Any = jax.sharding.reshard  # untyped
        return reshard(t, place)  # there the type says the sharding, and out_shardings are ignored
    return jax.jit(lambda t: t, out_shardings=place)(t)  # on a mesh of Auto axes, device_put is but a hint


@functools.lru_cache  # asked at every call
def _platform(device: Any) -> str:
    """Platform of a device, a sharding or a device's name; where None, as for a tracer, the default one."""
    if device is None:
        return jax.default_backend()
    device = _place(device)
    platform: str = (next(iter(device.device_set)) if isinstance(device, Sharding) else device).platform
    return platform


@functools.cache
def _computes_float64(platform: str) -> bool:
    """Whether a platform computes in float64: asked once, by compiling for it, unless it is known to."""
    return platform in ("cpu", "gpu", "cuda", "rocm") or _compiles_float64(
        SingleDeviceSharding(jax.devices(platform)[0])
    )


def _compiles_float64(place: Sharding) -> bool:
    try:
        with jax.enable_x64(True):
            jax.jit(lambda x: x * x + x, in_shardings=place).lower(1.0).compile()
    except Exception:  # each platform has its own
        return False
    return True


def _place(device: Any) -> Any:
    """The JAX device that a string such as ``"gpu:1"`` names; a device or a sharding as it is."""
    if not isinstance(device, str):
        if device is None or isinstance(device, (jax.Device, Sharding)):
            return device
        raise TypeError(f"device must be a JAX device, a sharding or a name such as 'cpu:0', got {device!r}")
    platform, _, index = device.partition(":")
    try:
        return jax.devices(platform)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError) as error:  # no such platform, no device of that number, no number
        names = [f"{each.platform}:{number}" for number, each in enumerate(jax.devices())]
        raise ValueError(f"device must be one of {', '.join(names)}, got {device!r}") from error


def _key(seed: int) -> Any:
    """Return a key for an int of any size. Without x64, jax.random.key takes 32 bits; the others are folded in."""
    key = jax.random.key(seed & 0xFFFFFFFF)
    while seed := seed >> 32:
        key = jax.random.fold_in(key, seed & 0xFFFFFFFF)
    return key


BACKEND = JaxBackend(jnp)
