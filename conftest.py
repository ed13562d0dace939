"""Which frameworks a test run is about, and the ``xp`` fixture that hands each of them to the tests.

``--backend NAME`` (repeatable, comma-separated) and ``--device cpu|cuda`` choose; a framework asked for and missing
ends the run with an error. Nothing is skipped: a test that no chosen framework can serve is not collected, or
deselected. The laws themselves are in ``tests/``; no expected value is computed here.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import random
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# With more threads than cores PyTorch's operations wait for each other: tests of large arrays took four times as long.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else each starts a pool of compilers: 6 s

# A test that says nothing else searches a little, and the same every time; ``--hypothesis-profile fuzz`` searches on.
settings.register_profile("suite", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile("share", settings.get_profile("suite"), max_examples=20)
settings.register_profile("fuzz", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("suite")

_ON_CPU = ("numpy", "torch", "jax", "array_api_strict", "dask")
_ON_CUDA = ("torch", "jax", "cupy")
_ALL = ("numpy", "torch", "jax", "cupy", "array_api_strict", "dask")
_OPTIONAL = ("triton", "nvrtc", "interop", "examples")  # folders that an option opens
_TESTS = Path(__file__).parent / "tests"
_DTYPES = ("float64", "float32", "bfloat16", "float16")
_WITHOUT = {  # what a framework has not, of the dtypes above
    "array_api_strict": {"bfloat16", "float16"},
    "dask": {"bfloat16", "float16"},
} | {name: set() if importlib.util.find_spec("ml_dtypes") else {"bfloat16"} for name in ("numpy", "cupy")}


# The options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastgen_rf")
    group.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME[,NAME...]",
        help=f"frameworks to test, of {', '.join(_ALL)}; by default all that are installed, on CUDA "
        f"{', '.join(_ON_CUDA)}. One that is missing is an error",
    )
    group.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where their arrays live")
    group.addoption(
        "--triton", action="store_true", help="collect tests/torch/triton, which runs kernels in Triton's interpreter"
    )
    group.addoption(
        "--nvrtc", action="store_true", help="collect tests/devices/nvrtc, which compiles CuPy's kernels alone"
    )
    group.addoption(
        "--stand-in",
        action="store_true",
        help="run what CuPy is tested with on a stand-in over NumPy, and nothing else: it proves nothing about CuPy",
    )
    group.addoption("--interop", action="store_true", help="collect tests/interop, which `nox -s interop` installs for")
    group.addoption(
        "--examples", action="store_true", help="collect tests/examples, which `nox -s examples` installs for"
    )
    group.addoption(
        "--cases",
        default="0/1",
        metavar="K/N[/M]",
        help="run every test on each framework, but of its cases only each N-th from the K-th on, K from 0; each M-th "
        "where they are a product of several arguments",
    )
    group.addoption("--tests", default="0/1", metavar="J/H", help="of the tests only the J-th of H parts, J from 0")


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "backends(*names): run on these frameworks only",
        "needs(*what): run where these dtypes exist; 'special': special functions too; 'no float64': float64 does not",
        "dtypes(*names): parametrise the argument `dtype` over these (all four if none), where xp has them",
        "undealt: starts interpreters, which takes seconds, or needs a compiler's optimisations; not dealt out",
        "unserved: no framework of this run serves the test; deselected",
    ):
        config.addinivalue_line("markers", line)
    asked = [name for entry in config.getoption("--backend") for name in entry.split(",") if name]
    on_cuda = config.getoption("--device") == "cuda"
    _prepare_jax(on_cuda)
    if config.getoption("--triton"):
        if not importlib.util.find_spec("triton"):
            raise pytest.UsageError("asked for and not installed: triton")
        os.environ["TRITON_INTERPRET"] = "1"  # Triton reads this when it is imported
    if config.getoption("--stand-in"):
        if asked or on_cuda:
            raise pytest.UsageError("--stand-in goes with no --backend and no --device cuda")
        sys.path.insert(0, str(_TESTS / "cupy" / "stand_in"))
    config.stash[_SELECTED] = ("cupy",) if config.getoption("--stand-in") else _selected(asked, on_cuda)
    opened = {name for name in _OPTIONAL if config.getoption(f"--{name}")} | ({"cuda"} if on_cuda else set())
    config.stash[_CLOSED] = {*_ALL, *_OPTIONAL, "cuda"} - opened - set(config.stash[_SELECTED])


def _prepare_jax(on_cuda: bool) -> None:
    """Four host devices, for sharding, and no GPU in a CPU run; JAX reads this when it is imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=4".strip()
    if on_cuda:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave room for the others
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"


