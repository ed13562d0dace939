"""The checks of this project: ``nox --list`` names the sessions, plain ``nox`` runs those of CI.

A session that tests one framework installs that framework alone and checks that no other is there, so its passing
proves that the others are not needed. Exact versions are in ``tests/constraints.txt``; ``pyproject.toml`` has lower
bounds only, which the session ``tests-minimum`` installs.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  # nox may run on an older Python than the package
    sys.exit(f"fastgen_rf needs Python 3.11 or newer, but nox runs on Python {sys.version.split()[0]}.")

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.tags = ["ci"]

ASKED_BY_NAME = any(re.match(r"-[se]|--sessions?\b|-l|--list|-t|--tags", argument) for argument in sys.argv[1:])
nox.options.error_on_missing_interpreters = ASKED_BY_NAME
if not ASKED_BY_NAME:
    atexit.register(
        print, "Not run here, because the hardware is missing: CUDA, CuPy, MPS, TPU. See docs/contributing/on_a_gpu.md."
    )

ROOT = Path(__file__).parent
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")  # its Pythons are on the path only if activated
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, sorted(PYENV.glob("versions/3.*/bin")))])
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, each process that imports torch compiles it anew: 2 s
PYPROJECT = nox.project.load_toml("pyproject.toml")

CUPY = (
    "cupy-cuda13x==14.2.0",
    "nvidia-cuda-crt==13.5.37",
    "nvidia-cuda-nvrtc==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
)
# Installed without their dependencies (NumPy before 2, wandb, kornia, pandas), which the compared modules do not import
BARE = ("dctorch==0.1.2", "k-diffusion==0.1.1.post1", "torchcfm==1.0.7")
TRITON = "triton==3.7.1"  # no constraint for all sessions: a CUDA build of torch brings its own

FRAMEWORKS = {  # import name, and what installs it: requirements or dependency groups
    "numpy": (),
    "torch": (".[torch]",),
    "jax": (".[jax]", "recipes"),
    "array_api_strict": ("strict",),
    "dask": ("dask",),
}
GUESTS = ("torch", "jax", "cupy", "array_api_strict", "dask")  # NumPy is always there
MANY = "numpy,array_api_strict,dask,jax"
OF_MANY = (".[jax]", "runner", "recipes", "strict", "dask", "bfloat16")

ALONE = """
import importlib.util, sys
found = [name for name in sys.argv[2].split(",") if importlib.util.find_spec(name)]
expected = [name for name in [sys.argv[1]] if name != "numpy"]
sys.exit(found != expected and f"expected {expected} of the frameworks, found {found}")
"""


def versions(file: str) -> dict[str, str]:
    """Version of each package in a constraints file."""
    lines = (ROOT / "tests" / file).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def lowest() -> dict[str, str]:
    """The lower bounds of the package and of the frameworks, as pyproject.toml declares them."""
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    declared = [
        *project["dependencies"],
        *project["optional-dependencies"]["jax"],
        *project["optional-dependencies"]["torch"],
    ]
    declared += [bound for name in ("strict", "dask", "bfloat16") for bound in groups[name]]
    found = dict(re.findall(r"^([\w-]+)(?:\[.*\])?>=([\d.]+)$", "\n".join(declared), re.MULTILINE))
    return found | {"jaxlib": found["jax"], "distributed": found["dask"]}


def install(session: nox.Session, *requirements: str, instead: dict[str, str] | None = None) -> None:
    """Install requirements, and dependency groups by their names, at the pinned versions or at those ``instead``."""
    groups = PYPROJECT["dependency-groups"]
    wanted: list[str] = []
    for name in requirements:
        wanted += nox.project.dependency_groups(PYPROJECT, name) if name in groups else [name]
    pins = Path(session.create_tmp()) / "pins.txt"
    exact = versions("constraints.txt") | (instead or {})
    pins.write_text("".join(f"{name}=={version}\n" for name, version in exact.items()))
    # Python compiles what a session imports when it does: compiling all of it takes longer than the rest of installing
    session.install("--no-compile", "--constraint", str(pins), *wanted)


def run_pytest(session: nox.Session, *options: str, env: dict[str, str] | None = None) -> None:
    """Run pytest on all cores; what follows ``--`` on nox's command line goes to pytest."""
    workers = ("--numprocesses", "auto", "--dist", "worksteal")
    session.run("python", "-m", "pytest", *workers, *options, *session.posargs, env=jax_cache(session) | (env or {}))


def jax_cache(session: nox.Session) -> dict[str, str]:
    """Let the processes of all sessions share what XLA compiles."""
    folder = Path(session.cache_dir) / "jax"
    least = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return {"JAX_COMPILATION_CACHE_DIR": str(folder.resolve()), **least}


