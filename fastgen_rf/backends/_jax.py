"""JAX: every evaluation under ``jax.jit``, in a float64 scope that does not change the global x64 flag.

The scope is ``jax.enable_x64``. The traced function enters it, and every derivative rule enters it again. JAX applies
its own derivative rules outside of the scope, where their constants would be float32
(https://github.com/jax-ml/jax/issues/7336), so derivatives of all orders have rules here (:func:`_run`). Only without
float64 does JAX differentiate the operations. Random bits are drawn outside of the scope, because float64 draws fail in
it under an outer jit (https://github.com/jax-ml/jax/issues/5982), and are combined inside of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.sharding import AxisType, Sharding, SingleDeviceSharding

from fastgen_rf.arithmetic import Float32, Formula, Ops, TimeMap, gradient
from fastgen_rf.arithmetic._triple_float32 import TRIPLE_OPS, TripleFloat32, plus, split
from fastgen_rf.backends._numpy import NumpyDtypes
from fastgen_rf.backends._standard import Draws


class JaxBackend(NumpyDtypes):
    """JAX arrays and tracers, under every transformation."""

    special = jax.scipy.special

    def device(self, array: Any) -> Any:
        return None if isinstance(array, Tracer) else array.sharding

    def share_device(self, array: Any, other: Any) -> bool:
        if isinstance(array, Tracer) or isinstance(other, Tracer):
            # In a trace, the compiler decides on the placement.
            return True
        if not (array.committed and other.committed):
            # JAX moves arrays that have not been placed explicitly.
            return True
        return bool(array.sharding.device_set == other.sharding.device_set)

    def has_float64(self, device: Any) -> bool:
        return _computes_float64(_platform(device))

    def devices(self) -> list[Any]:
        return list(jax.devices())

    def _astype(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)

    @property
    def _float32(self) -> Float32:
        return _FLOAT32

    def complement(self, t: Any) -> Any:
        return _complement(t)

    def evaluate(self, formula: Formula, arrays: Sequence[Any], times: Sequence[Any], dtype: Any) -> Any:
        if not self.has_float64(self.device(arrays[0])):
            # A float is passed as an argument, because as a constant it would cause a compilation for each value.
            parts = [tuple(map(np.float32, split(t))) if isinstance(t, float) else t for t in times]
            return _evaluate_without_float64(formula, dtype, *arrays, *parts)
        if any(isinstance(t, float) for t in times):
            with jax.enable_x64(True):
                # In the scope, a Python float is a float64.
                if not any(isinstance(x, Tracer) for x in (*arrays, *times)):
                    return _evaluate(formula, dtype, *arrays, *times)
                times = [jnp.asarray(t, jnp.float64) if isinstance(t, float) else t for t in times]
        # Calls with tracers are made outside of the scope. The tracer of a Python float, as in jax.grad(f)(0.5), is a
        # weakly typed float32, and the scope would make a float64 of it.
        return _evaluate(formula, dtype, *arrays, *times)

    def check_rng(self, rng: Any) -> None:
        if rng is None:
            raise TypeError("rng must be given for JAX, which has no global generator: pass jax.random.key(seed)")
        message = "rng must be a JAX key, a numpy.random.Generator or an int for JAX, got "
        if not isinstance(rng, jax.Array):
            raise TypeError(f"{message}{type(rng).__name__}")
        raw = rng.dtype == np.uint32
        if not (raw or jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)):
            raise TypeError(f"{message}an array of dtype {rng.dtype}")
        if rng.ndim != (1 if raw else 0):
            raise ValueError(f"rng must be one JAX key, got keys of shape {rng.shape}: vmap over them")

    def draw(self, shape: tuple[int, ...], draws: Draws, rng: Any, device: Any, dtype: Any) -> tuple[Any, ...]:
        key = _key(rng) if isinstance(rng, int) else rng
        place = _place(device)
        if place is not None and not isinstance(key, Tracer) and key.committed:
            devices = place.device_set if isinstance(place, Sharding) else {place}
            if key.sharding.device_set != devices:
                raise ValueError(f"rng and device must agree, got a key on {key.sharding} and device {device}")
        # The sharding of a key takes 5 us of a draw's 25, and one of its devices is enough.
        where = next(iter(key.devices())) if place is None and not isinstance(key, Tracer) else place
        float64 = self.has_float64(where)
        # Two programs, because the first one takes longest to compile, and it depends on the shape alone.
        bits, order = _random_bits((2, *draws.shape(math.prod(shape))), draws.stratified and float64, key)
        times = (_timesteps if float64 else _timesteps_on_host)(shape, draws, dtype, bits, order)
        return times if place is None else tuple(_put(t, place) for t in times)

    def from_host(self, values: Any, device: Any, dtype: Any) -> Any:
        # Outside of the scope, float64 values would become float32.
        with jax.enable_x64(True):
            return jax.device_put(jnp.asarray(values.astype(dtype)), _place(device))

    def map(self, function: TimeMap, times: Sequence[Any], constants: tuple[Any, ...] = ()) -> Any:
        if not self.has_float64(self.device(times[0])):
            return super().map(function, times, constants)
        return _evaluate(_Partial(function, last=constants), times[0].dtype, *times)

    # JAX never warns.
    map_times = map

    def take(self, values: tuple[float, ...], index: Any, dtype: Any) -> Any:
        taken = _take(values, dtype, index)
        if isinstance(index, Tracer) or taken.sharding == index.sharding:
            return taken
        # The placement is the same, with the spec that the caller wrote.
        return jax.device_put(taken, index.sharding)


class _Partial(NamedTuple):
    """``function(*first, *operands, *last, ops)``, called with the operands and ops, and hashed by value."""

    function: Any
    first: tuple[Any, ...] = ()
    last: tuple[Any, ...] = ()

    def __call__(self, *operands: Any) -> Any:
        return self.function(*self.first, *operands[:-1], *self.last, operands[-1])


def _slope(function: Any, place: int, *operands: Any) -> Any:
    """The derivative of an elementwise ``function`` in its operand at ``place``, which is elementwise too.

    It depends on all operands, even on those that do not change it. Otherwise JAX 0.10 fails, or multiplies a gradient
    by the size of an axis, where vmap maps a function with a derivative rule over an argument that its result does not
    depend on.
    """

    def along(x: Any) -> Any:
        return function(*operands[:place], x, *operands[place + 1 :])

    x = operands[place]
    slope = jax.jvp(along, (x,), (jnp.ones_like(x),))[1]
    # The last operand is ops.
    return jnp.where(False, sum(operands[:-1]), slope)


def _spread(t: Any, like: Any) -> Any:
    """``t`` for each element of ``like``.

    XLA replaces the division by a broadcast t by a multiplication with 1 / t, which is 1 ulp off
    (https://github.com/tensorflow/tensorflow/issues/24061). The select prevents this, but it is not linear under
    ``jax.linear_transpose``. It changes t only where ``like`` is NaN, and there the result is NaN anyway.
    """
    return jnp.where(like != like, like, t)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _run(function: Any, dtype: Any, *operands: Any) -> Any:
    """Evaluate a formula or an elementwise function of ``operands`` in float64 and cast the result to ``dtype``."""
    with jax.enable_x64(True):
        wide = [_with_trailing_axes(jnp.asarray(x, jnp.float64), operands[0].ndim) for x in operands]
        if isinstance(function, Formula):
            count = len(function.constants)
            # XLA's product with 1 / t is 1 ulp of float64 off. After a cast to float32 this shows only if t has more
            # than 24 bits, because only then can a quotient be a tie of float32 (0.25 % of the quotients at t = 0.7).
            # With two times, formulas divide t_next or 1 - t_next by t.
            wide_time = any(t.dtype == jnp.float64 for t in operands[count:])
            if function.divides and (dtype == jnp.float64 or wide_time):
                wide[count] = _spread(wide[count], wide[-1] if function.times == 2 else wide[0])
            function = function.function
        return function(*wide, _OPS).astype(dtype)


@partial(_run.defjvp, symbolic_zeros=True)
def _derivative(function: Any, dtype: Any, operands: Any, tangents: Any) -> Any:
    """Derivatives times tangents, summed in float64.

    A gradient keeps only the operands that it needs. The others become zeros of shape (1, ...).
    """
    result = _run(function, dtype, *operands)
    wanted = {place: tangent for place, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)}
    step, constants = (function.function, function.constants) if isinstance(function, Formula) else (function, ())
    count = len(constants)
    # A formula is linear in its arrays, so only the derivative in a time needs them.
    in_time = max(wanted) >= count
    kept = tuple(
        x if place >= count or (in_time and constants[place] is None) else None for place, x in enumerate(operands)
    )

    # The checkpoint makes the float64 copies of the operands again instead of keeping them.
    @jax.checkpoint
    def along(kept: Any, wanted: Any) -> Any:
        at = [jnp.zeros((1,) * result.ndim, dtype) if x is None else x for x in kept]
        # zeros_like gives the sum the sharding of the result, and makes it vary over the axes of the result.
        total = jnp.zeros_like(result, jnp.float64)
        moves = {
            place: _with_trailing_axes(tangent.astype(jnp.float64), result.ndim) for place, tangent in wanted.items()
        }
        if count and function.times == 2 and in_time:
            # One product for each array, with the derivative of its coefficient along both times.
            times = [_with_trailing_axes(t.astype(jnp.float64), result.ndim) for t in at[count:]]
            both = [moves.pop(count + i, jnp.zeros_like(t)) for i, t in enumerate(times)]
            for place, array in enumerate(at[:count]):
                if constants[place] is None:
                    coefficient = partial(_run, _Partial(gradient(function, place).function, (1.0,)), jnp.float64)
                    total += jax.jvp(coefficient, times, both)[1] * array.astype(jnp.float64)
        for place, move in moves.items():
            total += _run(_Partial(_slope, (step, place)), jnp.float64, *at) * move
        return total.astype(dtype)

    # JAX may call this rule after the scope of the call has ended.
    with jax.enable_x64(True):
        return result, along(kept, wanted)


_evaluate = jax.jit(_run, static_argnums=(0, 1))


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate_without_float64(formula: Formula, dtype: Any, *operands: Any) -> Any:
    """Evaluate a formula in triple-float32 arithmetic. A time is an array, or the parts of a Python float."""
    rank = operands[0].ndim
    parts = [x if isinstance(x, tuple) else (_with_trailing_axes(x.astype(jnp.float32), rank),) for x in operands]
    return formula.function(*(TripleFloat32(x, _FLOAT32) for x in parts), TRIPLE_OPS).float32().astype(dtype)


def _with_trailing_axes(t: Any, rank: int) -> Any:
    """``t`` with trailing singleton axes, by a reshape: the gradient of an index with None would be a sum."""
    return t.reshape(*t.shape, *(1,) * (rank - t.ndim))


def _leading(a: Any) -> Any:
    """``a`` rounded to 12 bits, by integer operations on its bits."""
    bits = (jax.lax.bitcast_convert_type(a, jnp.int32) + 0x800) & -0x1000
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


_OPS = Ops(jnp.maximum, jnp.sqrt, jnp)
_FLOAT32 = Float32(jnp, plus, plus, _leading)


@partial(jax.jit, static_argnums=(0, 1))
def _random_bits(shape: tuple[Any, ...], stratified: bool, key: Any) -> tuple[Any, Any]:
    """Random integers of 32 bits and, if stratified, the order of the strata."""
    bits = jax.random.bits(key, shape, jnp.uint32)
    # Two sort keys of 32 bits, because a TPU cannot sort float64.
    return bits, jnp.lexsort((bits[1, ..., 1, :], bits[0, ..., 1, :])) if stratified else None


@partial(jax.jit, static_argnums=(0, 1, 2))
def _timesteps(shape: tuple[Any, ...], draws: Draws, dtype: Any, bits: Any, order: Any) -> Any:
    with jax.enable_x64(True):
        high, low = bits.astype(jnp.float64)
        order = order if order is None else order.astype(jnp.float64)
        times = draws(high * 2.0**-32 + low * 2.0**-64, jnp, jax.scipy.special, order)
        return tuple(t.astype(dtype).reshape(shape) for t in times)


def _timesteps_on_host(shape: tuple[Any, ...], draws: Draws, dtype: Any, bits: Any, order: None) -> Any:
    def on_host(bits: Any) -> Any:
        from scipy import special

        high, low = np.asarray(bits).astype(np.float64)
        times = draws(high * 2.0**-32 + low * 2.0**-64, np, special)
        return tuple(t.astype(dtype).reshape(shape) for t in times)

    described: Any = jax.eval_shape(lambda: (jnp.zeros(shape, dtype),) * draws.count)
    return jax.pure_callback(on_host, described, bits, vmap_method="sequential")


@partial(jax.jit, static_argnums=(0, 1))
def _take(values: tuple[float, ...], dtype: Any, index: Any) -> Any:
    with jax.enable_x64(True):
        # The table is a constant of the program, so that a call transfers nothing. It is wide, because XLA aborts at a
        # constant of a dtype of 6 bits.
        table = jnp.asarray(np.asarray(values, np.float64 if dtype == np.float64 else np.float32))
        # On a mesh of Explicit axes, a gather needs the sharding of its result.
        sharding = jax.typeof(index).sharding
        return table.at[index].get(mode="promise_in_bounds", out_sharding=sharding).astype(dtype)


@jax.jit
def _complement(t: Any) -> Any:
    # Outside of the scope, a float64 array would become float32.
    with jax.enable_x64(True):
        return 1 - t


def _put(t: Any, place: Any) -> Any:
    if not isinstance(t, Tracer) or not isinstance(place, Sharding):
        return jax.device_put(t, place)
    if set(jax.sharding.get_abstract_mesh().axis_types) == {AxisType.Explicit}:
        # On a mesh of Explicit axes, the sharding is a part of the type, and JAX ignores out_shardings.
        reshard: Any = jax.sharding.reshard
        return reshard(t, place)
    # On a mesh of Auto axes, device_put is only a hint.
    return jax.jit(lambda t: t, out_shardings=place)(t)


@functools.lru_cache
def _platform(device: Any) -> str:
    """Platform of a device or a sharding; the default one for None, which a tracer has."""
    if device is None:
        return jax.default_backend()
    platform: str = (next(iter(device.device_set)) if isinstance(device, Sharding) else device).platform
    return platform


@functools.cache
def _computes_float64(platform: str) -> bool:
    """Whether a platform computes in float64. For an unknown platform a small program is compiled, once."""
    if platform in ("cpu", "gpu", "cuda", "rocm"):
        return True
    place = SingleDeviceSharding(jax.devices(platform)[0])
    try:
        with jax.enable_x64(True):
            jax.jit(lambda x: x * x + x, in_shardings=place).lower(1.0).compile()
    # Each platform raises different exceptions.
    except Exception:
        return False
    return True


def _place(device: Any) -> Any:
    """The JAX device of a name such as ``"gpu:1"``; a device or a sharding unchanged."""
    if not isinstance(device, str):
        if device is None or isinstance(device, (jax.Device, Sharding)):
            return device
        raise TypeError(f"device must be a JAX device, a sharding or a name such as 'cpu:0', got {device!r}")
    platform, _, index = device.partition(":")
    try:
        return jax.devices(platform)[int(index or 0)]
    # The errors of a wrong platform, of a wrong number, and of a string that is not a number.
    except (RuntimeError, IndexError, ValueError) as error:
        names = [f"{each.platform}:{number}" for number, each in enumerate(jax.devices())]
        raise ValueError(f"device must be one of {', '.join(names)}, got {device!r}") from error


def _key(seed: int) -> Any:
    """Key of an int of any size. ``jax.random.key`` uses 32 bits without x64; the further bits are folded in."""
    key = jax.random.key(seed & 0xFFFFFFFF)
    while seed := seed >> 32:
        key = jax.random.fold_in(key, seed & 0xFFFFFFFF)
    return key


BACKEND = JaxBackend(jnp)
