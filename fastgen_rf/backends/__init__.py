"""Find the backend of an array, an rng or a device: the one place with the names of the frameworks.

A framework is looked up among the imported modules, and its backend is imported when it is first needed. An array or a
generator of a framework exists only if the framework has been imported. While another thread imports a framework, its
module exists but has no names yet: in place of a missing type the checks use ``()``, and nothing is an instance of it.
The checks are plain ``isinstance`` and import statements, because ``torch.compile`` can trace these, and cannot trace
caches or importlib.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastgen_rf._numbers import plain
from fastgen_rf.backends._standard import Backend as Backend
from fastgen_rf.backends._standard import makes_arrays_on


def load(name: str) -> Backend:
    """Import the backend of one of FRAMEWORKS, which must be installed."""
    module: Any
    if name == "torch":
        import fastgen_rf.backends._torch as module
    elif name == "numpy":
        import fastgen_rf.backends._numpy as module
    elif name == "jax":
        import fastgen_rf.backends._jax as module
    else:
        import fastgen_rf.backends._cupy as module
    return module.BACKEND  # type: ignore[no-any-return]


# PyTorch comes first, because its small operations are the fastest, and so this look-up is a larger part of a call.
# MaskedArray is a subclass of ndarray. Its mask would be lost silently, so it is rejected.
_ARRAYS = (
    ("torch", "Tensor"),
    ("numpy.ma", "MaskedArray"),
    ("numpy", "ndarray"),
    ("jax", "Array"),
    ("cupy", "ndarray"),
    ("numpy", "generic"),
)
FRAMEWORKS = ("numpy", "torch", "jax", "cupy")
_WANTED = {
    "rng": "a generator (numpy.random.Generator, torch.Generator, cupy.random.Generator), a JAX key, an int or None",
    "device": "a device of an array framework, its name or None",
    "dtype": "a dtype of an array framework, its name or None",
}
# The type of a JAX device belongs to jaxlib.
_OF_PACKAGE = {name: name for name in FRAMEWORKS} | {"jaxlib": "jax"}


def backend_of(array: Any, name: str) -> Backend:
    """Find the backend of ``array``; ``name`` is the name of the argument, for error messages."""
    for root, kind in _ARRAYS:
        module = sys.modules.get(root)
        if module is not None and isinstance(array, getattr(module, kind, ())):
            if root == "numpy.ma":
                raise TypeError(f"{name} must not be a masked array, got {kind}: fill it, or leave masked elements out")
            if root == "numpy" and type(array) is not np.ndarray:
                check_plain(array, name)
            return load(root)
    from array_api_compat import array_namespace, device

    try:
        namespace = array_namespace(array)
    except TypeError:
        number = "a float or " if name in ("t", "t_next", "u", "time") else ""
        raise TypeError(
            f"{name} must be {number}an array of NumPy, PyTorch, JAX, CuPy or an array API namespace, "
            f"got {type(array).__name__}"
        ) from None
    try:
        device(array)
    except AttributeError:
        # MLX 0.32 has the functions of the standard, but its arrays do not have the attributes yet.
        raise TypeError(
            f"{name} must follow the array API standard, got {namespace.__name__}, whose arrays have no device: "
            f"pass NumPy arrays and convert the result"
        ) from None
    return Backend(namespace)


def check_plain(array: Any, name: str) -> None:
    """Raise TypeError if ``array`` is a subclass of ndarray with different arithmetic, which a formula would bypass.

    Examples are quantities with units and the masked arrays of astropy. They override ufuncs (astropy, unyt) or
    operators only (the package quantities). ``np.memmap``, ``np.matrix`` and the subclasses of image loaders override
    neither, and are accepted.
    """
    kind, plain_kind = type(array), np.ndarray
    if kind is plain_kind or not isinstance(array, plain_kind):
        return
    if kind.__array_ufunc__ is plain_kind.__array_ufunc__ and kind.__add__ is plain_kind.__add__:
        return
    raise TypeError(
        f"{name} must be a plain array, got {kind.__name__}, whose unit or mask would be lost: pass its values alone"
    )


def is_number(time: Any) -> bool:
    """Whether a checked time is a number: a float, or the ``SymFloat`` that PyTorch's exporter has in its place."""
    return isinstance(time, (float, getattr(sys.modules.get("torch"), "SymFloat", ())))


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array of any framework, or an object that converts to a JAX array."""
    return (hasattr(value, "shape") and hasattr(value, "dtype")) or hasattr(value, "__jax_array__")


def is_symbolic(n: Any) -> bool:
    """Whether ``n`` is a size in an exporter's trace: not a number or an array, but an index or a JAX dimension."""
    if hasattr(type(n), "__index__"):
        return not hasattr(n, "shape")
    jax = sys.modules.get("jax")
    return jax is not None and bool(jax.export.is_symbolic_dim(n))