# What CI runs


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(tags=["ci"])
def typing(session: nox.Session) -> None:
    """Check the types of the package with mypy (strict) and pyright, with all typed frameworks installed."""
    install(session, "-e", ".[torch,jax]", "typing", "bfloat16")
    session.run("mypy", "--num-workers", "2")
    session.run("pyright")


def tests_on(framework: str) -> None:
    """Declare the session that runs all tests of one framework, with no other framework installed."""
    name = "strict" if framework == "array_api_strict" else framework

    @nox.session(name=f"tests-{name}", tags=["ci"])
    def tests(session: nox.Session) -> None:
        install(session, ".", "runner", "bfloat16", *FRAMEWORKS[framework])
        session.run("python", "-c", ALONE, framework, ",".join(GUESTS))
        run_pytest(session, "--backend", framework)

    tests.__doc__ = f"Run all tests of {framework}, with no other framework installed."


for _framework in FRAMEWORKS:
    tests_on(_framework)

# The tests that are not about one framework. XLA compiles faster without LLVM's optimizations; the passes of XLA
# itself, which decide how a formula is rounded, stay.
INDEPENDENT = ("--ignore", "tests/backends", "-m", "not slow")
UNOPTIMIZED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


@nox.session(name="tests-minimum", python="3.11", tags=["ci"])
def tests_minimum(session: nox.Session) -> None:
    """Run the tests that are not about one framework on the lowest versions that pyproject.toml declares."""
    install(session, *OF_MANY, instead=lowest())
    run_pytest(session, "--backend", MANY, *INDEPENDENT, env=UNOPTIMIZED)


@nox.session(name="tests-newest", python="3.13", tags=["ci"])
def tests_newest(session: nox.Session) -> None:
    """Run the tests that are not about one framework on the newest versions, on Python 3.13."""
    install(session, *OF_MANY, instead=versions("constraints-newest.txt"))
    run_pytest(session, "--backend", MANY, *INDEPENDENT, env=UNOPTIMIZED)


@nox.session(name="tests-triton", tags=["ci"])
def tests_triton(session: nox.Session) -> None:
    """Run PyTorch's GPU kernels in Triton's interpreter, and compile them for GPUs that are not there."""
    install(session, ".[torch]", "runner")
    install(session, TRITON)
    run_pytest(session, "--backend", "torch", "tests/backends/torch/triton", env={"TRITON_INTERPRET": "1"})


# CuPy's tests, and the catalogue's, which run on a stand-in for CuPy
CATALOGUE = ("tests/test_same_bits.py", "tests/test_features.py", "tests/test_errors.py")
STAND_IN = ("--device", "stand-in", "tests/backends/cupy", *CATALOGUE)


@nox.session(name="tests-stand-in", tags=["ci"])
def tests_stand_in(session: nox.Session) -> None:
    """Run the CuPy backend on a stand-in over NumPy: CuPy itself is not tested."""
    install(session, ".", "runner", "bfloat16")
    run_pytest(session, *STAND_IN)


@nox.session(name="tests-nvrtc", tags=["ci"])
def tests_nvrtc(session: nox.Session) -> None:
    """Compile CuPy's kernels with NVRTC for a GPU that is not there."""
    install(session, ".", "runner", "bfloat16")
    session.install("--no-compile", *CUPY)
    script = "import nvidia, os; print(os.path.join(nvidia.__path__[0], 'cu13'))"
    headers = str(session.run("python", "-c", script, silent=True)).strip()
    run_pytest(session, "--backend", "numpy", "tests/nvrtc", env={"CUDA_PATH": headers})


@nox.session(tags=["ci"])
def interop(session: nox.Session) -> None:
    """Compare with other packages, row by row of the migration pages, and replace modelopt's functions by ours."""
    install(session, "-e", ".[torch]", "runner", "interop", "coming-from")
    session.install("--no-compile", "--no-deps", *BARE)
    run_pytest(session, "--backend", "torch", "tests/interop")


@nox.session(tags=["ci"])
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel away from the checkout, and run what users run first."""
    install(session, "build", "twine")
    with tempfile.TemporaryDirectory(prefix="fastgen_rf-") as folder:
        session.run("python", "-m", "build", "--outdir", folder, str(ROOT))  # the wheel from the sdist
        session.run("twine", "check", "--strict", *map(str, Path(folder).iterdir()))
        (built,) = Path(folder).glob("*.whl")
        check_contents(session, built)
        session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "fastgen_rf")
        install(session, str(built))
        with session.chdir(folder):
            session.run("python", "-m", "fastgen_rf")


def check_contents(session: nox.Session, built: Path) -> None:
    """Fail unless the wheel holds the package's files and nothing else, and its index page no relative link."""
    package = (path for path in (ROOT / "fastgen_rf").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(ROOT).as_posix() for path in package}
    archive = zipfile.ZipFile(built)
    found = {name for name in archive.namelist() if ".dist-info/" not in name}
    if found != expected:
        session.error(f"wheel and package differ in {sorted(found ^ expected)}")
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    if dead := re.findall(r"\]\((?!https?:|#)[^)]*\)", archive.read(metadata).decode()):
        session.error(f"links that lead nowhere on a package index: {dead}")


