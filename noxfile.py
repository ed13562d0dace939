"""What is run on this library, each in an environment of its own: ``nox --list`` names the sessions.

Plain ``nox`` runs what CI runs. The exact versions of everything stand here and nowhere else; ``pyproject.toml`` has
lower bounds only, which are the versions of ``tests-minimum``. A session that tests one framework installs it alone
and checks that no other is there, so that its passing proves that the others are not needed. A Python that a session
names and that is not found fails where the session was asked for by name; plain ``nox`` says so and goes on.

In CI every test runs on the lowest and on the newest versions, and every case of a test of one argument on one of them;
of products of several arguments, a law, a dtype and a transformation say, a sixth, for each is a compilation. The cases
are dealt to the lowest versions and to the newest, where Python 3.12 and 3.13 have half of the tests each and a search
has 20 examples instead of 50. What starts processes or needs the compiler's optimisations runs in the sessions of one
framework. Beside it NumPy's has all, PyTorch's all but two thirds of the products, array-api-strict's the half that the
newest versions leave, for the lowest has no device without float64; JAX's and dask's have a sample, an eighth of the
tests with an eighth of their cases, and JAX's all of the compiler's optimisations. The share of a missing Python is not
run. Asked for by name, ``nox -s tests-jax``, a session runs all.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"

asked_by_name = any(re.match(r"-[se]|--sessions?\b", argument) for argument in sys.argv[1:])
nox.options.error_on_missing_interpreters = asked_by_name

ROOT = Path(__file__).parent
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")  # its Pythons are on the path only where activated
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, sorted(PYENV.glob("versions/3.*/bin")))])
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, each process that imports torch compiles it anew: 2 s
PYPROJECT = nox.project.load_toml("pyproject.toml")

PINS = """
array-api-compat==1.16.0
array-api-strict==2.6.1
build==1.6.1
coverage==7.17.5
dask==2026.8.0
diffusers==0.42.1
distributed==2026.8.0
einops==0.8.2
flow_matching==1.0.10
hypothesis==6.170.15
jax==0.10.2
jaxlib==0.10.2
matplotlib==3.11.2
ml_dtypes==0.6.0
mpmath==1.3.0
mutmut==3.8.1
mypy==2.4.1
myst-parser==5.2.0
numpy==2.4.6
nvidia-modelopt==0.47.0
optax==0.2.8
pillow==13.0.0
POT==0.9.7.post1
pydata-sphinx-theme==0.24.0
pyright==1.1.414
PyYAML==6.0.4
pytest==9.2.0
pytest-xdist==3.8.0
requests==2.34.2
ruff==0.17.6
safetensors==0.8.0
scikit-learn==1.9.1
scipy==1.17.1
scipy-stubs==1.17.1.5
sphinx==9.0.4
sphinx-copybutton==0.5.2
sphinx-design==0.8.0
torch==2.13.0
torchdiffeq==0.2.5
torchsde==0.2.6
tqdm==4.70.1
twine==7.0.0
"""

# What the index has newest for Pythons after 3.11; what stands above is the newest for 3.11.
NEWER = """
array-api-compat==1.16.0
array-api-strict==2.6.1
dask==2026.8.0
distributed==2026.8.0
jax==0.12.0.1
jaxlib==0.12.0.1
ml_dtypes==0.6.0
numpy==2.5.5
scipy==1.18.1
"""
NEWEST_TORCH = "torch==2.14.1"  # on the index as a CUDA build alone
CUPY = """
cupy-cuda13x==14.2.0
nvidia-cuda-crt==13.5.37
nvidia-cuda-nvrtc==13.5.37
nvidia-cuda-runtime==13.5.37
"""
# Without what they ask for: NumPy before 2, wandb, kornia, pandas; the modules that are compared import none of it.
BARE = """
dctorch==0.1.2
k-diffusion==0.1.1.post1
torchcfm==1.0.7
"""
TRITON = "triton==3.7.1"  # no pin for all: where torch is built for CUDA, it brings its own

TESTED_GROUPS = ("strict", "dask", "bfloat16")

# Import name of each framework, and what installs it: requirements or dependency groups.
FRAMEWORKS = {
    "numpy": (),
    "torch": (".[torch]",),
    "jax": (".[jax]", "recipes"),
    "array_api_strict": ("strict",),
    "dask": ("dask",),
}
SAMPLE = ("0/8/24", "0/8")
IN_CI = {"torch": ("0/1/3",), "array_api_strict": ("0/2/12",), "jax": SAMPLE, "dask": SAMPLE}  # cases, tests
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


def versions(pins: str) -> dict[str, str]:
    """Version of each package in lines such as ``numpy==2.4.6``."""
    return dict(line.split("==") for line in pins.split())


def lowest() -> dict[str, str]:
    """The lower bounds of the package and of the frameworks that it is tested with, as pyproject.toml declares them."""
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    extras = [bound for name in ("torch", "jax") for bound in project["optional-dependencies"][name]]
    declared = [*project["dependencies"], *extras, *(bound for name in TESTED_GROUPS for bound in groups[name])]
    found = dict(re.findall(r"^([\w-]+)(?:\[.*\])?>=([\d.]+)$", "\n".join(declared), re.MULTILINE))
    return found | {"jaxlib": found["jax"], "distributed": found["dask"]}


def install(session: nox.Session, *requirements: str, instead: dict[str, str] | None = None) -> None:
    """Install requirements, and dependency groups by their names, at the pinned versions or at those ``instead``."""
    groups = PYPROJECT["dependency-groups"]
    wanted: list[str] = []
    for name in requirements:
        wanted += nox.project.dependency_groups(PYPROJECT, name) if name in groups else [name]
    pins = Path(session.create_tmp()) / "pins.txt"
    exact = versions(PINS) | (instead or {})
    pins.write_text("".join(f"{name}=={version}\n" for name, version in exact.items()))
    # Python compiles what a session imports when it does: compiling all of it takes longer than the rest of installing
    session.install("--no-compile", "--constraint", str(pins), *wanted)


def run_pytest(session: nox.Session, *options: str, env: dict[str, str] | None = None) -> None:
    """Run pytest on all cores; what follows ``--`` on nox's command line goes to pytest."""
    workers = ("--numprocesses", "auto", "--dist", "worksteal")
    session.run("python", "-m", "pytest", *workers, *options, *session.posargs, env=env)


