"""The support matrix of the documentation, made of the catalogue and of the frameworks' classes.

``python -m tests.support_matrix`` writes it into the pages. A cell is "yes" if a function supports a feature on a
framework, "no" if it raises an error, and empty if the feature has no meaning there. test_features.py tests every cell.
"""

from __future__ import annotations

from pathlib import Path

from tests.catalogue import ROWS, SAMPLERS, Row
from tests.frameworks import FRAMEWORKS

FEATURES = {  # methods of the frameworks' classes, and how the documentation calls them
    "eager": "Eager calls",
    "low_precision": "bfloat16 (of ml_dtypes outside PyTorch) and float16",
    "no_float64": "Devices without float64",
    "compiled": "Compiled",
    "exported": "Exported",
    "vmap": "`vmap`",
    "reverse": "Gradients in every argument",
    "forward": "Forward-mode derivatives",
    "repeated": "Higher-order derivatives",
    "sharded": "Sharded arrays",
    "lazy": "Lazy arrays",
}
DERIVATIVES = ("reverse", "forward", "repeated")
FUNCTIONS: dict[str, Row] = {  # one row for each function; convert_time needs more than arithmetic for some pairs
    **{row.name: row for row in ROWS.values() if not row.options},
    "convert_prediction": ROWS["convert_prediction (score, v)"],
    "convert_state": ROWS["convert_state (rf, vp)"],
    "convert_time (rf, sigma, alpha_bar)": ROWS["convert_time (alpha_bar, sigma)"],
    "convert_time (angle, log_snr)": ROWS["convert_time (rf, log_snr)"],
    "shift_timesteps (a number)": ROWS["shift_timesteps (3.0)"],
    "timestep_density": ROWS["timestep_density (logitnormal)"],
    "timestep_quantile": ROWS["timestep_quantile (logitnormal)"],
}


def refusal(function: str, feature: str, framework: str) -> str | None:
    """Part of the message of the error that a call raises, or None if it is supported."""
    if function in SAMPLERS:
        return None
    row = FUNCTIONS[function]
    if row.needs == "special" and "special" not in FRAMEWORKS[framework].has:
        return "special functions"
    if row.needs != "arithmetic" and feature == "no_float64":
        return "need float64" if row.arguments[0] == "time" else f"{row.arguments[0]} is on device"
    return None


def cell(function: str, feature: str, framework: str) -> str:
    """Return "yes", "no" or nothing."""
    if not hasattr(FRAMEWORKS[framework], feature):
        return ""
    if function in SAMPLERS and (feature in DERIVATIVES or (feature == "sharded" and framework == "torch")):
        return ""
    return "yes" if refusal(function, feature, framework) is None else "no"


def matrix() -> str:
    """Features by frameworks, and below the functions that are exceptions."""
    rows = [["", *(framework.title for framework in FRAMEWORKS.values())], ["---"] * (1 + len(FRAMEWORKS))]
    notes: dict[str, int] = {}
    for feature, title in FEATURES.items():
        cells = []
        for name, framework in FRAMEWORKS.items():
            missing = [function for function in (*FUNCTIONS, *SAMPLERS) if cell(function, feature, name) == "no"]
            text = (getattr(framework, feature).__doc__ or "").partition("\n")[0] if hasattr(framework, feature) else ""
            if missing:
                note = ", ".join(f"`{function}`" for function in missing)
                text += f" [{notes.setdefault(note, len(notes) + 1)}]"
            cells.append(text)
        rows.append([title, *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- [{number}] Not {note}." for note, number in notes.items()), ""])


BEGIN, END = "<!-- support matrix: written by `python -m tests.support_matrix` -->\n", "<!-- end of the matrix -->\n"
PAGE = Path(__file__).parents[1] / "docs/reference/support_matrix.md"


def written(page: str) -> str:
    """The page with today's matrix."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + "\n" + matrix() + "\n" + end + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
