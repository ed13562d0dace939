"""The figures as tables to read, and the machine that they were taken on."""

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
from tests.benchmarks.contenders import OURS

PACKAGES = ("numpy", "torch", "jax", "cupy", "nvidia-modelopt", "ml_dtypes", "array-api-compat")


def machine(device: str) -> dict[str, Any]:
    """Where, with what and when the figures are taken."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "versions": {"fastgen_rf": fastgen_rf.__version__}
        | {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "tests.benchmarks", *sys.argv[1:]]),
    }
    if "torch" in sys.modules:
        import torch

        facts["threads"] = torch.get_num_threads()  # PyTorch's; XLA takes one for each core, NumPy one
        if device == "cuda":
            facts["gpu"] = torch.cuda.get_device_name()
    return facts


def print_machine(facts: dict[str, Any]) -> None:
    """Print where the figures were taken."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    place = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores"
    print(f"\n{place}, {facts['platform']}, Python {facts['python']}, {facts['date']}\n{versions}")


def print_timings(records: list[dict[str, Any]]) -> None:
    """Print a table for each framework and kind of case, a row for each case, a column for each contender."""
    for backend, table in dict.fromkeys((r["backend"], r["table"]) for r in records):
        chosen = [r for r in records if (r["backend"], r["table"]) == (backend, table)]
        names = list(dict.fromkeys(r["contender"] for r in chosen))
        print(f"\n{backend}, {table}: median time of a call, and how many times fastgen_rf's it is")
        rows = [["", "", "elements", "case", *names]]
        cells: dict[tuple[Any, ...], dict[str, str]] = {}
        for r in chosen:
            key = (_operation(r), r["dtype"], f"{r['elements']:,}", r["label"])
            ratio = "" if r["contender"] == OURS else f" {_times(r['ratio'])}"
            cells.setdefault(key, {})[r["contender"]] = show(r["median"]) + ratio
        _print_rows(rows + [[*key, *(found.get(name, "-") for name in names)] for key, found in cells.items()])


def print_memory(records: list[dict[str, Any]]) -> None:
    """Print peaks and what is saved for backward, in parts of one result."""
    if not records:
        return
    print("\nmemory beyond the result, % of one result, at latent size")
    rows = [["", "", "", "peak, forward", "saved for backward", "of that, no input"]]
    for r in records:
        rows.append(
            [
                *(r["backend"], r["dtype"], f"{r['contender']} {r['op']}"),
                *("-" if r.get(key) is None else f"{r[key]:.1%}" for key in ("peak", "saved", "saved_new")),
            ]
        )
    _print_rows(rows)


def print_slower(records: list[dict[str, Any]]) -> None:
    """Print where fastgen_rf is slower than what it promises never to be slower than."""
    slower = [r for r in records if r["rival"] and r["ratio_quartiles"][1] < 1]
    cases = sum(r["rival"] for r in records)
    print(f"\nslower than its rival (in three of four rounds): {len(slower)} of {cases} cases")
    _print_rows(
        [
            [r["backend"], _operation(r), r["dtype"], str(r["shape"]), r["label"], r["contender"], _times(r["ratio"])]
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
    if not rows:
        return
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    text = 4 if len(rows[0]) > 6 else 3
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
