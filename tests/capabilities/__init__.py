"""What each public function can do on each framework: one table, which the tests go through and the pages show.

``python -m tests.capabilities`` writes it into README.md and the documentation. It imports nothing but Python.

A cell is "yes" where a function has a feature on a framework, "no" where the library refuses it with an error, and
empty where the feature has no meaning for the function or the framework does not have it. ``test_capabilities.py``
checks each "yes" against values worked out in 60 digits, and each "no" for its error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FRAMEWORKS = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "cupy": "CuPy",
    "array_api_strict": "array-api-strict",
    "dask": "dask",
}


class Feature(NamedTuple):
    """What can be done with a function, and the frameworks that have it."""

    title: str
    meaning: dict[str, str]
    """For each framework that has the feature, how it is had there."""


FEATURES = {
    "eager": Feature("called as it is", dict.fromkeys(("numpy", "torch", "jax", "cupy", "array_api_strict"), "yes")),
    "low precision": Feature(
        "in bfloat16 and float16",
        {"numpy": "yes, bfloat16 of ml_dtypes", "torch": "yes", "jax": "yes", "cupy": "yes, bfloat16 of ml_dtypes"},
    ),
    "no float64": Feature(
        "without float64",
        {"torch": "as on MPS ¹", "jax": "as on some TPUs ¹", "array_api_strict": "on its `no_float64`"},
    ),
    "compiled": Feature("compiled", {"torch": "`torch.compile(fullgraph=True)`", "jax": "`jit`"}),
    "exported": Feature("exported", {"torch": "`torch.export`", "jax": "`jax.export`"}),
    "vmap": Feature("mapped", {"torch": "`torch.func.vmap`", "jax": "`vmap`"}),
    "reverse": Feature("gradients for every argument", {"torch": "autograd", "jax": "`grad`"}),
    "forward": Feature("forward mode", {"torch": "`torch.func.jvp`", "jax": "`jvp`"}),
    "repeated": Feature("derivatives of derivatives", {"torch": "`jvp` of `grad`", "jax": "`jvp` of `grad`"}),
    "sharded": Feature("sharded", {"torch": "`DTensor`", "jax": "`NamedSharding`"}),
    "lazy": Feature("computing nothing yet", {"dask": "yes"}),
}

_CONVERSIONS = (
    "add_noise",
    "convert_prediction",
    "convert_state",
    "convert_time of rf, sigma and alpha_bar",
    "convert_time of angle and log_snr",
    "expand_like",
    "flow_step",
    "ode_step",
    "pred_noise_to_pred_x0",
    "pred_x0_from_flow",
    "rf_alpha",
    "rf_sigma",
    "shift_timesteps",
    "timestep_density",
    "timestep_quantile",
    "x0_to_eps",
    "x0_to_flow",
)
_DRAWS = ("sample_timesteps", "sample_timestep_pairs", "sample_from_t_list")
_NUMBERS = ("SampleTimestepConfig", "make_t_list", "resolution_shift")

FUNCTIONS: dict[str, set[str]] = {  # the features that have a meaning for each
    **{name: set(FEATURES) for name in _CONVERSIONS},
    **{name: set(FEATURES) - {"reverse", "forward", "repeated"} for name in _DRAWS},
    **{name: {"eager"} for name in _NUMBERS},
}

ABSENT = {(name, "sharded", "torch") for name in _DRAWS}  # a tensor is drawn whole; `distribute_tensor` spreads it

_WITHOUT = "lacks float64: pass a NumPy array"
_NOT_SPECIAL = "which has no special functions: pass a NumPy array"
REFUSED: dict[tuple[str, str, str], str] = {  # and what the error says
    ("timestep_quantile", "eager", "array_api_strict"): _NOT_SPECIAL,
    ("timestep_quantile", "lazy", "dask"): _NOT_SPECIAL,
    **{
        (function, "no float64", framework): error
        for framework in FEATURES["no float64"].meaning
        for function, error in {
            "timestep_quantile": _NOT_SPECIAL if framework == "array_api_strict" else _WITHOUT,
            "timestep_density": _WITHOUT,
            "convert_time of angle and log_snr": "'angle' and 'log_snr' need float64, which device ",
        }.items()
    },
}


def cell(function: str, feature: str, framework: str) -> str:
    """Return "yes", "no" or nothing."""
    where = (function, feature, framework)
    if feature not in FUNCTIONS[function] or framework not in FEATURES[feature].meaning or where in ABSENT:
        return ""
    return "no" if where in REFUSED else "yes"


# The pages that show it


def overview() -> str:
    """Features over frameworks, and the functions that lack them."""
    rows = [["", *(title + " ²" * (name == "cupy") for name, title in FRAMEWORKS.items())]]
    for feature, (title, _) in FEATURES.items():
        rows.append([title, *(summary(feature, framework) for framework in FRAMEWORKS)])
    return _table(rows)


def summary(feature: str, framework: str) -> str:
    """How a framework has a feature, and for which functions not."""
    functions = [name for name in FUNCTIONS if feature in FUNCTIONS[name] and cell(name, feature, framework) != "yes"]
    text = FEATURES[feature].meaning.get(framework, "")
    return text + (f"; not {', '.join(map(_code, functions))}" if text and functions else "")


def in_full() -> str:
    """For each framework, functions over features."""
    parts = []
    for framework, title in FRAMEWORKS.items():
        features = [feature for feature in FEATURES if framework in FEATURES[feature].meaning]
        rows = [["", *(FEATURES[feature].title for feature in features)]]
        rows += [[_code(name), *(cell(name, feature, framework) for feature in features)] for name in FUNCTIONS]
        parts.append(f"## {title}\n\n{_table([row for row in rows if any(row[1:])])}")
    return "\n".join(parts)


def _code(name: str) -> str:
    function, _, rest = name.partition(" ")
    return f"`{function}`{' ' if rest else ''}{rest}"


def _table(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(row).replace("|  ", "| ") + " |\n" for row in lines).replace("|  |", "| |")


_ROOT = Path(__file__).parents[2]
PAGES: dict[Path, Callable[[], str]] = {
    _ROOT / "README.md": overview,
    _ROOT / "docs/reference/what_works_where.md": in_full,
}
_BEGIN, _END = "<!-- what works where: `python -m tests.capabilities` writes this -->\n", "<!-- as far as here -->\n"


def written(page: str, table: str) -> str:
    """The page with this table in its place."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return before + begin + table + end + after