def as_array(time: Any) -> Any:
    """Return a time that is no float: a tensor in place of a ``SymFloat``, and any array unchanged."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(time, getattr(torch, "SymFloat", ())):
        return time
    return torch.full((), time, dtype=torch.float64, device="cpu")


def excludes_jax(value: Any) -> bool:
    """Fast path: True only if arguments next to ``value`` need no conversion to JAX arrays."""
    return "jax" not in sys.modules or isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


def of_one_framework(*values: Any) -> tuple[Any, ...]:
    """Convert values to JAX arrays as ``jax.numpy`` would.

    Objects with a ``__jax_array__`` method (for example a ``flax.nnx.Param``) are converted. If one of the values is
    then a JAX array, NumPy arrays are converted too.
    """
    if excludes_jax(values[0]):
        # torch.compile traces no more than this.
        return values
    jax, ndarray = sys.modules["jax"], np.ndarray
    # Calls with arrays of NumPy only, or of JAX only, end in these loops. The checks below take 1 to 2 us.
    for value in values:
        if type(value) is not ndarray and type(value) is not float:
            break
    else:
        return values
    for value in values:
        if isinstance(value, ndarray) or hasattr(value, "__jax_array__"):
            break
    else:
        return values
    # A tracer has None in the place of the method.
    values = tuple([_as_jax(jax, to()) if (to := getattr(x, "__jax_array__", None)) else x for x in values])
    if any(isinstance(value, jax.Array) for value in values):
        values = tuple([_as_jax(jax, value) if isinstance(value, ndarray) else value for value in values])
    return values


def _as_jax(jax: Any, array: Any) -> Any:
    """Convert an array to JAX. One of strings, or with a mask or units, is returned, and fails the checks later."""
    if isinstance(array, jax.Array):
        return array
    try:
        check_plain(array, "")
        return jax.numpy.asarray(array)
    except (TypeError, ValueError):
        # Which of the two it is depends on the array.
        return array


def backend_for_draws(rng: Any, xp: Any, device: Any, dtype: Any) -> Backend:
    """Find the one framework that ``rng``, ``xp``, ``device`` and ``dtype`` name.

    A NumPy generator can be used with every framework, so it names NumPy only if nothing names another framework.
    """
    torch: Any = sys.modules.get("torch")
    # Fast path: the checks below take 1.5 us of the 12 that a small draw of PyTorch takes.
    if (
        isinstance(device, getattr(torch, "device", ()))
        and xp is None
        and (rng is None or isinstance(rng, torch.Generator))
        and (dtype is None or isinstance(dtype, torch.dtype))
    ):
        return load("torch")
    if isinstance(rng, (bool, str)):
        raise TypeError(f"rng must be {_WANTED['rng']}, got {rng!r}")
    if isinstance(rng, int) and rng < 0:
        raise ValueError(f"an integer rng (seed) must be non-negative, got {rng!r}")
    of_xp = None if xp is None else _of_namespace(xp)
    if isinstance(rng, np.random.Generator):
        _check_not_staged(rng)
    says = {
        "xp": of_xp,
        "rng": None if isinstance(rng, np.random.Generator) else _of_value(rng, "rng"),
        "device": _of_value(device, "device", of_xp),
        "dtype": None if isinstance(dtype, (np.dtype, type)) else _of_value(dtype, "dtype"),
    }
    named = {name: backend for name, backend in says.items() if backend is not None}
    if not named:
        if isinstance(rng, np.random.Generator):
            return load("numpy")
        given = {"rng": rng, "device": device, "dtype": dtype}
        vague = [f"{_described(value)} ({name}={value!r})" for name, value in given.items() if value is not None]
        if vague:
            raise TypeError(
                f"cannot infer the array framework: {' or '.join(vague)} does not identify one; add xp=numpy, torch, "
                "jax.numpy or cupy, or pass a generator, key, device or dtype of the framework itself"
            )
        raise TypeError(
            "cannot infer the array framework: pass a generator as rng (numpy.random.Generator, torch.Generator, JAX "
            "key, cupy.random.Generator), or xp=numpy, torch, jax.numpy or cupy, or a torch.device or torch.dtype"
        )
    (name, backend), *others = named.items()
    for other_name, other in others:
        if other != backend:
            if "rng" in (name, other_name):
                # RandomState of NumPy is not supported for any framework, which is the more helpful message.
                named["rng"].check_rng(rng)
            raise TypeError(
                f"{name} and {other_name} belong to different frameworks: got {backend.name} and {other.name}"
            )
    if not isinstance(rng, (int, np.random.Generator)):
        backend.check_rng(rng)
    if rng is None and type(backend).draw is Backend.draw:
        # A fresh NumPy generator draws.
        _check_not_staged(rng)
    return backend


def _check_not_staged(rng: Any) -> None:
    """Raise TypeError if JAX is tracing a program, in which the numbers of a NumPy generator would be constants.

    In a trace by ``jit`` an operation on a constant returns a tracer; under an eager ``grad`` or ``vmap`` it does not.
    ``stop_gradient`` is used because it is the fastest such operation and uses no device.
    """
    jax: Any = sys.modules.get("jax")
    if hasattr(jax, "lax") and hasattr(jax, "core") and isinstance(jax.lax.stop_gradient(0.0), jax.core.Tracer):
        raise TypeError(
            f"rng must be a JAX key or an int in a function that JAX traces (jit, scan, checkpoint, export, ...), got "
            f"{type(rng).__name__}: a NumPy generator is read once, while the function is traced, and every call "
            f"returns the same values; pass a key as an argument, or draw outside and pass the result"
        )


def _of_namespace(xp: Any) -> Backend:
    """Backend of a namespace, the framework's own or the one that array_api_compat wraps around it."""
    name = getattr(xp, "__name__", "")
    framework = _OF_PACKAGE.get(name.rpartition("array_api_compat.")[2].partition(".")[0])
    if framework is not None:
        return load(framework)
    if not hasattr(xp, "asarray"):
        raise TypeError(f"xp must be an array namespace (numpy, torch, jax.numpy, cupy, ...), got {xp!r}")
    return backend_of(xp.asarray(0.0), "xp.asarray(0.0)")


