"""The types that more than one module speaks of: arrays, times, formulas and laws.

Only names live here, nothing that runs. The array protocol asks for what every framework's array has
and no more, so that ``torch.Tensor``, ``jax.Array``, ``numpy.ndarray`` and ``cupy.ndarray`` all satisfy
it and a public function returns the type that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

from fastgen_rf.arithmetic import Functions


class Array(Protocol):
    """What the library asks of an array before a backend takes over."""

    @property
    def dtype(self) -> Any: ...

    @property
    def shape(self) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=Array)
TimeT = TypeVar("TimeT", bound=Array | float)

NewT_co = TypeVar("NewT_co", covariant=True)
KeyT = TypeVar("KeyT", bound="Key")

# What tells a type checker the array that a sampler returns, without a framework imported: each names its array's type.


class Namespace(Protocol[NewT_co]):
    """NumPy's, JAX's or CuPy's namespace."""

    @property
    def ndarray(self) -> type[NewT_co]: ...


class TensorNamespace(Protocol[NewT_co]):
    """PyTorch's namespace."""

    @property
    def Tensor(self) -> type[NewT_co]: ...


class TensorGenerator(Protocol[NewT_co]):
    """PyTorch's generator, whose state is a tensor."""

    def get_state(self) -> NewT_co: ...

    def initial_seed(self) -> int: ...


class Key(Protocol):
    """JAX's key, an array like those that it draws."""

    @property
    def addressable_shards(self) -> Any: ...


Formula: TypeAlias = Callable[[Any, Any, Any, Functions], Any]
"""``formula(first, second, t, fn)``: one RF formula in plain operators and the functions ``fn``.

The operands are float64 arrays, Python floats or words of float32; the formula cannot tell.
"""

TimeFormula: TypeAlias = Callable[[Any, Any, Functions], Any]
"""``relative(t, t_next, fn)``: a time made of two, in the same arithmetic."""

TimeMap: TypeAlias = Callable[[Any, Functions], Any]
"""``relabel(time, fn)``: a time by another name, in the same arithmetic."""

PairOfLabel: TypeAlias = Callable[[Any, Functions], tuple[Any, Any]]
LabelOfPair: TypeAlias = Callable[[Any, Any, Functions], Any]

InverseCdf: TypeAlias = Callable[[Any, Any, Any, Any], Any]
"""``law(u, config, xp, special)``: one timestep law's inverse CDF at the float64 array ``u``."""
