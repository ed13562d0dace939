"""``python -m tests.benchmarks``: measure, print, and write JSON and charts if asked to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.benchmarks import draws, memory, report
from tests.benchmarks.baselines import ADD, ON, OURS, Frame, frames
from tests.benchmarks.cases import FORMULAS, TABLES, cases
from tests.benchmarks.timing import measure, record

SECONDS = {"sizes": 1.5, "images": 0.5, "formulas": 1.0, "shapes": 0.5, "draws": 0.5}  # of measuring for a case
QUICK = 0.2, 3  # seconds, and rounds at least


def main() -> None:
    """Run what the options ask for."""
    options = _options()
    chosen = frames(options.device, options.backend)
    tables = options.table or (["sizes"] if options.quick else [*TABLES, "draws", "memory"])
    sizes = _memory(chosen, options.quick) if "memory" in tables else []
    records = []
    work = [
        (frame, case)
        for frame in chosen
        for case in [
            *cases(frame.dtypes, frame.differentiable, tables, options.op, options.quick),
            *(draws.cases() if "draws" in tables else ()),
        ]
    ]
    with tqdm(work, desc="time", unit="case", dynamic_ncols=True) as bar:
        for frame, case in bar:
            bar.set_postfix_str(f"{frame.name} {case.op} {case.direction} {case.dtype} {case.elements:,}")
            compiled = case.table == "sizes" and not options.quick
            measured = [one for one in frame.implementations() if compiled or not one.compiled]
            if case.table == "draws":
                measured = draws.implementations(frame, case)
            seconds, fewest = QUICK if options.quick else (SECONDS[case.table], 5)
            records += [record(frame, case, timing) for timing in measure(frame, case, measured, seconds, fewest)]
    facts = report.machine(options.device)
    report.print_machine(facts)
    report.print_timings(records)
    report.print_memory(sizes)
    report.print_slower(records)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": facts, "timings": records, "memory": sizes}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.chart:
        from tests.benchmarks.chart import draw

        place = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores"
        draw(records, options.chart, f"{place}, {facts['date'][:10]}; medians of interleaved runs")


def _memory(chosen: list[Frame], quick: bool) -> list[dict[str, Any]]:
    """Peaks of every implementation, and the memory that fastgen_rf saves for the backward pass of each formula."""
    records: list[dict[str, Any]] = []
    for frame in tqdm(chosen, desc="memory", unit="backend", dynamic_ncols=True):
        for dtype in frame.dtypes:
            about = {"backend": frame.name, "dtype": dtype}
            for one in frame.implementations():
                if one.name != ADD and not (quick and one.compiled):
                    peak = memory.peak(frame, one, dtype)
                    records.append(about | {"implementation": one.name, "op": "add_noise", "peak": peak})
            for op in FORMULAS if frame.differentiable else ():
                total, new = memory.saved(frame, op, dtype)
                records.append(about | {"implementation": OURS, "op": op, "saved": total, "saved_new": new})
    return records


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = sorted({name for on in ON.values() for name in on})
    parser.add_argument("--device", choices=tuple(ON), default="cpu")
    parser.add_argument("--backend", action="append", choices=names, default=[], help="repeatable; by default all")
    parser.add_argument("--op", action="append", choices=tuple(FORMULAS), default=[], help="repeatable")
    parser.add_argument("--table", action="append", choices=(*TABLES, "draws", "memory"), default=[], help="repeatable")
    parser.add_argument("--quick", action="store_true", help="three sizes, little time for each, nothing compiled")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results, such as to build/speed_cpu.json")
    parser.add_argument("--chart", type=Path, metavar="FILE.png", help="draw times over sizes, and *_gradient.png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
