"""``python -m tests.benchmarks``: measure, print, and write JSON and charts where asked. The figures gate nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.benchmarks import memory, report
from tests.benchmarks.cases import TABLES, cases
from tests.benchmarks.contenders import ADD, ON, OURS, frames
from tests.benchmarks.timing import measure, record
from tests.cases.as_written import FORMULAS

SECONDS = {"sizes": 1.5, "images": 0.5, "formulas": 1.0, "shapes": 0.5}  # of measuring for a case
QUICK = 0.2, 3  # seconds, and rounds at least


def main() -> None:
    """Run what the options ask for."""
    options = _options()
    chosen = frames(options.device, options.backend)
    tables = options.table or (["sizes"] if options.quick else [*TABLES, "memory"])
    remembered = _memory(chosen, options.quick) if "memory" in tables else []
    work = [
        (frame, case)
        for frame in chosen
        for case in cases(frame.dtypes, frame.differentiable, tables, options.op, options.quick)
    ]
    records = []
    with tqdm(work, desc="time", unit="case", dynamic_ncols=True) as bar:
        for frame, case in bar:
            bar.set_postfix_str(f"{frame.name} {case.op} {case.direction} {case.dtype} {case.elements:,}")
            contenders = [
                contender
                for contender in frame.contenders()
                if not contender.compiled or (case.table == "sizes" and not options.quick)
            ]
            seconds, fewest = QUICK if options.quick else (SECONDS[case.table], 5)
            records += [record(frame, case, timing) for timing in measure(frame, case, contenders, seconds, fewest)]
    facts = report.machine(options.device)
    report.print_machine(facts)
    report.print_timings(records)
    report.print_memory(remembered)
    report.print_slower(records)
    if options.json:
        content = {"machine": facts, "timings": records, "memory": remembered}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.chart:
        from tests.benchmarks.chart import draw

        place = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores"
        draw(records, options.chart, f"{place}, {facts['date'][:10]}; medians of interleaved runs")


def _memory(chosen: list[Any], quick: bool) -> list[dict[str, Any]]:
    """Peaks of every contender, and what fastgen_rf keeps for the backward pass of each formula."""
    records: list[dict[str, Any]] = []
    for frame in tqdm(chosen, desc="memory", unit="backend", dynamic_ncols=True):
        for dtype in frame.dtypes:
            for contender in frame.contenders():
                if contender.name == ADD or (quick and contender.compiled):
                    continue
                about = {"backend": frame.name, "dtype": dtype, "contender": contender.name, "op": "add_noise"}
                records.append(about | {"peak": memory.peak(frame, contender, dtype)})
            if frame.differentiable:
                for op in FORMULAS:
                    total, new = memory.saved(frame, op, dtype)
                    about = {"backend": frame.name, "dtype": dtype, "contender": OURS, "op": op}
                    records.append(about | {"saved": total, "saved_new": new})
    return records


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = sorted({name for on in ON.values() for name in on})
    parser.add_argument("--device", choices=tuple(ON), default="cpu")
    parser.add_argument("--backend", action="append", choices=names, default=[], help="repeatable; by default all")
    parser.add_argument("--op", action="append", choices=tuple(FORMULAS), default=[], help="repeatable; each way")
    parser.add_argument("--table", action="append", choices=(*TABLES, "memory"), default=[], help="repeatable")
    parser.add_argument("--quick", action="store_true", help="three sizes, little time for each, nothing compiled")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--chart", type=Path, metavar="FILE.png", help="draw times over sizes; *_gradient.png beside")
    return parser.parse_args()


if __name__ == "__main__":
    main()
