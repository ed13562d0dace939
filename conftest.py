"""Which frameworks a test run covers, and the fixture ``xp`` that hands each of them to the tests.

``--backend NAME`` (repeatable, comma-separated) and ``--device cpu|cuda`` choose. A framework that is asked for and
missing ends the run with an error. Nothing is skipped: a test that none of the chosen frameworks can run is deselected.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# With more threads than cores PyTorch's operations wait for each other: tests of large arrays took four times as long.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # otherwise each worker starts a pool of compilers: 6 s

from tests.frameworks import FRAMEWORKS, Framework

settings.register_profile("suite", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("suite")

TESTS = Path(__file__).parent / "tests"
# Folders that need more than a framework. They are collected where the command line names them: `pytest tests/interop`.
BY_NAME_ONLY = ("interop", "examples", "nvrtc", "triton")
DTYPES = ("float64", "float32", "bfloat16", "float16")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastgen_rf")
    group.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME[,NAME...]",
        help=f"frameworks to test, of {', '.join(FRAMEWORKS)}; by default all that are installed. A missing one is an "
        "error",
    )
    group.addoption(
        "--device",
        choices=("cpu", "cuda", "stand-in"),
        default="cpu",
        help="where arrays live; 'stand-in' runs the CuPy backend on a stand-in over NumPy, which proves nothing about "
        "CuPy itself",
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "backends(*names): run on these frameworks only",
        "needs(*what): run where these dtypes exist; 'special': special functions too; 'no float64': float64 does not; "
        "'float64 taken away': a test can run as if it did not",
        "dtypes(*names): parametrize the argument `dtype` over these (all four if none), where xp has them",
        "slow: starts processes, or needs a compiler's optimizations",
    ):
        config.addinivalue_line("markers", line)
    device = config.getoption("--device")
    _prepare_jax(device)
    if device == "stand-in":
        sys.path.insert(0, str(TESTS / "backends" / "cupy" / "stand_in"))
    config.stash[SELECTED] = _selected(config, device)


SELECTED = pytest.StashKey[tuple[str, ...]]()


def _prepare_jax(device: str) -> None:
    """Four host devices, for sharding, and no GPU in a CPU run; JAX reads this when it is imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=4".strip()
    if device == "cuda":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory for the other frameworks
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"


def _selected(config: pytest.Config, device: str) -> tuple[str, ...]:
    """Names of the frameworks to test, each of them present."""
    asked = [name for entry in config.getoption("--backend") for name in entry.split(",") if name]
    possible = [name for name, framework in FRAMEWORKS.items() if device in framework.devices]
    for name in asked:
        if name not in possible:
            raise pytest.UsageError(f"--backend {name}: not one of {', '.join(possible)} on --device {device}")
    # On CUDA every framework must be there: a run that quietly tested fewer would look like a success.
    wanted = [name for name in possible if name in asked or (not asked and (device == "cuda" or _installed(name)))]
    if missing := [name for name in wanted if not _installed(name)]:
        raise pytest.UsageError(f"asked for and not installed: {', '.join(missing)}")
    if device == "cuda":
        for name in wanted:
            _check_cuda(name)
    return tuple(wanted)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _check_cuda(name: str) -> None:
    """End the run unless the framework sees a CUDA device."""
    present = {
        "torch": lambda: importlib.import_module("torch").cuda.is_available(),
        "jax": lambda: bool(importlib.import_module("jax").devices("cuda")),
        "cupy": lambda: importlib.import_module("cupy").cuda.runtime.getDeviceCount() > 0,
    }
    try:
        reason = "" if present[name]() else "it sees none"
    except Exception as error:  # each framework raises its own; its message is passed on
        reason = str(error)
    if reason:
        raise pytest.UsageError(f"--device cuda: {name} has no CUDA device ({reason})")


def pytest_report_header(config: pytest.Config) -> str:
    return f"fastgen_rf: {', '.join(config.stash[SELECTED])} on {config.getoption('--device')}"


# Collection


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out folders of frameworks that this run does not cover, and those that must be named."""
    if TESTS not in collection_path.parents:
        return None
    name = collection_path.name
    if collection_path.parent.name == "gpu" and name.startswith("test_"):  # test_torch_cuda.py
        return None if name.split("_")[1] in config.stash[SELECTED] else True
    if not collection_path.is_dir():
        return None
    if name in BY_NAME_ONLY:
        return None if any(name in Path(argument).parts for argument in config.invocation_params.args) else True
    if name == "gpu":
        return None if config.getoption("--device") == "cuda" else True
    if name == "stand_in" or (name in FRAMEWORKS and name not in config.stash[SELECTED]):
        return True
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "xp" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("backends")
    needs = {what for mark in metafunc.definition.iter_markers("needs") for what in mark.args}
    places = [
        (name, place)
        for name in metafunc.config.stash[SELECTED]
        if only is None or name in only.args
        for place in FRAMEWORKS[name].places(metafunc.config.getoption("--device"))
        if needs <= FRAMEWORKS[name].offers(place)
    ]
    mark = metafunc.definition.get_closest_marker("dtypes")
    if mark is None:
        params = [pytest.param(where, id=_identify(*where)) for where in places]
        metafunc.parametrize("xp", params or [None], indirect=True, scope="session")
        return
    pairs = [
        pytest.param((name, place), dtype, id=f"{_identify(name, place)}-{dtype}")
        for name, place in places
        for dtype in mark.args or DTYPES
        if dtype in FRAMEWORKS[name].offers(place)
    ]
    metafunc.parametrize(("xp", "dtype"), pairs or [(None, None)], indirect=["xp"], scope="session")


def _identify(name: str, place: str) -> str:
    return name if place in ("cpu", "cuda", "CPU_DEVICE") else f"{name}-{place}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect a test that no framework of this run can serve."""
    unserved = [item for item in items if getattr(item, "callspec", None) and item.callspec.params.get("xp", 0) is None]
    config.hook.pytest_deselected(items=unserved)
    items[:] = [item for item in items if item not in set(unserved)]


# Fixtures


@pytest.fixture(scope="session")
def xp(request: pytest.FixtureRequest) -> Framework:
    """A framework on one of its devices; every test that asks for it runs on each of them."""
    return _framework(*request.param)


@functools.cache
def _framework(name: str, place: str) -> Framework:
    return FRAMEWORKS[name](place)
