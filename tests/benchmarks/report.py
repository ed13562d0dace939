"""The results as tables, and the machine that they were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.baselines import OURS

PACKAGES = ("fastgen_rf", "numpy", "torch", "jax", "cupy-cuda13x", "nvidia-modelopt", "ml_dtypes", "array-api-compat")


def machine(device: str) -> dict[str, Any]:
    """Place, versions and date of a measurement."""
    installed = {distribution.name.lower().replace("-", "_") for distribution in importlib.metadata.distributions()}
    names = [name for name in PACKAGES if name.lower().replace("-", "_") in installed]
    torch = sys.modules.get("torch")
    return {
        "place": torch.cuda.get_device_name() if device == "cuda" and torch else _cpu(),
        "threads": torch.get_num_threads() if torch else None,  # XLA has one for each core, NumPy one
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: importlib.metadata.version(name) for name in names},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "tests.benchmarks", *sys.argv[1:]]),
    }


def print_machine(facts: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    print(f"\n{facts['place']}, {facts['platform']}, {facts['date']}\n{versions}")


def print_timings(records: list[dict[str, Any]]) -> None:
    """Print a table for each framework and table of cases: a row for each case, a column for each implementation."""
    for backend, table in dict.fromkeys((r["backend"], r["table"]) for r in records):
        chosen = [r for r in records if (r["backend"], r["table"]) == (backend, table)]
        names = list(dict.fromkeys(r["implementation"] for r in chosen))
        print(f"\n{backend}, {table}: median time of a call, and its ratio to the time of fastgen_rf")
        cells: dict[tuple[Any, ...], dict[str, str]] = {}
        for r in chosen:
            key = (_operation(r), r["dtype"], f"{r['elements']:,}")
            ratio = "" if r["implementation"] == OURS else f" {_times(r['ratio'])}"
            cells.setdefault(key, {})[r["implementation"]] = show(r["median"]) + ratio
        rows = [[*key, *(found.get(name, "-") for name in names)] for key, found in cells.items()]
        _print_rows([["", "", "elements", *names], *rows])


def print_slower(records: list[dict[str, Any]]) -> None:
    """Print the cases in which fastgen_rf is slower than a baseline."""
    compared = [r for r in records if r["baseline"]]
    slower = sorted((r for r in compared if r["ratio_quartiles"][1] < 1), key=lambda r: r["ratio"])
    print(f"\nslower than the baseline (in three of four rounds): {len(slower)} of {len(compared)} cases")
    names = ("backend", "dtype", "shape", "implementation")
    _print_rows([[_operation(r), *(str(r[name]) for name in names), _times(r["ratio"])] for r in slower])


def show(seconds: float) -> str:
    """A time in three digits and a unit."""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    value = seconds * scale
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def _operation(r: dict[str, Any]) -> str:
    return str(r["op"]) + (" + gradient" if r["direction"] != "forward" else "")


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print cells in columns: two of text on the left, and numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:{'<' if at < 2 else '>'}{width}}" for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
