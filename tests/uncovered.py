"""``python -m tests.uncovered``: hold what no test on a CPU reaches of the package against the list of it.

Reads what ``coverage`` has collected. ``tests/uncovered.txt`` names each line, and each branch that is not taken, by
its file, its function and its text, so that a change elsewhere in the file moves nothing, and says why. ``--write``
prints what is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".txt")


def main() -> None:
    """Print what differs, and end with an error if anything does."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)], check=True, cwd=ROOT)
        files = json.loads(report.read_text())["files"]
    found = Counter(entry for path, data in files.items() for entry in unreached(path, data))
    if sys.argv[1:] == ["--write"]:
        print(*sorted(found.elements()), sep="\n")
        return
    listed = Counter(entry for line in LIST.read_text().splitlines() if (entry := line.strip()) and line[0] == " ")
    for entry in sorted((found - listed).elements()):
        print(f"no test reaches, and the list does not name\n    {entry}")
    for entry in sorted((listed - found).elements()):
        print(f"the list names, and a test reaches or nothing is\n    {entry}")
    print(f"{found.total()} lines and branches of {len(files)} files are not reached, {listed.total()} are listed")
    sys.exit(found != listed)


def unreached(path: str, data: dict[str, Any]) -> Iterator[str]:
    """Entries for the lines of a file that did not run, and for the branches not taken of lines that did."""
    lines = ["", *(line.strip() for line in (ROOT / path).read_text().splitlines())]
    for name, part in data["functions"].items():
        where = f"{Path(path).relative_to('fastgen_rf')} {name or 'module'}:"
        missing = set(part["missing_lines"])
        yield from (f"{where} {lines[n]}" for n in missing)
        for start, end in part["missing_branches"]:
            if start not in missing:
                yield f"{where} {lines[start]} -> {lines[end] if end > 0 else 'return'}"


if __name__ == "__main__":
    main()
