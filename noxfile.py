"""The project's chores: one session per backend, each in its own environment with that framework alone.

Exact pins live here and nowhere else; pyproject.toml has lower bounds.
"""

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "demo"]

FRAMEWORKS = {
    "numpy": ["ml_dtypes"],
    "torch": ["torch==2.13.0", "ml_dtypes"],
    "jax": ["jax==0.10.2"],
    "array_api_strict": ["array-api-strict==2.6.1", "ml_dtypes"],
    "dask": ["dask[array]==2026.8.0", "ml_dtypes"],
}
RUNNER = ["pytest", "pytest-xdist", "hypothesis"]
DEMO = ["jax==0.10.2", "optax", "scikit-learn", "matplotlib", "tqdm"]


@nox.session
@nox.parametrize("backend", list(FRAMEWORKS), ids=list(FRAMEWORKS))
def tests(session: nox.Session, backend: str) -> None:
    """Run the suite with one framework installed."""
    session.install(*FRAMEWORKS[backend], *RUNNER, ".")
    session.run("pytest", "-q", "--backend", backend, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Distil the digits teacher and hold the figures."""
    session.install(*DEMO, ".")
    picture = session.create_tmp() + "/distill_digits.png"
    session.run("python", "docs/examples/distill_digits.py", "--out", picture, *session.posargs)
    session.log(f"picture: {picture}")


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Run the suite on a CUDA device with the interpreter at hand; fails where there is none."""
    session.run("python", "-m", "pytest", "-q", "--device", "cuda", *session.posargs)
