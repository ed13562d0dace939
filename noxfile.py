"""What is run on this library, each in an environment of its own: ``nox --list`` names the sessions.

Plain ``nox`` runs what CI runs. The exact versions of everything stand here and nowhere else; ``pyproject.toml`` has
lower bounds only. A tests session installs one framework and checks that no other is there, so that its passing
proves that the others are not needed.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")

PINS = """
array-api-compat==1.16.0
array-api-strict==2.6.1
build==1.6.1
dask==2026.8.0
diffusers==0.42.1
furo==2025.12.19
hypothesis==6.170.15
jax==0.10.2
jaxlib==0.10.2
matplotlib==3.11.2
ml_dtypes==0.6.0
mpmath==1.3.0
mypy==2.4.1
myst-parser==5.2.0
numpy==2.4.6
nvidia-modelopt==0.47.0
optax==0.2.8
pyright==1.1.414
pytest==9.2.0
pytest-xdist==3.8.0
requests==2.34.2
ruff==0.17.6
scikit-learn==1.9.1
scipy==1.17.1
scipy-stubs==1.17.1.5
sphinx==9.0.4
torch==2.13.0
tqdm==4.70.1
"""

# Import name of each framework, and what installs it: requirements or dependency groups.
FRAMEWORKS = {
    "numpy": (),
    "torch": (".[torch]",),
    "jax": (".[jax]",),
    "array_api_strict": ("strict",),
    "dask": ("dask",),
}
GUESTS = ("torch", "jax", "cupy", "array_api_strict", "dask")  # NumPy is always there

ALONE = """
import importlib.util, sys
here = [name for name in sys.argv[2].split(",") if importlib.util.find_spec(name)]
expected = [name for name in [sys.argv[1]] if name != "numpy"]
sys.exit(here != expected and f"expected {expected} of the frameworks, found {here}")
"""

FROM_WHEEL = '''
"""Stops pytest, in each of its processes, unless the fastgen_rf under test is the one installed by pip."""
import sys
from pathlib import Path

def pytest_configure():
    import fastgen_rf

    home = Path(fastgen_rf.__file__).resolve()
    if not home.is_relative_to(Path(sys.prefix).resolve()) or "site-packages" not in home.parts:
        raise SystemExit(f"not the installed package: {home}")

def pytest_report_header():
    return f"fastgen_rf under test: {sys.modules['fastgen_rf'].__file__}"
'''


def install(session: nox.Session, *requirements: str) -> None:
    """Install requirements, and dependency groups by their names, at the pinned versions."""
    groups = PYPROJECT["dependency-groups"]
    wanted: list[str] = []
    for name in requirements:
        wanted += nox.project.dependency_groups(PYPROJECT, name) if name in groups else [name]
    pins = Path(session.create_tmp()) / "pins.txt"
    pins.write_text(PINS)
    session.install("--constraint", str(pins), *wanted)


def run_pytest(session: nox.Session, *options: str) -> None:
    """Run pytest on all cores; what follows ``--`` on nox's command line goes to pytest."""
    session.run("python", "-m", "pytest", "--numprocesses", "auto", *options, *session.posargs)


# What CI runs


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(tags=["ci"])
def typing(session: nox.Session) -> None:
    """Check the types of the package with mypy (strict) and pyright, all frameworks with types installed."""
    install(session, "-e", ".[torch,jax]", "typing", "bfloat16")
    session.run("mypy")
    session.run("pyright")


def tests_on(framework: str) -> Callable[[nox.Session], None]:
    """Session body that tests one framework in an environment where it is the only one."""

    def tests(session: nox.Session) -> None:
        install(session, ".", "runner", "bfloat16", *FRAMEWORKS[framework])
        session.run("python", "-c", ALONE, framework, ",".join(GUESTS))
        run_pytest(session, "--backend", framework)

    tests.__doc__ = f"Run the tests on {framework}, with no other framework installed."
    return tests


