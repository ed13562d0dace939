"""The frameworks that the tests run on: one class each.

A class says how to move values in and out of its framework without the library under test, and how a call is taken
through each of the framework's features. A method in the group "Features" makes the feature part of the support matrix;
the first line of its docstring is what the matrix shows. A test gets an instance as the fixture ``xp``.

Frameworks are imported when an instance is made: a run on one framework imports no other.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

import numpy as np

Call = Callable[..., Any]
NARROW = ("bfloat16", "float16")
EVERYTHING = frozenset({"float64", "float32", *NARROW, "special"})


def low_precision(self: Framework, call: Call, arrays: list[Any]) -> Any:
    """yes"""
    return call(*arrays)


class Framework:
    """A namespace of the array API standard on one device."""

    name: ClassVar[str]
    """What the option ``--backend`` calls it: the name to import it by."""
    title: ClassVar[str]
    """What the documentation calls it."""
    namespace_name: ClassVar[str] = ""
    """The module that has its functions, if that is not the one of its name."""
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """Values of the option ``--device`` that its tests run on."""
    has: ClassVar[frozenset[str]] = frozenset({"float64", "float32"})
    """Dtypes, and "special" if the library has special functions there."""
    contracts: ClassVar[bool] = False
    """Whether a compiler may fuse ``a b + c``, which changes the last bit of few results."""
    names_device: ClassVar[bool] = False
    """Whether the tests pass the device to samplers."""
    rounds_through_float32: ClassVar[bool] = True
    """Whether float64 becomes a 16-bit dtype in two roundings."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.namespace = importlib.import_module(self.namespace_name or self.name)
        self.device = self.find_device(place)

    @classmethod
    def places(cls, device: str) -> tuple[str, ...]:
        """Devices that a run with ``--device device`` covers."""
        return (device,)

    @classmethod
    def offers(cls, place: str) -> frozenset[str]:
        """What a test may need of a device: dtypes, "special", "no float64", or that float64 can be taken away."""
        offered = cls.has | ({"float64 taken away"} if hasattr(cls, "no_float64") else set())
        return offered if cls.name == "torch" or importlib.util.find_spec("ml_dtypes") else offered - {"bfloat16"}

    def find_device(self, place: str) -> Any:
        """The framework's object for a device."""
        return place

    @property
    def has_float64(self) -> bool:
        return "float64" in self.offers(self.place)

    @property
    def dtypes(self) -> list[str]:
        """The floating dtypes of the device, widest first."""
        return [name for name in ("float64", "float32", *NARROW) if name in self.offers(self.place)]

    @property
    def draw_args(self) -> dict[str, Any]:
        """Arguments that name the framework and the device to a sampler."""
        return {"xp": self.namespace} | ({"device": self.device} if self.names_device else {})

    def rng(self, seed: int) -> Any:
        """A fresh generator: the framework's own if it has one."""
        return np.random.default_rng(seed)

    def dtype(self, name: str) -> Any:
        return getattr(self.namespace, name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        """An array on the device; a NumPy array's memory order is kept."""
        host = np.asarray(values, dtype=dtype if dtype in ("float32", "float64") else None)
        return self.namespace.asarray(host, dtype=self.dtype(dtype), device=self.device)

    def other_dtype(self, values: Any, dtype: str) -> Any:
        """An array of a dtype that is not real floating."""
        return self.namespace.asarray(np.asarray(values).astype(dtype))

    def numpy(self, array: Any) -> Any:
        """The same values as a NumPy array; bfloat16, which NumPy lacks, as float32."""
        return np.from_dlpack(array)

    def device_of(self, array: Any) -> Any:
        return array.device

    def as_call(self, sample: Call) -> tuple[Call, list[Any]]:
        """A sampler's call as a function of arrays, and those arrays, for the features below."""
        return lambda: sample(rng=self.rng(0), **self.draw_args), []

    # Features

    def eager(self, call: Call, arrays: list[Any]) -> Any:
        """yes"""
        return call(*arrays)


class Numpy(Framework):
    name, title = "numpy", "NumPy"
    has, low_precision = EVERYTHING, low_precision

    def dtype(self, name: str) -> Any:
        if name == "bfloat16":
            return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
        return np.dtype(name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        return np.array(values, dtype=self.dtype(dtype), order="K")

    def numpy(self, array: Any) -> Any:
        if not isinstance(array, (np.ndarray, np.generic)):
            raise TypeError(f"not a NumPy array: {type(array)}")
        return np.asarray(array, dtype=np.float32) if array.dtype.kind == "V" else np.asarray(array)


class Torch(Framework):
    name, title = "torch", "PyTorch"
    names_device = True
    devices = ("cpu", "cuda")
    has, low_precision = EVERYTHING, low_precision

    def find_device(self, place: str) -> Any:
        return self.namespace.device("cuda", 0) if place == "cuda" else self.namespace.device("cpu")

    @property
    def contracts(self) -> bool:  # type: ignore[override]  # depends on the device
        return bool(self.device.type != "cpu")

    def rng(self, seed: int) -> Any:
        return self.namespace.Generator(self.device).manual_seed(seed)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        return self.namespace.from_numpy(np.array(values, order="K")).to(self.device, self.dtype(dtype))

    def other_dtype(self, values: Any, dtype: str) -> Any:
        return self.namespace.asarray(np.asarray(values).astype(dtype), device=self.device)

    def numpy(self, array: Any) -> Any:
        array = array.detach().cpu()
        return (array.float() if array.dtype == self.namespace.bfloat16 else array).numpy()

    def no_float64(self, call: Call, arrays: list[Any]) -> Any:
        """like MPS (simulated)"""
        backend = importlib.import_module("fastgen_rf.backends._torch").TorchBackend
        with mock.patch.object(backend, "has_float64", lambda self, device: False):
            return call(*arrays)

    def compiled(self, call: Call, arrays: list[Any]) -> Any:
        """`torch.compile(fullgraph=True)`"""
        self.namespace.compiler.reset()
        return self.namespace.compile(call, fullgraph=True, backend="aot_eager")(*arrays)

    def exported(self, call: Call, arrays: list[Any]) -> Any:
        """`torch.export`"""

        class Module(self.namespace.nn.Module):  # type: ignore[misc, name-defined]
            def forward(self, *inputs: Any) -> Any:
                return call(*inputs)

        return self.namespace.export.export(Module(), tuple(arrays)).module()(*arrays)

    def vmap(self, call: Call, arrays: list[Any]) -> Any:
        """`torch.func.vmap`"""
        return self.namespace.func.vmap(call, randomness="different")(*arrays)

    def reverse(self, call: Call, arrays: list[Any], weight: Any) -> Any:
        """autograd"""
        leaves = [x.clone().requires_grad_() for x in arrays]
        return self.namespace.autograd.grad(call(*leaves), leaves, weight)

    def forward(self, call: Call, arrays: list[Any], direction: list[Any]) -> Any:
        """`torch.func.jvp`"""
        return self.namespace.func.jvp(call, tuple(arrays), tuple(direction))[1]

    def repeated(self, call: Call, arrays: list[Any], weight: Any, direction: list[Any]) -> Any:
        """`jvp` of `grad`"""
        func = self.namespace.func
        gradient = func.grad(lambda *x: (call(*x) * weight).sum(), argnums=tuple(range(len(arrays))))
        return func.jvp(gradient, tuple(arrays), tuple(direction))[1]

    def sharded(self, call: Call, arrays: list[Any]) -> Any:
        """`DTensor`"""
        tensor = importlib.import_module("torch.distributed.tensor")
        with self._mesh() as mesh:
            result = call(*(tensor.distribute_tensor(x.cpu(), mesh, [tensor.Shard(0)]) for x in arrays))
            if result.placements != (tensor.Shard(0),):
                raise RuntimeError(f"the result's placements are {result.placements}")
            return result.full_tensor()

    @contextmanager
    def _mesh(self) -> Iterator[Any]:
        distributed = importlib.import_module("torch.distributed")
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        try:
            yield importlib.import_module("torch.distributed.device_mesh").init_device_mesh("cpu", (1,))
        finally:
            distributed.destroy_process_group()

    def as_call(self, sample: Call) -> tuple[Call, list[Any]]:
        """A sampler's call on the global generator, as a function of a tensor whose values do not matter."""
        return lambda x: sample(xp=self.namespace, device=x.device), [self.namespace.zeros(4, device=self.device)]


class Jax(Framework):
    name, title, namespace_name = "jax", "JAX", "jax.numpy"
    devices = ("cpu", "cuda")
    has, low_precision = EVERYTHING, low_precision
    contracts = True

    def __init__(self, place: str) -> None:
        self.jax: Any = importlib.import_module("jax")
        super().__init__(place)

    def find_device(self, place: str) -> Any:
        return self.jax.devices(place)[0]

    @property
    def rounds_through_float32(self) -> bool:  # type: ignore[override]  # XLA for CUDA rounds once
        return bool(self.device.platform == "cpu")

    def rng(self, seed: int) -> Any:
        return self.jax.random.key(seed)

    def dtype(self, name: str) -> Any:
        return np.dtype(getattr(self.namespace, name))

    def array(self, values: Any, dtype: str = "float32") -> Any:
        with self.jax.enable_x64(True):  # a float64 array keeps its dtype outside of the scope
            return self.namespace.asarray(np.asarray(values), dtype=self.dtype(dtype))

    def numpy(self, array: Any) -> Any:
        if not isinstance(array, self.jax.Array):
            raise TypeError(f"not a JAX array: {type(array)}")
        host = np.asarray(array)
        return host.astype(np.float32) if host.dtype.kind == "V" else host

    def device_of(self, array: Any) -> Any:
        (device,) = array.devices()
        return device

    def no_float64(self, call: Call, arrays: list[Any]) -> Any:
        """simulated"""
        backend = importlib.import_module("fastgen_rf.backends._jax").JaxBackend
        with mock.patch.object(backend, "has_float64", lambda self, device: False):
            return call(*arrays)

    def compiled(self, call: Call, arrays: list[Any]) -> Any:
        """`jit`"""
        return self.jax.jit(lambda *x: call(*x))(*arrays)  # jit wants a weak reference, which a tuple has not

    def exported(self, call: Call, arrays: list[Any]) -> Any:
        """`jax.export`"""
        export = importlib.import_module("jax.export").export
        return export(self.jax.jit(lambda *x: call(*x)))(*arrays).call(*arrays)

    def vmap(self, call: Call, arrays: list[Any]) -> Any:
        """`vmap`"""
        return self.jax.vmap(call)(*arrays)

    def reverse(self, call: Call, arrays: list[Any], weight: Any) -> Any:
        """`grad`, `vjp`"""
        return self.jax.vjp(call, *arrays)[1](weight)

    def forward(self, call: Call, arrays: list[Any], direction: list[Any]) -> Any:
        """`jvp`"""
        return self.jax.jvp(call, arrays, direction)[1]

    def repeated(self, call: Call, arrays: list[Any], weight: Any, direction: list[Any]) -> Any:
        """`jvp` of `grad`"""
        gradient = self.jax.grad(lambda *x: (call(*x) * weight).sum(), argnums=tuple(range(len(arrays))))
        return self.jax.jvp(gradient, arrays, direction)[1]

    def sharded(self, call: Call, arrays: list[Any]) -> Any:
        """`NamedSharding`"""
        sharding = self.jax.sharding
        mesh = self.jax.make_mesh((min(4, self.jax.device_count()),), ("rows",))
        rows = sharding.NamedSharding(mesh, sharding.PartitionSpec("rows"))
        result = call(*(self.jax.device_put(x, rows) for x in arrays))
        for part in self.jax.tree.leaves(result):
            if not part.sharding.is_equivalent_to(rows, part.ndim):
                raise RuntimeError(f"the result's sharding is {part.sharding}")
        return result

    def as_call(self, sample: Call) -> tuple[Call, list[Any]]:
        """A sampler's call as a function of integers, which make one key and say where to draw."""

        def call(seeds: Any) -> Any:
            place = None if isinstance(seeds, self.jax.core.Tracer) else seeds.sharding
            return sample(rng=self.jax.random.key(seeds.sum()), device=place)

        return call, [self.namespace.arange(4, device=self.device)]


class Cupy(Framework):
    """CuPy on CUDA; with ``--device stand-in`` a stand-in over NumPy, which proves nothing about CuPy itself."""

    name, title = "cupy", "CuPy"
    names_device = True
    devices = ("cuda", "stand-in")
    has, low_precision = EVERYTHING, low_precision

    def find_device(self, place: str) -> Any:
        return self.namespace.cuda.Device(0)

    def rng(self, seed: int) -> Any:
        return self.namespace.random.default_rng(seed)

    def dtype(self, name: str) -> Any:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        host = np.array(values, dtype=self.dtype(dtype), order="K")
        order = sorted(range(host.ndim), key=host.strides.__getitem__, reverse=True)
        # cupy.asarray keeps C and Fortran order alone, so move the memory in C order and permute the axes afterwards.
        dense = self.namespace.asarray(host.transpose(order))
        return dense.transpose([order.index(axis) for axis in range(host.ndim)])

    def numpy(self, array: Any) -> Any:
        host = self.namespace.asnumpy(array)
        return host.astype(np.float32) if host.dtype.kind == "V" else host


class Strict(Framework):
    """array-api-strict, on its default device and on its device without float64."""

    name, title = "array_api_strict", "array-api-strict"
    names_device = True

    @classmethod
    def places(cls, device: str) -> tuple[str, ...]:
        named = [at._device for at in importlib.import_module(cls.name).__array_namespace_info__().devices()]
        return tuple(place for place in ("CPU_DEVICE", "no_float64") if place in named)

    @classmethod
    def offers(cls, place: str) -> frozenset[str]:
        if place == "no_float64":
            return cls.has - {"float64"} | {"no float64"}
        # The lowest supported version has no such device.
        return cls.has | ({"float64 taken away"} if "no_float64" in cls.places("cpu") else set())

    def find_device(self, place: str) -> Any:
        return self.namespace.Device(place)

    def other_dtype(self, values: Any, dtype: str) -> Any:
        return self.namespace.asarray(np.asarray(values).astype(dtype), device=self.device)

    def no_float64(self, call: Call, arrays: list[Any]) -> Any:
        """its device `no_float64`"""
        device = self.namespace.Device("no_float64")
        return call(*(self.namespace.asarray(self.numpy(x), device=device) for x in arrays))


class Dask(Framework):
    """Lazy arrays in two blocks along the first axis."""

    name, title, namespace_name = "dask", "dask", "dask.array"

    def dtype(self, name: str) -> Any:
        return np.dtype(name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        host = np.array(values, dtype=dtype, order="K")
        chunks = tuple(max(1, -(-n // 2)) if axis == 0 else max(1, n) for axis, n in enumerate(host.shape))
        return self.namespace.from_array(host, chunks=chunks)

    def numpy(self, array: Any) -> Any:
        if not isinstance(array, self.namespace.Array):
            raise TypeError(f"not a dask array: {type(array)}")
        return np.asarray(array.compute(scheduler="synchronous"))

    def device_of(self, array: Any) -> Any:
        return "cpu"

    def lazy(self, call: Call, arrays: list[Any]) -> Any:
        """yes"""

        def refuse(*_: Any, **__: Any) -> None:
            raise RuntimeError("the call computed something")

        with importlib.import_module("dask").config.set(scheduler=refuse):
            return call(*arrays)


FRAMEWORKS: dict[str, type[Framework]] = {
    framework.name: framework for framework in (Numpy, Torch, Jax, Cupy, Strict, Dask)
}