def _selected(asked: list[str], on_cuda: bool) -> tuple[str, ...]:
    """Names of the frameworks to test, each of them present, in a fixed order."""
    possible = _ON_CUDA if on_cuda else _ON_CPU
    unknown = [name for name in asked if name not in _ALL]
    if unknown:
        raise pytest.UsageError(f"--backend {unknown[0]}: not one of {', '.join(_ALL)}")
    misplaced = [name for name in asked if name not in possible]
    if misplaced:
        raise pytest.UsageError(f"--backend {misplaced[0]}: not on --device {'cuda' if on_cuda else 'cpu'}")
    if asked or on_cuda:
        wanted = [name for name in possible if name in asked or not asked]
        missing = [name for name in wanted if not importlib.util.find_spec(name)]
        if missing:
            raise pytest.UsageError(f"asked for and not installed: {', '.join(missing)}")
        if on_cuda:
            _check_cuda(wanted)
    else:
        wanted = [name for name in possible if importlib.util.find_spec(name)]
    return tuple(wanted)


def _check_cuda(names: list[str]) -> None:
    present = {
        "torch": lambda: importlib.import_module("torch").cuda.is_available(),
        "jax": lambda: bool(importlib.import_module("jax").devices("cuda")),
        "cupy": lambda: importlib.import_module("cupy").cuda.runtime.getDeviceCount() > 0,
    }
    for name in names:
        try:
            reason = "" if present[name]() else "it sees none"
        except Exception as error:  # each framework has its own; what it says is passed on
            reason = str(error)
        if reason:
            raise pytest.UsageError(f"--device cuda: {name} has no CUDA device ({reason})")


_SELECTED = pytest.StashKey[tuple[str, ...]]()
_CLOSED = pytest.StashKey[set[str]]()


def pytest_report_header(config: pytest.Config) -> str:
    if config.getoption("--stand-in"):
        return "fastgen_rf: a stand-in over NumPy for the calls that CuPy gets; CuPy itself is not tested"
    return f"fastgen_rf: {', '.join(config.stash[_SELECTED])} on {config.getoption('--device')}"