for _framework in FRAMEWORKS:
    _name = "strict" if _framework == "array_api_strict" else _framework
    nox.session(tests_on(_framework), name=f"tests-{_name}", tags=["ci", "tests"])


@nox.session(name="tests-triton", tags=["ci", "tests"])
def tests_triton(session: nox.Session) -> None:
    """Run the kernel that PyTorch runs on CUDA in Triton's interpreter, and compile it for GPUs that are not there."""
    install(session, ".[torch]", "runner")
    session.install("triton==3.7.1")  # no pin for all: where torch is built for CUDA, it brings its own
    run_pytest(session, "--backend", "torch", "--triton", "tests/test_torch_triton.py")


@nox.session(tags=["ci"])
def interop(session: nox.Session) -> None:
    """Hold the functions against nvidia-modelopt's and diffusers', and put them in the former's place."""
    install(session, "-e", ".[torch]", "runner", "interop")
    run_pytest(session, "--backend", "torch", "--interop", "tests/interop")


@nox.session(tags=["ci"])
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel, and test it where the checkout is out of reach."""
    install(session, "build", "runner", "strict", "bfloat16")
    with tempfile.TemporaryDirectory(prefix="fastgen_rf-") as folder:
        place = Path(folder)
        session.run("python", "-m", "build", "--outdir", str(place / "dist"), str(ROOT))  # the wheel from the sdist
        (built,) = (place / "dist").glob("*.whl")
        check_contents(session, built)
        session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "fastgen_rf")
        install(session, str(built))
        for name in ("conftest.py", "pyproject.toml", "README.md", "CHANGELOG.md", "noxfile.py"):
            copy(ROOT / name, place)
        for name in ("tests", "docs"):
            copytree(ROOT / name, place / name, ignore=ignore_patterns("__pycache__", "_build"))
        (place / "from_wheel.py").write_text(FROM_WHEEL)
        with session.chdir(place):
            run_pytest(session, "-p", "from_wheel", "--backend", "numpy,array_api_strict")
            session.run("python", "-m", "fastgen_rf")


def check_contents(session: nox.Session, built: Path) -> None:
    """Fail unless the wheel holds every file of the package, and nothing else but its metadata."""
    package = (path for path in (ROOT / "fastgen_rf").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(ROOT).as_posix() for path in package}
    found = {name for name in zipfile.ZipFile(built).namelist() if ".dist-info/" not in name}
    if found != expected:
        session.error(f"wheel and package differ in {sorted(found ^ expected)}")


@nox.session(tags=["ci"])
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; a warning is an error."""
    install(session, "-e", ".", "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-b", "html", "docs", "docs/_build", *session.posargs)


@nox.session(tags=["ci"])
def demo(session: nox.Session) -> None:
    """Distil a teacher of handwritten digits into a 4-step student; the picture goes to build/distill_digits.png."""
    install(session, "-e", ".[jax]", "demo")
    options = session.posargs or ["--out", "build/distill_digits.png"]
    session.run("python", "docs/examples/distill_digits.py", *options)


nox.options.tags = ["ci"]

# What needs a machine of its own


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Run the tests of PyTorch, JAX and CuPy on CUDA, with the interpreter and the packages at hand."""
    session.run("python", "-m", "pytest", "--device", "cuda", *session.posargs, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory beside what a user would run instead."""
    install(session, "-e", ".[torch,jax]", "bench", "bfloat16", "interop")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(name="random-words")
def random_words(session: nox.Session) -> None:
    """Compare a hundred million random elements, computed without float64, with float64's."""
    install(session, "-e", ".", "strict", "bench")
    session.run("python", "-m", "tests.random_words", *(session.posargs or ["100000000"]))


@nox.session
def figures(session: nox.Session) -> None:
    """Draw the pictures of the documentation's pages on timesteps and predictions anew."""
    install(session, "-e", ".", "bench")
    session.run("python", "docs/examples/timestep_gallery.py", "--out", "docs/_static")
    session.run("python", "docs/examples/conversion_error.py", "--out", "docs/_static/conversion_error.png")
