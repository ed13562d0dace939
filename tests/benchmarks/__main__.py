"""``python -m tests.benchmarks``: measure, print, and write JSON if asked to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from tests.benchmarks import draws, report
from tests.benchmarks.baselines import ON, frames
from tests.benchmarks.cases import FORMULAS, TABLES, cases
from tests.benchmarks.measure import times


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = sorted({name for on in ON.values() for name in on})
    parser.add_argument("--device", choices=tuple(ON), default="cpu")
    parser.add_argument("--backend", action="append", choices=names, default=[], help="repeatable; by default all")
    parser.add_argument("--op", action="append", choices=tuple(FORMULAS), default=[], help="repeatable")
    parser.add_argument("--table", action="append", choices=(*TABLES, "draws"), default=[], help="repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results, for docs/examples/speed_chart.py")
    options = parser.parse_args()
    tables = options.table or [*TABLES, "draws"]
    chosen = frames(options.device, options.backend)
    records = []
    work = [
        (frame, case, [one for one in frame.implementations() if case.table == "sizes" or not one.compiled])
        for frame in chosen
        for case in cases(frame.dtypes, frame.differentiable, tables, options.op)
    ]
    if "draws" in tables:
        work += [(frame, case, draws.implementations(frame, case)) for frame in chosen for case in draws.cases()]
    with tqdm(work, desc="time", unit="case", dynamic_ncols=True) as bar:
        for frame, case, measured in bar:
            bar.set_postfix_str(f"{frame.name} {case.op} {case.direction} {case.dtype} {case.elements:,}")
            records += times(frame, case, measured)
    facts = report.machine(options.device)
    report.print_machine(facts)
    report.print_timings(records)
    report.print_slower(records)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": facts, "timings": records}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