# What is collected


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over a folder that is closed in this run, or say nothing."""
    return True if _TESTS in collection_path.parents and collection_path.name in config.stash[_CLOSED] else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "xp" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("backends")
    device = metafunc.config.getoption("--device")
    needs = {what for mark in metafunc.definition.iter_markers("needs") for what in mark.args}
    places = [
        place
        for name in metafunc.config.stash[_SELECTED]
        if only is None or name in only.args
        for place in _places(name, "stand_in" if metafunc.config.getoption("--stand-in") else device)
        if needs <= _offers(place)
    ]
    mark = metafunc.definition.get_closest_marker("dtypes")
    unserved = pytest.mark.unserved
    if mark is None:
        params = [pytest.param(place, id=_identify(place)) for place in places]
        metafunc.parametrize("xp", params or [pytest.param(None, marks=unserved)], indirect=True, scope="session")
        return
    pairs = [
        pytest.param(place, dtype, id=f"{_identify(place)}-{dtype}")
        for place in places
        for dtype in mark.args or _DTYPES
        if dtype in _offers(place)
    ]
    metafunc.parametrize(
        ("xp", "dtype"), pairs or [pytest.param(None, None, marks=unserved)], indirect=["xp"], scope="session"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    served = [item for item in items if not item.get_closest_marker("unserved")]
    if config.getoption("--stand-in"):  # what is not about CuPy runs elsewhere
        served = [item for item in served if "xp" in item.fixturenames or item.path.parent.name == "cupy"]
    tests, cases = ([int(number) for number in config.getoption(name).split("/")] for name in ("--tests", "--cases"))
    taken = _share(served, *tests, *cases)
    config.hook.pytest_deselected(items=[item for item in items if item not in taken])
    items[:] = [item for item in items if item in taken]


def _share(items: list[pytest.Item], j: int, parts: int, k: int, n: int, of_products: int = 0) -> set[pytest.Item]:
    """Each n-th case from the k-th on, shuffled, of every test of a part on each framework.

    A test with fewer cases than shares is in each of them with one; an undealt one is whole in each.
    """
    cases: dict[object, list[pytest.Item]] = {}
    for item in items:
        parameters = getattr(item, "callspec", None)
        where = parameters.params.get("xp") if parameters else None
        cases.setdefault((item.nodeid.partition("[")[0], where), []).append(item)
    taken: set[pytest.Item] = set()
    for (test, _), those in cases.items():
        if those[0].get_closest_marker("undealt"):
            taken.update(those)
        elif zlib.crc32(test.encode()) % parts == j:
            random.Random(test).shuffle(those)  # each n-th of a product may have but one value of an argument
            dtypes = [mark for mark in those[0].iter_markers("dtypes") if len(mark.args) != 1]
            factors = [*those[0].iter_markers("parametrize"), *dtypes]
            step = of_products if of_products and len(factors) > 1 else n
            taken.update(those[k::step] or [those[k % len(those)]])
    return taken


@functools.cache
def _places(name: str, device: str) -> tuple[tuple[str, str], ...]:
    """``(framework, device)`` for each device of a framework that a run on ``device`` covers."""
    if name == "array_api_strict":
        info = importlib.import_module(name).__array_namespace_info__()
        return tuple((name, at._device) for at in info.devices())
    return ((name, device),)


@functools.cache
def _offers(place: tuple[str, str]) -> frozenset[str]:
    """The dtypes of a device, and what else ``needs`` may ask for."""
    name, device = place
    dtypes = set(_DTYPES) - _WITHOUT.get(name, set())
    if device in ("no_float64", "no_x64"):
        dtypes = dtypes - {"float64"} | {"no float64"}
    return frozenset(dtypes | ({"special"} if name in ("numpy", "torch", "jax", "cupy") else set()))


def _identify(place: tuple[str, str]) -> str:
    if place[1] == "stand_in":
        return place[1]  # a report names CuPy only where CuPy ran
    return place[0] if place[1] in ("cpu", "cuda") else "-".join(place)


# The fixtures


@pytest.fixture(scope="session")
def xp(request: pytest.FixtureRequest) -> Framework:
    """A framework on one of its devices; every test that asks for it runs on each of them."""
    return _framework(*request.param)


@pytest.fixture(scope="session")
def selected(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Names of the frameworks that this run covers."""
    return request.config.stash[_SELECTED]