def jax_cache(session: nox.Session) -> dict[str, str]:
    """Let what XLA compiles be shared by the processes of a session, and by sessions of one jaxlib."""
    folder = Path(session.cache_dir) / "jax"
    least = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return {"JAX_COMPILATION_CACHE_DIR": str(folder.resolve()), **least}


# XLA compiles faster if LLVM leaves out its optimisations; XLA's own, which decide how a formula is rounded, remain.
# Tests of what they do ask the compiler for them, or are marked `undealt`: tests-jax runs with all of them.
UNOPTIMISED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


# What CI runs


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, and that the table of tested versions is of today."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    if table_in(README.read_text(encoding="utf-8")) != tested_versions():
        session.error("README.md has another table of tested versions than noxfile.py: run `nox -s table`")


@nox.session(tags=["ci"])
def typing(session: nox.Session) -> None:
    """Check the types of the package with mypy (strict) and pyright, all frameworks with types installed."""
    install(session, "-e", ".[torch,jax]", "typing", "bfloat16")
    session.run("mypy", "--num-workers", "2")
    session.run("pyright")


def share(cases: str, tests: str = "0/1") -> tuple[str, ...]:
    """All cases of all tests where a session is asked for by its name; in CI, where others run the rest, a share."""
    return () if asked_by_name else ("--cases", cases, "--tests", tests)


def share_of_version(cases: str, tests: str = "0/1") -> tuple[str, ...]:
    """The same with shorter searches, and without what the sessions of one framework run whole."""
    shorter = ("--hypothesis-profile", "share", "-m", "not undealt")
    return () if asked_by_name else (*share(cases, tests), *shorter)


def tests_on(framework: str) -> Callable[[nox.Session], None]:
    """Session body that tests one framework in an environment where it is the only one."""

    def tests(session: nox.Session) -> None:
        install(session, ".", "runner", "bfloat16", *FRAMEWORKS[framework])
        session.run("python", "-c", ALONE, framework, ",".join(GUESTS))
        dealt = share(*IN_CI[framework]) if framework in IN_CI else ()
        run_pytest(session, "--backend", framework, *dealt, env=jax_cache(session) if framework == "jax" else None)

    tests.__doc__ = f"Run the tests on {framework}, with no other framework installed."
    return tests


