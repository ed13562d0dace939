"""The types that more than one module speaks of: arrays, times, configs, names and formulas.

Only names live here, nothing that runs. The array protocol asks for what every framework's array has
and no more, so that ``torch.Tensor``, ``jax.Array``, ``numpy.ndarray`` and ``cupy.ndarray`` all satisfy
it and a public function returns the type that it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, Required, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

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

NewT_co = TypeVar("NewT_co", covariant=True)
KeyT = TypeVar("KeyT", bound="Key")

# The names that an argument selects by. The tuples that are checked at run time are made of these.

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
    """The attributes that every config of a timestep distribution needs, another library's included.

    They are properties, so that a frozen dataclass fits, and the type is any string, so that another library's does.
    """

    @property
    def time_dist_type(self) -> str: ...

    @property
    def min_t(self) -> float: ...

    @property
    def max_t(self) -> float: ...


TimeList: TypeAlias = Sequence[float] | Array
"""A t_list as an argument."""


# Keywords of the samplers. Those of a result of NumPy or PyTorch tell a type checker the type of the result.


class Placement(TypedDict, total=False):
    """Keywords of every sampler, apart from rng and xp."""

    device: Any
    dtype: Any


class OnHost(TypedDict, total=False):
    """Keywords of every sampler for a result of NumPy: its generator draws, and no device is given."""

    rng: Required[np.random.Generator]
    xp: None
    device: None
    dtype: npt.DTypeLike | None


class OnTorchDevice(TypedDict, total=False):
    """Keywords of every sampler for a result of PyTorch: its device is given."""

    rng: int | np.random.Generator | None
    xp: None
    device: Required[TorchDevice]
    dtype: Any


class TimeOptions(TypedDict, total=False):
    """Keywords of ``sample_timesteps`` alone."""

    stratified: bool


class PairOptions(TimeOptions, total=False):
    """Keywords of ``sample_timestep_pairs`` alone."""

    equal: float
    zero: float
    r_cfg: TimestepConfig | None


class TimeKeywords(Placement, TimeOptions): ...


class TimeKeywordsOnHost(OnHost, TimeOptions): ...


class TimeKeywordsOnTorchDevice(OnTorchDevice, TimeOptions): ...


class PairKeywords(Placement, PairOptions): ...


class PairKeywordsOnHost(OnHost, PairOptions): ...


class PairKeywordsOnTorchDevice(OnTorchDevice, PairOptions): ...


class ListKeywords(Placement, total=False):
    return_index: Literal[False]


class ListKeywordsOnHost(OnHost, total=False):
    return_index: Literal[False]


class ListKeywordsOnTorchDevice(OnTorchDevice, total=False):
    return_index: Literal[False]


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


AnyNamespace: TypeAlias = Namespace[NewT_co] | TensorNamespace[NewT_co]

Size: TypeAlias = int | tuple[int, ...]
"""How many samples, or the shape of the result."""