@dataclass(frozen=True)
class Framework:
    """An array framework on one device, and how to get values in and out of it without the library under test.

    As it stands it serves a namespace of the array API standard, which has no generator of its own.
    """

    name: str
    namespace: Any
    device: Any
    dtypes: frozenset[str]

    @property
    def has_float64(self) -> bool:
        return "float64" in self.dtypes

    @property
    def draw_args(self) -> dict[str, Any]:
        """Arguments that name the framework and the device to a sampler."""
        return {"xp": self.namespace, "device": self.device}

    @property
    def contracts(self) -> bool:
        """Whether a compiler stands between the formula and the machine, and may fuse ``a b + c``."""
        return False

    @property
    def rounds_by_way_of_float32(self) -> bool:
        """Whether float64 becomes bfloat16 in two roundings."""
        return True

    def rng(self, seed: int) -> Any:
        """Fresh generator, the framework's own where it has one."""
        return np.random.default_rng(seed)

    def dtype(self, name: str) -> Any:
        return getattr(self.namespace, name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        """Array of the framework on the device; a NumPy array's memory order is kept."""
        host = np.asarray(values, dtype=dtype if dtype in ("float32", "float64") else None)
        return self.namespace.asarray(host, dtype=self.dtype(dtype), device=self.device)

    def numpy(self, array: Any) -> Any:
        """The same values as a NumPy array; bfloat16, which NumPy has not, as float32."""
        return np.from_dlpack(array)

    def device_of(self, array: Any) -> Any:
        return array.device


class NumpyFramework(Framework):
    @property
    def draw_args(self) -> dict[str, Any]:
        return {"xp": self.namespace}

    def dtype(self, name: str) -> Any:
        if name == "bfloat16":
            return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
        return np.dtype(name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        return np.array(values, dtype=self.dtype(dtype), order="K")

    def numpy(self, array: Any) -> Any:
        if not isinstance(array, (np.ndarray, np.generic)):
            raise TypeError(f"not NumPy's: {type(array)}")
        return np.asarray(array, dtype=np.float32) if array.dtype.kind == "V" else np.asarray(array)

    def device_of(self, array: Any) -> Any:
        return "cpu"


class TorchFramework(Framework):
    @property
    def contracts(self) -> bool:
        return self.device.type != "cpu"

    def rng(self, seed: int) -> Any:
        return self.namespace.Generator(self.device).manual_seed(seed)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        host = np.array(values, order="K")
        return self.namespace.from_numpy(host).to(self.device, self.dtype(dtype))

    def numpy(self, array: Any) -> Any:
        array = array.detach().cpu()
        return (array.float() if array.dtype == self.namespace.bfloat16 else array).numpy()


class JaxFramework(Framework):
    """float64 without the global flag: the array is made in the scope and keeps its dtype outside."""

    @property
    def draw_args(self) -> dict[str, Any]:
        return {"xp": self.namespace}

    @property
    def contracts(self) -> bool:
        return True

    @property
    def rounds_by_way_of_float32(self) -> bool:
        return bool(self.device.platform == "cpu")  # on an H100 XLA rounds at once

    def rng(self, seed: int) -> Any:
        return importlib.import_module("jax").random.key(seed)

    def dtype(self, name: str) -> Any:
        return np.dtype(getattr(self.namespace, name))

    def array(self, values: Any, dtype: str = "float32") -> Any:
        with importlib.import_module("jax").enable_x64(True):
            return self.namespace.asarray(np.asarray(values), dtype=self.dtype(dtype))

    def numpy(self, array: Any) -> Any:
        if not isinstance(array, importlib.import_module("jax").Array):
            raise TypeError(f"not JAX's: {type(array)}")
        host = np.asarray(array)
        return host.astype(np.float32) if host.dtype.kind == "V" else host

    def device_of(self, array: Any) -> Any:
        (device,) = array.devices()
        return device


class CupyFramework(Framework):
    def rng(self, seed: int) -> Any:
        return self.namespace.random.default_rng(seed)

    def dtype(self, name: str) -> Any:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        host = np.array(values, dtype=self.dtype(dtype), order="K")
        order = sorted(range(host.ndim), key=host.strides.__getitem__, reverse=True)
        dense = self.namespace.asarray(host.transpose(order))  # CuPy moves other orders than C and Fortran as C
        return dense.transpose([order.index(axis) for axis in range(host.ndim)])

    def numpy(self, array: Any) -> Any:
        host = self.namespace.asnumpy(array)
        return host.astype(np.float32) if host.dtype.kind == "V" else host


class DaskFramework(Framework):
    """Lazy arrays in two blocks along the first axis."""

    @property
    def draw_args(self) -> dict[str, Any]:
        return {"xp": self.namespace}

    def dtype(self, name: str) -> Any:
        return np.dtype(name)

    def array(self, values: Any, dtype: str = "float32") -> Any:
        host = np.array(values, dtype=dtype, order="K")
        chunks = tuple(max(1, -(-n // 2)) if axis == 0 else max(1, n) for axis, n in enumerate(host.shape))
        return self.namespace.from_array(host, chunks=chunks)

    def numpy(self, array: Any) -> Any:
        if not isinstance(array, self.namespace.Array):
            raise TypeError(f"not dask's: {type(array)}")
        return np.asarray(array.compute(scheduler="synchronous"))

    def device_of(self, array: Any) -> Any:
        return "cpu"


@functools.cache
def _framework(name: str, device: str) -> Framework:
    """The framework of that name, imported now: a run on one framework imports no other."""
    offers = _offers((name, device))
    if name == "jax":
        platform = importlib.import_module("jax").devices(device)[0]
        return JaxFramework(name, importlib.import_module("jax.numpy"), platform, offers)
    module = importlib.import_module("dask.array" if name == "dask" else name)
    if name == "numpy":
        return NumpyFramework(name, module, device, offers)
    if name == "torch":
        place = module.device("cuda", 0) if device == "cuda" else module.device("cpu")
        return TorchFramework(name, module, place, offers)
    if name == "cupy":
        return CupyFramework(name, module, module.cuda.Device(0), offers)
    if name == "dask":
        return DaskFramework(name, module, device, offers)
    return Framework(name, module, module.Device(device), offers)