@nox.session(tags=["ci"])
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; a warning is an error."""
    install(session, "-e", ".", "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-b", "html", "docs", "docs/_build", *session.posargs)


@nox.session(tags=["ci"])
def examples(session: nox.Session) -> None:
    """Run the longer programs of the documentation in a reduced size."""
    install(session, "-e", ".[torch,jax]", "runner", "examples")
    run_pytest(session, "--backend", "numpy", "tests/examples")


# On demand


@nox.session(name="tests-torch-versions", python=["3.11", "3.12", "3.13"])
@nox.parametrize("version", [nox.param(version, id=version) for version in ("lowest", "2.14.1")])
def tests_torch_versions(session: nox.Session, version: str) -> None:
    """Run PyTorch's tests on another version of PyTorch: outside CI, for the index has it as a CUDA build of 3 GB."""
    install(session, ".[torch]", "runner", "bfloat16", instead=lowest() if version == "lowest" else {"torch": version})
    run_pytest(session, "--backend", "torch")


@nox.session(name="tests-xla")
def tests_xla(session: nox.Session) -> None:
    """Check JAX's kernels for a GPU that is not there: outside CI, because the plugin that compiles them takes 1 GB."""
    install(session, ".[jax]", "runner")
    jax = versions("constraints.txt")["jax"]
    session.install("--no-compile", "--no-deps", f"jax-cuda13-plugin=={jax}", f"jax-cuda13-pjrt=={jax}")
    session.run("python", "-m", "tests.gpu.compiled_by_xla", env={"JAX_PLATFORMS": "cpu"})


@nox.session
def demo(session: nox.Session) -> None:
    """Distill a teacher of handwritten digits into a 2-step student; the picture is build/distill_digits.png."""
    install(session, "-e", ".[jax]", "demo")
    options = session.posargs or ["--out", "build/distill_digits.png"]
    session.run("python", "docs/examples/distill_digits.py", *options)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed next to what a user would run instead."""
    install(session, "-e", ".[torch,jax]", "bench", "bfloat16", "interop")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in FRAMEWORKS])
def fuzz(session: nox.Session, backend: str) -> None:
    """Search for calls with a wrong result or an unclear error: 10,000 examples of each property."""
    install(session, ".", "runner", "bfloat16", *FRAMEWORKS[backend])
    options = ("--hypothesis-profile", "fuzz", "--hypothesis-show-statistics")
    run_pytest(session, "--backend", backend, *options, "tests/test_any_call.py")


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the package, one place at a time, and print the changes that no test notices."""
    install(session, "-e", ".[torch,jax]", "runner", "bfloat16", "strict", "mutation")
    # mutmut forks, and PyTorch's threads do not survive a fork: a test that waits for them hangs.
    session.run("mutmut", "run", *session.posargs, env={"OMP_NUM_THREADS": "1"})
    session.run("mutmut", "results")


@nox.session
def coverage(session: nox.Session) -> None:
    """Find lines and branches that no test on a CPU reaches; one that is not marked as such fails."""
    install(session, "-e", ".[torch,jax]", "runner", "recipes", "strict", "dask", "bfloat16", "coverage")
    install(session, TRITON)
    session.run("coverage", "erase")
    triton = ("--backend", "torch", "tests/backends/torch/triton")
    for options in (("--backend", ",".join(FRAMEWORKS)), triton, STAND_IN):
        env = jax_cache(session) | ({"TRITON_INTERPRET": "1"} if options is triton else {})
        arguments = ("-m", "pytest", "--numprocesses", "auto", *options, *session.posargs)
        session.run("coverage", "run", *arguments, env=env)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def figures(session: nox.Session) -> None:
    """Draw the pictures of the documentation, except those of the benchmarks; each has a light and a dark version."""
    install(session, "-e", ".[jax]", "figures")
    session.run("python", "docs/examples/timestep_gallery.py", "--out", "docs/_static")
    for name in ("bfloat16_target", "conversion_error", "distill_digits", "exact_flow", "meanflow_digits"):
        session.run("python", f"docs/examples/{name}.py", "--out", f"docs/_static/{name}.png")
