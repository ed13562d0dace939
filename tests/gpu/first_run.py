"""The first run on a GPU, in one command: ``python -m tests.gpu.first_run``. With DEVICE=cpu it runs on a CPU.

Each part is a process with a time limit, so a part that fails or is late does not stop the next. What a part prints
goes to a file, times are saved after each case, and a summary comes last. Without a PART all parts run: facts, bits,
times, tests and counters. A name such as bits-torch selects one framework.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

DEVICE = os.environ.get("DEVICE", "cuda")
SECONDS = {"torch": 75, "jax": 45, "cupy": 15}  # to measure times
FRAMEWORKS = [name for name in SECONDS if DEVICE == "cuda" or name != "cupy"]
COUNTERS = (
    "dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__inst_executed_pipe_fp64.sum,sm__inst_executed_pipe_xu.sum,"
    "sm__inst_executed.sum,launch__registers_per_thread,gpu__time_duration.sum"
)


class Part(NamedTuple):
    """A process, and the seconds that it may take."""

    name: str
    seconds: float
    command: list[str]


def plan(folder: Path) -> list[list[Part]]:
    """Groups of parts; the parts of a group run at the same time, except those that measure."""
    python = [sys.executable, "-m"]
    this = [*python, "tests.gpu.first_run", "--out", str(folder), "--inside"]
    pytest = [*python, "pytest", "-q", "-p", "no:cacheprovider", "--tb", "line", "--maxfail", "20", "--device", DEVICE]
    workers = ["-n", "4"] if importlib.util.find_spec("xdist") and DEVICE == "cuda" else []
    files = [*(["tests/gpu"] if DEVICE == "cuda" else []), "tests/test_same_bits.py", "tests/test_features.py"]

    about = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem", "--format=csv"]
    ncu = ["ncu", "--clock-control", "none", "--csv", "--metrics", COUNTERS, "--launch-skip", "16"]
    groups = [
        [Part("facts", 10, about if DEVICE == "cuda" else ["uname", "-a"])],
        [Part(f"bits-{name}", 60, [*this, f"bits-{name}"]) for name in FRAMEWORKS],
        *([Part(f"times-{name}", SECONDS[name], [*this, f"times-{name}"])] for name in FRAMEWORKS),
        [Part(f"tests-{name}", 70, [*pytest, *workers, "--backend", name, *files]) for name in FRAMEWORKS],
    ]
    return [*groups, [Part("counters", 25, [*ncu, *this, "counters"])]] if DEVICE == "cuda" else groups


def run(group: list[Part], folder: Path, left: float) -> list[str]:
    """Run a group of parts, print the last lines of each, and return a line on each for the summary."""
    begun, running, lines = time.monotonic(), [], []
    for part in group:
        with (folder / f"{part.name}.log").open("w") as log:
            try:
                process = subprocess.Popen(part.command, stdout=log, stderr=log, start_new_session=True)
            except OSError as error:
                lines.append(f"{part.name}: not started: {error}")
                continue
        running.append((part, process))
    for part, process in running:
        limit = min(part.seconds, left)
        try:
            code = process.wait(max(1.0, begun + limit - time.monotonic()))
            end = "done" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end = f"stopped after {limit:.0f} s"
        lines.append(f"{part.name}: {end}, {time.monotonic() - begun:.0f} s")
        text = (folder / f"{part.name}.log").read_text(errors="replace").splitlines()
        print(f"\n== {lines[-1]}", *text[-12:], sep="\n", flush=True)
    return lines


def main() -> None:
    """Run the parts that are asked for, within the time that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.first_run", description=__doc__)
    parser.add_argument("part", nargs="*", metavar="PART")
    parser.add_argument("--out", type=Path, default=Path("build/first_run"), help="folder of the results")
    parser.add_argument("--seconds", type=float, default=300.0, help="of all parts together")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # the work of a part, which is a process of its own
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.inside:
        work, _, name = options.inside.partition("-")
        {"bits": compare_bits, "times": measure_times, "counters": call_for_counters}[work](name, options.out)
        return
    os.environ |= {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out.absolute() / "jax"))
    end, lines = time.monotonic() + options.seconds, []
    for group in plan(options.out):
        wanted = [p for p in group if not options.part or {p.name, p.name.partition("-")[0]} & {*options.part}]
        lines += run(wanted, options.out, end - time.monotonic())
    show_times(options.out)
    print("\nSummary", *lines, sep="\n")


# Bits: formulas, dtypes and shapes of t, against the results of NumPy, which are tested against exact values

