"""JAX: every evaluation under ``jax.jit``, in a float64 scope that leaves the global x64 flag alone.

The scope (``jax.enable_x64``) is entered around a formula's call, so that a Python float comes in as float64; inside
an outer trace it holds for the formula alone. Random words are drawn outside the scope, whose float64 draws fail
inside an outer jit (https://github.com/jax-ml/jax/issues/5982), and joined within it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from fastgen_rf._typing import Formula, TimeFormula, TimeMap
from fastgen_rf.arithmetic import Functions
from fastgen_rf.arithmetic._slope import Slope, coefficients
from fastgen_rf.arithmetic._slope import functions as slopes
from fastgen_rf.backends._numpy import NumpyDtypes
from fastgen_rf.backends._standard import Draws, Function, with_trailing_axes


class JaxBackend(NumpyDtypes):
    """JAX arrays and tracers, under every transformation."""

    generator = "jax.random.key"

    def device(self, array: Any) -> Any:
        return None if isinstance(array, jax.core.Tracer) else array.sharding

    def share_device(self, array: Any, other: Any) -> bool:
        if isinstance(array, jax.core.Tracer) or isinstance(other, jax.core.Tracer):
            return True  # under a trace placement is the compiler's business
        if not (array.committed and other.committed):
            return True  # JAX moves what nobody has placed
        return bool(array.sharding.device_set == other.sharding.device_set)

    def has_float64(self, device: Any) -> bool:
        return jax.default_backend().lower() != "metal"  # a tracer has no device to ask

    def float64(self, device: Any) -> str:
        return "scoped" if self.has_float64(device) else "emulated"

    def devices(self) -> list[Any]:
        return list(jax.devices())

    def astype(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)

    def complement(self, t: Any) -> Any:
        with jax.enable_x64(True):  # else a float64 array comes out as float32
            return _complement(t)

    def evaluate(self, formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
        if not self.has_float64(None):
            return super().evaluate(formula, first, second, t, dtype)
        with jax.enable_x64(True):
            return _evaluate(formula, first, second, t, dtype)

    def check_rng(self, rng: Any) -> None:
        if rng is None:
            raise TypeError("rng must be given for JAX, which has no global generator: pass jax.random.key(seed)")
        if isinstance(rng, int):
            return
        typed = isinstance(rng, jax.Array) and jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
        raw = isinstance(rng, jax.Array) and rng.dtype == np.uint32
        if not (typed or raw):
            raise TypeError(f"rng must be a JAX key or an int for JAX, got {type(rng).__name__}")
        if rng.ndim != (1 if raw else 0):
            raise ValueError(f"rng must be one JAX key, got keys of shape {rng.shape}: vmap over them")

    def draw(self, n: int, quantile: Draws, rng: Any, device: Any, dtype: Any) -> Any:
        key = jax.random.key(rng) if isinstance(rng, int) else rng
        place = _place(device)
        if place is not None and not isinstance(key, jax.core.Tracer) and key.committed:
            devices = place.device_set if isinstance(place, jax.sharding.Sharding) else {place}
            if key.sharding.device_set != devices:
                raise ValueError(f"rng and device must agree, got a key on {key.sharding} and device {device}")
        t = _sample(n, quantile, key, dtype)
        if place is None:
            return t
        if isinstance(t, jax.core.Tracer) and isinstance(place, jax.sharding.Sharding):
            return jax.jit(lambda t: t, out_shardings=place)(t)  # on a mesh of Auto axes, device_put is but a hint
        return jax.device_put(t, place)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        with jax.enable_x64(True):  # else a float64 asked for comes out as float32
            return jax.device_put(jnp.asarray(values.astype(dtype)), _place(device))

    def relative_time(self, formula: TimeFormula, t: Any, t_next: Any, rank: int) -> Any:
        if not self.has_float64(None):
            return super().relative_time(formula, t, t_next, rank)
        with jax.enable_x64(True):
            return _relative_time(formula, t, t_next, rank)

    def relabel(self, formula: TimeMap, time: Any) -> Any:
        if not self.has_float64(None):
            return super().relabel(formula, time)
        with jax.enable_x64(True):
            return _relabel(formula, time)

    def map(self, function: Function, array: Any, name: str, special: bool = False) -> Any:
        if not self.has_float64(None):
            return super().map(function, array, name, special)
        with jax.enable_x64(True):
            return _map(function, array)


@partial(jax.jit, static_argnums=(0, 4))
def _evaluate(formula: Formula, first: Any, second: Any, t: Any, dtype: Any) -> Any:
    return _run(formula, dtype, first, second, t)


def _primal(formula: Formula, dtype: Any, first: Any, second: Any, t: Any) -> Any:
    with jax.enable_x64(True):
        first, second, t = (jnp.asarray(a, jnp.float64) for a in (first, second, t))
        # By a broadcast t XLA does not divide but multiplies with 1 / t, an ulp off; by an elementwise t it divides.
        t = jnp.where(first != first, first, with_trailing_axes(t, first.ndim))
        return formula(first, second, t, _FUNCTIONS).astype(dtype)


def _derivative(formula: Formula, dtype: Any, primals: Any, tangents: Any) -> Any:
    """Derivative by linearity: a gradient keeps t and the arrays that it depends on, at their own dtype, no others."""
    first, second, t = primals
    wanted = [None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents]
    moving = [wanted[2] is not None and coefficient is None for coefficient in coefficients(formula)]
    kept = [array if moves else None for array, moves in zip((first, second), moving, strict=True)]

    @jax.checkpoint  # what float64 makes of them is made again
    def tangent(kept: Any, t: Any, wanted: Any) -> Any:
        t = with_trailing_axes(jnp.asarray(t, jnp.float64), first.ndim)
        total = jnp.zeros(first.shape, jnp.float64)
        if wanted[0] is not None:
            total += formula(wanted[0].astype(jnp.float64), 0.0, t, _FUNCTIONS)
        if wanted[1] is not None:
            total += formula(0.0, wanted[1].astype(jnp.float64), t, _FUNCTIONS)
        if wanted[2] is not None:
            slope = with_trailing_axes(wanted[2].astype(jnp.float64), first.ndim)
            x, y = (0.0 if array is None else array.astype(jnp.float64) for array in kept)
            total += formula(x, y, Slope(t, slope), _SLOPES).slope
        return total.astype(dtype)

    with jax.enable_x64(True):  # JAX may call this rule when the scope of the call is left
        return _run(formula, dtype, first, second, t), tangent(kept, t, wanted)


_run: Any = jax.custom_jvp(_primal, nondiff_argnums=(0, 1))
_run.defjvp(_derivative, symbolic_zeros=True)


_FUNCTIONS = Functions(jnp.maximum, jnp.sqrt, jnp)


def _slope_maximum(t: Slope, floor: float) -> Slope:
    value, slope = jax.jvp(lambda value: jnp.maximum(value, floor), (t.value,), (t.slope,))
    return Slope(value, slope)


_SLOPES = slopes(_FUNCTIONS)._replace(maximum=_slope_maximum)


@partial(jax.jit, static_argnums=(0, 1, 3))
def _sample(n: int, quantile: Draws, key: Any, dtype: Any) -> Any:
    words = jax.random.bits(key, (2, *quantile.shape(n)), jnp.uint32)
    with jax.enable_x64(True):
        high, low = words.astype(jnp.float64)
        u = high * 2.0**-32 + low * 2.0**-64
        return quantile(u, jnp, jax.scipy.special).astype(dtype)


@jax.jit  # called eagerly, the 1 would be a transfer to the device
def _complement(t: Any) -> Any:
    return 1 - t


@partial(jax.jit, static_argnums=(0, 3))
def _relative_time(formula: TimeFormula, t: Any, t_next: Any, rank: int) -> Any:
    t, t_next = (with_trailing_axes(jnp.asarray(time, jnp.float64), rank) for time in (t, t_next))
    return formula(t, t_next, _FUNCTIONS)


@partial(jax.jit, static_argnums=0)
def _relabel(formula: TimeMap, time: Any) -> Any:
    return formula(time.astype(jnp.float64), _FUNCTIONS).astype(time.dtype)


@partial(jax.jit, static_argnums=0)
def _map(function: Function, array: Any) -> Any:
    return function(array.astype(jnp.float64), jnp, jax.scipy.special).astype(array.dtype)


def _place(device: Any) -> Any:
    """The JAX device that a string such as ``"gpu:1"`` names; a device or a sharding as it is."""
    if not isinstance(device, str):
        return device
    platform, _, index = device.partition(":")
    return jax.devices(platform)[int(index or 0)]


BACKEND = JaxBackend(jnp)
