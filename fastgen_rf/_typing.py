"""The types that more than one module uses: arrays, times, configs, names and the keywords of samplers.

The array protocol asks only for what the arrays of every framework have, so that a public function returns the type
that it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Required, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    HostArray: TypeAlias = npt.NDArray[Any]
    # Where PyTorch is not installed, both are Any to a type checker.
    Tensor: TypeAlias = torch.Tensor
    TorchDevice: TypeAlias = torch.device


class Array(Protocol):
    """What the library asks of an array before a backend takes over."""

    @property
    def dtype(self) -> Any: ...

    @property
    def shape(self) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=Array)
TimeT = TypeVar("TimeT", bound=Array | float)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# The names that an argument selects by; the checks at run time use the same.
PredictionType: TypeAlias = Literal["x0", "eps", "flow", "v", "score", "v_vp"]
TimeParameterization: TypeAlias = Literal["rf", "angle", "sigma", "log_snr", "alpha_bar"]
StatePath: TypeAlias = Literal["rf", "vp", "ve"]
TimeDistType: TypeAlias = Literal[
    "uniform",
    "logitnormal",
    "lognormal",
    "shifted",
    "polynomial",
    "shifted_logitnormal",
    "mode",
    "cosmap",
    "beta",
    "loguniform",
]


class TimestepConfig(Protocol):
    """The attributes that every config needs: properties, so that a frozen dataclass of another library fits."""

    @property
    def time_dist_type(self) -> str: ...

    @property
    def min_t(self) -> float: ...

    @property
    def max_t(self) -> float: ...


TimeList: TypeAlias = Sequence[float] | Array
"""A t_list as an argument."""


# Protocols that let a type checker infer the array type of a sample. They import no framework.


class Namespace(Protocol[T_co]):
    """NumPy's, JAX's or CuPy's namespace, which names the type of its array."""

    @property
    def ndarray(self) -> type[T_co]: ...


class TensorNamespace(Protocol[T_co]):
    """PyTorch's namespace."""

    @property
    def Tensor(self) -> type[T_co]: ...


class TensorGenerator(Protocol[T_co]):
    """PyTorch's generator. Its state is a tensor."""

    def get_state(self) -> T_co: ...

    def initial_seed(self) -> int: ...


class Key(Protocol[T_co]):
    """JAX's key. It is an array of the same type as the samples."""

    def addressable_data(self, index: int, /) -> T_co: ...


# The keywords of every sampler, one class for each way to tell the type of the result.


class OfNamespace(TypedDict, Generic[T], total=False):
    xp: Required[Namespace[T] | TensorNamespace[T]]
    rng: Any
    device: Any
    dtype: Any


class OfRng(TypedDict, Generic[T], total=False):
    xp: None
    rng: Required[TensorGenerator[T] | Key[T]]
    device: Any
    dtype: Any


class OnHost(TypedDict, total=False):
    """NumPy's generator draws, and neither device nor dtype belongs to another framework."""

    xp: None
    rng: Required[np.random.Generator]
    device: None
    dtype: npt.DTypeLike | None


class OnTorchDevice(TypedDict, total=False):
    xp: None
    rng: int | np.random.Generator | None
    device: Required[TorchDevice]
    dtype: Any


class Anywhere(TypedDict, total=False):
    """The type of the result is not known."""

    xp: Any
    rng: Any
    device: Any
    dtype: Any


class PairOptions(TypedDict, total=False):
    """The other keywords of ``sample_timestep_pairs``."""

    equal: float
    zero: float
    r_cfg: TimestepConfig | None
    stratified: bool


class PairsOfNamespace(OfNamespace[T], PairOptions): ...


class PairsOfRng(OfRng[T], PairOptions): ...


class PairsOnHost(OnHost, PairOptions): ...


class PairsOnTorchDevice(OnTorchDevice, PairOptions): ...


class PairsAnywhere(Anywhere, PairOptions): ...


Size: TypeAlias = int | tuple[int, ...]
"""How many samples, or the shape of the result."""
