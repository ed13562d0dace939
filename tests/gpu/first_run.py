"""The first run on a GPU, in one command: ``python -m tests.gpu.first_run``. With DEVICE=cpu it runs on a CPU.

Each part is a process with a time limit, so a part that fails or is late does not stop the next. What a part prints
goes to a file, times are saved after each case, and a summary comes last. Without a PART all parts run: facts, bits,
times and tests. A name such as bits-torch selects one framework.
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
from pathlib import Path
from typing import NamedTuple

DEVICE = os.environ.get("DEVICE", "cuda")
SECONDS = {"torch": 75, "jax": 45, "cupy": 15}  # to measure times
FRAMEWORKS = [name for name in SECONDS if DEVICE == "cuda" or name != "cupy"]


class Part(NamedTuple):
    """A process, and the seconds that it may take."""

    name: str
    seconds: float
    command: list[str]


def plan(folder: Path) -> list[list[Part]]:
    """Groups of parts; the parts of a group run at the same time, except those that measure."""
    python = [sys.executable, "-m"]
    this = [*python, "tests.gpu.first_run", "--out", str(folder), "--measure"]
    pytest = [*python, "pytest", "-q", "-p", "no:cacheprovider", "--tb", "line", "--maxfail", "20", "--device", DEVICE]
    workers = ["-n", "4"] if importlib.util.find_spec("xdist") and DEVICE == "cuda" else []
    files = [*(["tests/gpu"] if DEVICE == "cuda" else []), "tests/test_same_bits.py", "tests/test_features.py"]

    about = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem", "--format=csv"]
    return [
        [Part("facts", 10, about if DEVICE == "cuda" else ["uname", "-a"])],
        [Part(f"bits-{name}", 60, [*python, "tests.bits", name, DEVICE]) for name in FRAMEWORKS],
        *([Part(f"times-{name}", SECONDS[name], [*this, name])] for name in FRAMEWORKS),
        [Part(f"tests-{name}", 70, [*pytest, *workers, "--backend", name, *files]) for name in FRAMEWORKS],
    ]


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
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the work of a part, which is a process of its own
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.measure:
        measure_times(options.measure, options.out)
        return
    os.environ |= {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out.absolute() / "jax"))
    end, lines = time.monotonic() + options.seconds, []
    for group in plan(options.out):
        wanted = [p for p in group if not options.part or {p.name, p.name.partition("-")[0]} & {*options.part}]
        lines += run(wanted, options.out, end - time.monotonic())
    show_times(options.out)
    print("\nSummary", *lines, sep="\n")


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


if __name__ == "__main__":
    main()