SHAPES_OF_BITS = ((16, 6), (16, 2, 700), (2, 70001))  # rows within a block of a kernel, of two blocks, of many


def compare_bits(name: str, folder: Path) -> None:
    """Print how many calls differ from NumPy in a bit, and the first of them."""
    from tests.bits import ulps_apart
    from tests.catalogue import FORMULAS, HARD_TIMES, narrowed
    from tests.frameworks import FRAMEWORKS, NARROW

    xp, rng, calls, differ = FRAMEWORKS[name](DEVICE), np.random.default_rng(0), 0, 0
    np.seterr(all="ignore")
    for at, row in enumerate(FORMULAS):
        # The conversions and paths that follow the first seven formulas are compared once.
        for dtype, shape in product(xp.dtypes, SHAPES_OF_BITS) if at < 7 else [("float32", (16, 6))]:
            exact = FRAMEWORKS["numpy"]("cpu").dtype(dtype)
            x, y = rng.standard_normal((2, *shape))
            x.flat[:5] = [-0.0, np.inf, np.nan, 1.0, 2.0**-130]  # the last is subnormal
            for t in (np.resize(HARD_TIMES, shape[0]), np.full(shape[0], 0.5), rng.random(shape), 0.3):
                other = t if isinstance(t, float) else t[::-1].copy()
                made = {"x": x, "y": y, "t": t, "s": other, "n": np.maximum(t, other)}
                chosen = [made[kind] for kind in row.takes]
                host = [value if isinstance(value, float) else narrowed([value], dtype)[0] for value in chosen]
                wanted = row(*host)
                if dtype in NARROW and xp.rounds_through_float32:
                    wanted = wanted.astype(np.float32)
                got = xp.numpy(row(*(x if isinstance(x, float) else xp.array(x, dtype) for x in host)))
                apart = ulps_apart(got.astype(exact), wanted.astype(exact))
                calls, differ = calls + 1, differ + bool(apart.any())
                if apart.any() and differ <= 6:
                    where = f"{dtype}, {shape}, t {np.shape(t)}"
                    print(f"{row.name}, {where}: {np.count_nonzero(apart)} elements, by up to {apart.max()}")
        print(f"{name} on {DEVICE}, up to {row.name}: {differ} of {calls} calls differ from NumPy in a bit")


# Times of fastgen_rf, of the code that users would run instead, and of add


def measure_times(name: str, folder: Path) -> None:
    """Measure five sizes, the latent size first, and save the results after each case."""
    from tests.benchmarks import measure
    from tests.benchmarks.baselines import frames
    from tests.benchmarks.cases import LATENT, SHAPES, cases
    from tests.benchmarks.report import machine

    measure.SECONDS, measure.FEWEST = dict.fromkeys(SHAPES, 0.5), 4
    (frame,) = frames(DEVICE, [name])
    every = frame.implementations()
    work = [*cases(frame.dtypes, frame.differentiable, ["sizes"], [])]
    work += cases(frame.dtypes, False, ["formulas"], ["x0_to_eps"])
    smallest, records = SHAPES["sizes"][0], []
    for case in sorted(work, key=lambda case: (case.shape != LATENT, case.shape != smallest)):
        # Compiling takes seconds, so one formula is compiled, for two sizes.
        compiled = case.shape in (LATENT, smallest) and (case.op, case.dtype) == ("add_noise", "bfloat16")
        records += measure.times(frame, case, [one for one in every if compiled or not one.compiled])
        content = {"machine": machine(DEVICE), "timings": records}
        (folder / f"times-{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def show_times(folder: Path) -> None:
    """Print the tables of the times that were saved."""
    from tests.benchmarks.report import print_machine, print_slower, print_timings

    for file in sorted(folder.glob("times-*.json")):
        saved = json.loads(file.read_text())
        print_machine(saved["machine"])
        print_timings(saved["timings"])
        print_slower(saved["timings"])


# Counters of a kernel of each formula, and of add


def call_for_counters(name: str, folder: Path) -> None:
    """Call each formula twice: ncu skips the first calls, which compile."""
    import torch

    from tests.benchmarks.baselines import ours
    from tests.benchmarks.cases import LATENT

    t = torch.rand(LATENT[0], device=DEVICE)
    for _ in range(2):
        for dtype in (torch.bfloat16, torch.float32):
            x, y = (torch.ones(LATENT, dtype=dtype, device=DEVICE) for _ in range(2))
            for op in ("add_noise", "pred_x0_from_flow", "x0_to_flow", "x0_to_eps"):
                ours(op)(x, y, t)
            torch.add(x, y)


if __name__ == "__main__":
    main()