def _of_value(value: Any, name: str, of_xp: Backend | None = None) -> Backend | None:
    """Backend of a generator, device or dtype; None if the value does not name a framework.

    A device may belong to a library that is not a framework: the devices of dpnp belong to dpctl. The framework of
    ``of_xp`` must then accept it.
    """
    if value is None or isinstance(plain(value), (str, int)):
        return None
    # Before PyTorch 2.13, Dynamo cannot read the name of the module of a torch.device.
    if isinstance(value, getattr(sys.modules.get("torch"), "device", ())):
        return load("torch")
    root = type(value).__module__.partition(".")[0]
    if root in _OF_PACKAGE:
        return load(_OF_PACKAGE[root])
    namespace = sys.modules.get(root)
    if namespace is None or not hasattr(namespace, "__array_namespace_info__"):
        if of_xp is not None and makes_arrays_on(value, of_xp):
            return of_xp
        # A module or a class, such as numpy.random, is told apart from others by its own name.
        got = " ".join([type(value).__name__, *filter(None, [getattr(value, "__name__", None)])])
        raise TypeError(f"unrecognized {name}: got {got}; {name} must be {_WANTED[name]}")
    return Backend(namespace)


def _described(value: Any) -> str:
    """Describe a value that every framework accepts, for an error message."""
    value = plain(value)
    if isinstance(value, int):
        return "an int"
    if isinstance(value, str):
        return "a string"
    return "a NumPy dtype" if isinstance(value, np.dtype) else "a type"