for _framework in FRAMEWORKS:
    _name = "strict" if _framework == "array_api_strict" else _framework
    nox.session(tests_on(_framework), name=f"tests-{_name}", tags=["ci", "tests"])


@nox.session(name="tests-triton", tags=["ci", "tests"])
def tests_triton(session: nox.Session) -> None:
    """Run the kernel that PyTorch runs on CUDA in Triton's interpreter, and compile it for GPUs that are not there."""
    install(session, ".[torch]", "runner")
    install(session, TRITON)
    run_pytest(session, "--backend", "torch", "--triton", "tests/torch/triton")


MANY = "numpy,array_api_strict,dask,jax"


@nox.session(name="tests-minimum", python="3.11", tags=["ci", "tests"])
def tests_minimum(session: nox.Session) -> None:
    """Run the tests on the lowest versions that pyproject.toml declares, but torch's."""
    install(session, ".[jax]", "runner", "recipes", *TESTED_GROUPS, instead=lowest())
    run_pytest(session, "--backend", MANY, *share_of_version("0/2/12"), env=jax_cache(session) | UNOPTIMISED)


@nox.session(name="tests-newest", python=["3.11", "3.12", "3.13"], tags=["ci", "tests"])
def tests_newest(session: nox.Session) -> None:
    """Run the tests on the newest versions for this Python; for 3.11 those are the sessions of one framework each."""
    if session.python == "3.11":
        for name in ("numpy", "torch", "jax", "strict", "dask"):
            session.notify(f"tests-{name}")
        return
    install(session, ".[jax]", "runner", "recipes", *TESTED_GROUPS, instead=versions(NEWER))
    half = {"3.12": "0/2", "3.13": "1/2"}[str(session.python)]
    run_pytest(session, "--backend", MANY, *share_of_version("1/2/12", half), env=jax_cache(session) | UNOPTIMISED)


@nox.session(name="stand-in", tags=["ci", "tests"])
def stand_in(session: nox.Session) -> None:
    """Make the calls that CuPy gets, and run its tests' own logic, on a stand-in over NumPy: CuPy is not tested."""
    install(session, ".", "runner", "bfloat16")
    run_pytest(session, "--stand-in")


@nox.session(tags=["ci", "tests"])
def nvrtc(session: nox.Session) -> None:
    """Compile CuPy's kernels with NVRTC for GPUs that are not there."""
    install(session, ".", "runner", "bfloat16")
    session.install("--no-compile", *CUPY.split())
    script = "import nvidia, os; print(os.path.join(nvidia.__path__[0], 'cu13'))"
    headers = str(session.run("python", "-c", script, silent=True)).strip()
    kernels = ("--nvrtc", "tests/devices/nvrtc", *share("0/1/2"))  # of formula, dtype and architecture in CI half
    run_pytest(session, "--backend", "numpy", *kernels, env={"CUDA_PATH": headers})


@nox.session(tags=["ci"])
def interop(session: nox.Session) -> None:
    """Hold the functions against other packages', row by row of the pages on them, and put them in modelopt's place."""
    install(session, "-e", ".[torch]", "runner", "interop", "coming-from")
    session.install("--no-compile", "--no-deps", *BARE.split())
    run_pytest(session, "--backend", "torch", "--interop", "tests/interop")


@nox.session(tags=["ci"])
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel, and test it where the checkout is out of reach; in CI a sample."""
    install(session, "build", "twine", "runner", "bfloat16")
    with tempfile.TemporaryDirectory(prefix="fastgen_rf-") as folder:
        place = Path(folder)
        session.run("python", "-m", "build", "--outdir", str(place / "dist"), str(ROOT))  # the wheel from the sdist
        session.run("twine", "check", "--strict", *map(str, (place / "dist").iterdir()))
        (built,) = (place / "dist").glob("*.whl")
        check_contents(session, built)
        session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "fastgen_rf")
        install(session, str(built))
        for name in (
            "conftest.py",
            "pyproject.toml",
            "noxfile.py",
            "CITATION.cff",
            *(path.name for path in ROOT.glob("*.md")),
        ):
            copy(ROOT / name, place)
        for name in ("tests", "docs"):
            copytree(ROOT / name, place / name, ignore=ignore_patterns("__pycache__", "_build"))
        (place / "from_wheel.py").write_text(FROM_WHEEL)
        with session.chdir(place):
            run_pytest(session, "-p", "from_wheel", "--backend", "numpy", *share_of_version("0/8"))
            session.run("python", "-m", "fastgen_rf")


def check_contents(session: nox.Session, built: Path) -> None:
    """Fail unless the wheel holds the package's files and nothing else, and its page for an index no relative link."""
    package = (path for path in (ROOT / "fastgen_rf").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(ROOT).as_posix() for path in package}
    wheel = zipfile.ZipFile(built)
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    if found != expected:
        session.error(f"wheel and package differ in {sorted(found ^ expected)}")
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    if dead := re.findall(r"\]\((?!https?:|#)[^)]*\)", wheel.read(metadata).decode()):
        session.error(f"links that lead nowhere on a package index: {dead}")


