"""The results as tables, and the machine that they were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import fastgen_rf
from tests.benchmarks.baselines import OURS

PACKAGES = ("numpy", "torch", "jax", "cupy", "nvidia-modelopt", "ml_dtypes", "array-api-compat")


def machine(device: str) -> dict[str, Any]:
    """Place, versions and date of a measurement."""
    versions = {"fastgen_rf": fastgen_rf.__version__}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "tests.benchmarks", *sys.argv[1:]]),
    }
    if torch := sys.modules.get("torch"):
        facts["threads"] = torch.get_num_threads()  # PyTorch's; XLA has one for each core, NumPy one
        if device == "cuda":
            facts["gpu"] = torch.cuda.get_device_name()
    return facts


def print_machine(facts: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    place = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores"
    print(f"\n{place}, {facts['platform']}, Python {facts['python']}, {facts['date']}\n{versions}")


def print_timings(records: list[dict[str, Any]]) -> None:
    """Print a table for each framework and table of cases: a row for each case, a column for each implementation."""
    for backend, table in dict.fromkeys((r["backend"], r["table"]) for r in records):
        chosen = [r for r in records if (r["backend"], r["table"]) == (backend, table)]
        names = list(dict.fromkeys(r["implementation"] for r in chosen))
        print(f"\n{backend}, {table}: median time of a call, and its ratio to the time of fastgen_rf")
        cells: dict[tuple[Any, ...], dict[str, str]] = {}
        for r in chosen:
            key = (_operation(r), r["dtype"], f"{r['elements']:,}", r["label"])
            ratio = "" if r["implementation"] == OURS else f" {_times(r['ratio'])}"
            cells.setdefault(key, {})[r["implementation"]] = show(r["median"]) + ratio
        rows = [[*key, *(found.get(name, "-") for name in names)] for key, found in cells.items()]
        _print_rows([["", "", "elements", "case", *names], *rows])


def print_memory(records: list[dict[str, Any]]) -> None:
    """Print peaks and memory saved for backward, relative to one result."""
    if records:
        print("\nmemory in addition to the result, % of one result, at latent size")
        rows = [["", "", "", "peak, forward", "saved for backward", "of that, no input"]]
        for r in records:
            sizes = ("-" if r.get(key) is None else f"{r[key]:.1%}" for key in ("peak", "saved", "saved_new"))
            rows.append([r["backend"], r["dtype"], f"{r['implementation']} {r['op']}", *sizes])
        _print_rows(rows)


def print_slower(records: list[dict[str, Any]]) -> None:
    """Print the cases in which fastgen_rf is slower than a baseline."""
    slower = [r for r in records if r["baseline"] and r["ratio_quartiles"][1] < 1]
    cases = sum(r["baseline"] for r in records)
    print(f"\nslower than the baseline (in three of four rounds): {len(slower)} of {cases} cases")
    _print_rows(
        [
            [
                *(r["backend"], _operation(r), r["dtype"], str(r["shape"]), r["label"]),
                *(r["implementation"], _times(r["ratio"])),
            ]
            for r in sorted(slower, key=lambda r: r["ratio"])
        ]
    )


def show(seconds: float) -> str:
    """A time in three digits and a unit."""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    value = seconds * scale
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def _operation(r: dict[str, Any]) -> str:
    return str(r["op"]) + (" + gradient" if r["direction"] != "forward" else "")


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _print_rows(rows: list[list[str]]) -> None:
    """Print cells in columns: text on the left, numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = 4 if len(widths) > 6 else 3
    for row in rows:
        cells = [
            cell.ljust(width) if at < text and not cell.replace(",", "").isdigit() else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            if width
        ]
        print("  ".join(cells).rstrip())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return next((d.version for d in importlib.metadata.distributions() if d.name.startswith(f"{name}-cuda")), None)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
