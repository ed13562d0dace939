"""The config of a timestep distribution: its fields, their checks, and the conversion of other objects to a config."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from fastgen_rf._distributions import DISTRIBUTIONS
from fastgen_rf._numbers import finite, positive
from fastgen_rf._tracing import cached, is_traced, shown
from fastgen_rf.backends import check_plain, of_one_framework

if TYPE_CHECKING:
    from fastgen_rf._typing import TimeDistType
else:
    # OmegaConf 2.3, which Hydra 1.3 requires, rejects a Literal in OmegaConf.structured(SampleTimestepConfig):
    # https://github.com/omry/omegaconf/issues/422.
    TimeDistType = str


@dataclass(frozen=True)
class SampleTimestepConfig:
    """A distribution of training timesteps.

    It has the fields of the class of the same name in ``modelopt.torch.fastgen``, and more. It is frozen and hashable,
    so that it can be a static argument of ``jax.jit``. In the table, ``U`` is a uniform variable, ``Z`` is a standard
    normal variable, and ``[y]`` stands for ``y (max_t - min_t) + min_t``:

    ========================== =======================================================================================
    ``time_dist_type``         t
    ========================== =======================================================================================
    ``"uniform"``              ``[U]``
    ``"logitnormal"``          ``[sigmoid(Z p_std + p_mean)]`` (SD3; EDM's log-normal sigma)
    ``"lognormal"``            ``exp(Z p_std + p_mean)`` truncated to ``[min_t, max_t]``; not EDM's
    ``"shifted"``              ``u = [U]``, then ``shift u / (1 + (shift - 1) u)``, clamped (Wan 2.2)
    ``"polynomial"``           one of the 1000 points of ``linspace(min_t, max_t, 1000)``
    ``"shifted_logitnormal"``  the ``"logitnormal"`` draw, shifted and clamped as ``"shifted"`` is
    ``"mode"``                 ``[U - mode_scale (sin(pi U / 2)**2 - U)]`` (SD3)
    ``"cosmap"``               ``[1 - 1 / (tan(pi U / 2) + 1)]`` (SD3)
    ``"beta"``                 ``[B]``, B from Beta(beta_a, beta_b) (pi0)
    ``"loguniform"``           ``exp`` of a uniform variable on ``[log(min_t), log(max_t)]``
    ========================== =======================================================================================

    Parameters
    ----------
    time_dist_type : str
        One of the distributions above.
    min_t, max_t : float
        Every t lies in ``[min_t, max_t]``, ``0 <= min_t < max_t <= 1``; ``min_t > 0`` for ``"loguniform"``.
    shift : float
        Positive. A shift above 1 favors noise, below 1 data. Used by ``"shifted"`` and ``"shifted_logitnormal"``.
    p_mean, p_std : float
        Mean and (positive) standard deviation of the normal variable in the distributions with
        ``normal`` in their names.
    t_list : sequence of float or array of any framework, optional
        Timesteps of a multi-step student, strictly descending from at most 1 to 0. They are read on the host and stored
        as a tuple of floats.
    truncate : bool
        Whether to take the distribution on its natural support, without ``[...]`` and without clamping, and to
        condition it on ``[min_t, max_t]``. This is exact and needs no rejection.
    mode_scale : float
        Strength of ``"mode"``, ``-1 < mode_scale < 2 / (pi - 2)``: above 0 it favors the middle, below 0 the ends.
    beta_a, beta_b : float
        Parameters of ``"beta"``: positive, and one of them is 1. ``beta_a > 1`` favors noise.

    Raises
    ------
    TypeError
        If a field has the wrong type.
    ValueError
        If a field is out of range.

    Examples
    --------
    >>> SampleTimestepConfig(time_dist_type="logitnormal", t_list=[1.0, 0.5, 0.0]).t_list
    (1.0, 0.5, 0.0)
    """

    time_dist_type: TimeDistType = "shifted"
    min_t: float = 0.001
    max_t: float = 0.999
    shift: float = 5.0
    p_mean: float = 0.0
    p_std: float = 1.0
    t_list: tuple[float, ...] | None = None
    truncate: bool = False
    mode_scale: float = 1.29
    beta_a: float = 1.5
    beta_b: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.time_dist_type, str):
            raise TypeError(f"time_dist_type must be a string, got {shown(self.time_dist_type)}")
        if self.time_dist_type not in DISTRIBUTIONS:
            raise ValueError(f"time_dist_type must be one of {', '.join(DISTRIBUTIONS)}, got {self.time_dist_type!r}")
        for name in ("min_t", "max_t", "shift", "p_mean", "p_std", "mode_scale", "beta_a", "beta_b"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
        if not 0 <= self.min_t < self.max_t <= 1:
            raise ValueError(
                f"min_t and max_t must satisfy 0 <= min_t < max_t <= 1, got {self.min_t!r} and {self.max_t!r}"
            )
        if self.time_dist_type == "loguniform" and self.min_t == 0:
            raise ValueError(f"min_t must be positive for time_dist_type='loguniform', got {self.min_t!r}")
        positive(self.shift, "shift")
        positive(self.p_std, "p_std")
        if self.t_list is not None:
            object.__setattr__(self, "t_list", checked_t_list(self.t_list))
        check_flag(self.truncate, "truncate")
        # Above the upper limit the quantile function of "mode" is not monotonic.
        if not -1 < self.mode_scale < 2 / (math.pi - 2):
            raise ValueError(f"mode_scale must satisfy -1 < mode_scale < 2 / (pi - 2), got {self.mode_scale!r}")
        # Dynamo does not find a number that changes from call to call in a tuple.
        if not (self.beta_a > 0 and self.beta_b > 0 and (self.beta_a == 1 or self.beta_b == 1)):
            raise ValueError(
                f"beta_a and beta_b must be positive and one of them 1, got {self.beta_a!r} and {self.beta_b!r}"
            )


def check_flag(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")


_REQUIRED = ("time_dist_type", "min_t", "max_t")
_FIELDS = tuple(field.name for field in fields(SampleTimestepConfig))


def checked_config(cfg: Any, argument: str = "cfg") -> SampleTimestepConfig:
    """Return the value of ``argument`` as a SampleTimestepConfig.

    Another object needs only the fields that its distribution uses. Other fields that it lacks get their defaults.
    """
    # The result is hashable, and a subclass may not be.
    if type(cfg) is SampleTimestepConfig:
        return cfg
    if isinstance(cfg, type):  # A dataclass has its defaults as attributes.
        raise TypeError(f"{argument} must be an instance, got the class {cfg.__name__}: pass {cfg.__name__}(...)")
    name = getattr(cfg, "time_dist_type", None)
    needed = (*_REQUIRED, *(DISTRIBUTIONS[name].uses if isinstance(name, str) and name in DISTRIBUTIONS else ()))
    # Fields that the distribution does not use are looked up only among the attributes of the object itself, because
    # the lookup of an attribute that a pydantic model lacks takes 2 us.
    own = _FIELDS if is_traced() else getattr(cfg, "__dict__", ())
    given: dict[str, Any] = {}
    for field in _FIELDS:
        if field in needed or field in own or field == "truncate":
            value = getattr(cfg, field, _MISSING if field in needed else None)
            if value is _MISSING:
                raise _no_config(cfg, argument, field, name)
            if value is not None or field in needed:
                given[field] = value
    if given.get("t_list") is not None:
        given["t_list"] = checked_t_list(given["t_list"])
    if is_traced() or not _PLAIN.issuperset(map(type, given.values())):
        return SampleTimestepConfig(**given)
    return _kept(**given)


_MISSING = object()
_PLAIN = {float, int, bool, str, tuple}
_kept = functools.lru_cache(maxsize=256, typed=True)(SampleTimestepConfig)


def _no_config(cfg: Any, argument: str, missing: str, name: Any) -> TypeError:
    """Error for an object that lacks the attribute ``missing``."""
    if isinstance(cfg, Mapping):
        return TypeError(
            f"{argument} must be a SampleTimestepConfig, got a {type(cfg).__name__}: pass SampleTimestepConfig(**cfg)"
        )
    if isinstance(cfg, str):
        return TypeError(f"{argument} must be a SampleTimestepConfig, got a string: pass SampleTimestepConfig({cfg!r})")
    user = "every timestep distribution" if missing in _REQUIRED else f"time_dist_type={name!r}"
    return TypeError(
        f"{argument} has no attribute {missing!r}, required for {user}: pass a SampleTimestepConfig or an object with "
        f"its attributes, got {shown(cfg)}"
    )


def checked_t_list(t_list: Any) -> tuple[float, ...]:
    """Return ``t_list`` as a tuple of floats that descend strictly from at most 1 to 0. Values of arrays are read."""
    given = _read(t_list)
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise TypeError(f"t_list must be a sequence of floats, got {shown(t_list)}")
    entries = tuple(given)
    if set(map(type, entries)) != {float}:
        entries = tuple(finite(_read(entry), "each entry of t_list") for entry in entries)
    return _descending(entries)


@cached
def _descending(entries: tuple[float, ...]) -> tuple[float, ...]:
    # In a trace by Dynamo, numbers that change from call to call become constants when they are keys of a dictionary.
    different = tuple(dict.fromkeys(entries))
    # NaN fails here too. Dynamo traces map several times faster than a generator.
    descending = len(different) == len(entries) and all(map(operator.gt, different, different[1:]))
    if len(different) < 2 or not descending or different[0] > 1 or different[-1] != 0:
        raise ValueError(
            f"t_list must be strictly decreasing, start at <= 1, end at 0 and have at least 2 entries, got "
            f"{shown(entries)}"
        )
    # The cache may return the entries of an equal list that ends in -0.0.
    return (*different[:-1], 0.0)


def _read(value: Any) -> Any:
    """Return the values of an array of any framework as Python numbers, and anything else unchanged."""
    # Dynamo cannot look up an attribute of a number that differs from call to call.
    if type(value) in (float, int):
        return value
    (array,) = of_one_framework(value)
    check_plain(array, "t_list")
    if not hasattr(array, "dtype"):
        return array
    try:
        # Lazy arrays (dask, cubed) have compute, and sparse arrays have todense.
        for convert in ("compute", "todense"):
            array = getattr(array, convert)() if hasattr(array, convert) else array
        if hasattr(array, "tolist"):
            return array.tolist()
        return float(array) if array.shape == () else list(array)
    # Each framework raises a different exception for a value that a trace does not have.
    except Exception as error:
        raise TypeError(
            f"t_list must be a sequence of floats, got {value!r}, which cannot be read; t_list is static: "
            "make it outside the traced function, or jit with static_argnames='t_list'"
        ) from error