@nox.session(tags=["ci"])
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; a warning is an error."""
    install(session, "-e", ".", "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-b", "html", "docs", "docs/_build", *session.posargs)


@nox.session(tags=["ci"])
def examples(session: nox.Session) -> None:
    """Run the longer programs of the documentation in a reduced size, and see that what goes wrong is noticed."""
    install(session, "-e", ".[torch,jax]", "runner", "examples")
    run_pytest(session, "--backend", "numpy", "--examples", "tests/examples", env=jax_cache(session))


nox.options.tags = ["ci"]

# What is run on demand


@nox.session(name="tests-minimum-torch", python="3.11", tags=["tests"])
def tests_minimum_torch(session: nox.Session) -> None:
    """Run PyTorch's tests on its lowest version, and the others': outside CI, for the index has it as a CUDA build."""
    install(session, ".[torch]", "runner", "bfloat16", instead=lowest())
    run_pytest(session, "--backend", "torch")


@nox.session(name="tests-newest-torch", python=["3.11", "3.12", "3.13"], tags=["tests"])
def tests_newest_torch(session: nox.Session) -> None:
    """Run PyTorch's tests on its newest version: outside CI, for the index has it as a CUDA build."""
    newer = {} if session.python == "3.11" else versions(NEWER)
    install(session, ".[torch]", "runner", "bfloat16", instead=newer | versions(NEWEST_TORCH))
    run_pytest(session, "--backend", "torch")


ON_CUDA = [nox.param(name, id=name) for name in ("torch", "jax", "cupy")]


@nox.session(venv_backend="none")
@nox.parametrize("backend", ON_CUDA)
def gpu(session: nox.Session, backend: str) -> None:
    """Run the tests of one framework on CUDA, with the interpreter and the packages at hand."""
    session.run("python", "-m", "pytest", "--device", "cuda", "--backend", backend, *session.posargs, external=True)


@nox.session(name="gpu-bench", venv_backend="none")
@nox.parametrize("table", [nox.param(name, id=name) for name in ("sizes", "images", "formulas", "shapes", "memory")])
@nox.parametrize("backend", ON_CUDA)
def gpu_bench(session: nox.Session, backend: str, table: str) -> None:
    """Measure one table of one framework on CUDA; the figures go to build/."""
    file = ROOT / "build" / f"speed_cuda_{backend}_{table}.json"
    file.parent.mkdir(exist_ok=True)
    options = ("--device", "cuda", "--backend", backend, "--table", table, "--json", str(file))
    session.run("python", "-m", "tests.benchmarks", *options, *session.posargs, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Distil a teacher of handwritten digits into a 2-step student; the picture goes to build/distill_digits.png."""
    install(session, "-e", ".[jax]", "demo")
    options = session.posargs or ["--out", "build/distill_digits.png"]
    session.run("python", "docs/examples/distill_digits.py", *options)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory beside what a user would run instead."""
    install(session, "-e", ".[torch,jax]", "bench", "bfloat16", "interop")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in FRAMEWORKS])
def fuzz(session: nox.Session, backend: str) -> None:
    """Search for calls whose result is wrong or whose error does not say why: 10,000 examples of each test."""
    install(session, ".", "runner", "bfloat16", *FRAMEWORKS[backend])
    options = ("--hypothesis-profile", "fuzz", "--hypothesis-show-statistics")
    run_pytest(session, "--backend", backend, *options, "tests/fuzz", env=jax_cache(session))


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the package, one place at a time, and hold the changes that no test notices against the list in tests/."""
    install(session, "-e", ".[torch,jax]", "runner", "bfloat16", "strict", "mutation")
    session.run("mutmut", "run", *session.posargs)
    session.run("python", "-m", "tests.mutants")


@nox.session
def coverage(session: nox.Session) -> None:
    """Find the lines and branches that no test on a CPU reaches, and hold them against the list in tests/."""
    install(session, "-e", ".[torch,jax]", "runner", "recipes", *TESTED_GROUPS, "coverage")
    install(session, TRITON)
    session.run("coverage", "erase")
    every, triton = ("--backend", ",".join(FRAMEWORKS)), ("--backend", "torch", "--triton", "tests/torch/triton")
    for options in (every, triton, ("--stand-in",)):
        arguments = ("-m", "pytest", "--numprocesses", "auto", *options, *session.posargs)
        session.run("coverage", "run", *arguments, env=jax_cache(session))
    session.run("coverage", "combine", "--quiet")
    session.run("python", "-m", "tests.uncovered")


@nox.session(name="random-words")
def random_words(session: nox.Session) -> None:
    """Compare a hundred million random elements, computed without float64, with float64's."""
    install(session, "-e", ".", "strict", "bench")
    session.run("python", "-m", "tests.devices.random_words", *(session.posargs or ["100000000"]))


@nox.session(name="compiled-words")
def compiled_words(session: nox.Session) -> None:
    """Compile every formula by inductor, made to contract and to go without float64, and compare with float64's."""
    install(session, "-e", ".", "torch", "bench")
    session.run("python", "-m", "tests.devices.compiled_words")


@nox.session
def figures(session: nox.Session) -> None:
    """Draw the pictures of the documentation's pages on timesteps and predictions anew."""
    install(session, "-e", ".", "figures")
    session.run("python", "docs/examples/timestep_gallery.py", "--out", "docs/_static")
    session.run("python", "docs/examples/conversion_error.py", "--out", "docs/_static/conversion_error.png")
    session.run("python", "docs/examples/bfloat16_target.py", "--out", "docs/_static/bfloat16_target.png")


# The table of tested versions

README = ROOT / "README.md"
BEGIN, END = "<!-- what was tested: `nox -s table` writes this -->\n", "<!-- to here -->\n"
ROWS = ("numpy", "scipy", "array-api-compat", "ml_dtypes", "torch", "jax", "array-api-strict", "dask")


def tested_versions() -> str:
    """Table of what the sessions in CI install, and of what is tested elsewhere or not at all."""
    minimum, newest, newer = lowest(), versions(PINS), versions(NEWER)
    rows = [["", "lowest, Python 3.11", "Python 3.11", "Python 3.12", "Python 3.13"]]
    for name in ROWS:
        if name == "torch":
            rows.append([name, f"{minimum[name]} \u00b3", newest[name], "\u00b3", "\u00b3"])
        else:
            rows.append([name, minimum[name], newest[name], newer[name], newer[name]])
    rows.insert(1, ["---"] * len(rows[0]))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows).replace("|  |", "| |")
    compiled = f"Triton {versions(TRITON)['triton']}, CuPy {versions(CUPY)['cupy-cuda13x']} with NVRTC, and JAX"
    return f"""{table}

\u00b3 On the index as a CUDA build alone, so not in CI: `nox -s tests-minimum-torch tests-newest-torch` tests those.
In CI the lowest versions and the newest, these on Python 3.12 or 3.13, share the cases of every test but what starts
processes or needs the compiler's optimisations; of products of several arguments a sixth runs. On Python 3.11 NumPy
runs all, PyTorch a third of the products and all else, the others what the versions do not and a part of the rest. A
session that is asked for by name runs all.
What a GPU would run is compiled in CI without one, by {compiled};
**CuPy and CUDA themselves are not tested there.**
"""


def table_in(page: str) -> str:
    """The part of ``page`` that the table takes."""
    return page.partition(BEGIN)[2].partition(END)[0]


@nox.session(venv_backend="none")
def table(session: nox.Session) -> None:
    """Write the tables of tested versions and of what works where into README.md and the documentation."""
    page = README.read_text(encoding="utf-8")
    README.write_text(page.replace(BEGIN + table_in(page) + END, BEGIN + tested_versions() + END), encoding="utf-8")
    session.run("python", "-m", "tests.capabilities", external=True)
