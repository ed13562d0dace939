"""``python -m tests.mutants``: hold the changes of the package that no test notices against the list of them.

``mutmut run`` changes one place at a time and leaves in ``mutants/`` what NumPy's tests make of it. What they do not
notice and ``tests/mutants.txt`` does not name, with a reason, tests of other frameworks have to notice (``ELSEWHERE``).
Where only some functions were run, the list is held to those. ``--write`` prints what none of the tests notices.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutmut.__main__ import get_diff_for_mutant, walk_mutatable_files
from mutmut.mutation.data import SourceFileMutationData
from tqdm.contrib.concurrent import thread_map

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".txt")
UNNOTICED = (0, 5, 33)  # by mutmut: the tests passed, or none calls the function
MESSAGES = "tests/everywhere/test_error_messages.py"
ERRORS = (MESSAGES, "tests/everywhere/test_errors.py", "tests/torch/test_errors.py", "tests/everywhere/test_random.py")
ELSEWHERE = {  # the frameworks and the tests for what NumPy has no use of, by the beginning of a function's name
    "": ("numpy,torch,array_api_strict", *ERRORS),
    "_evaluate._fitted": ("torch", "tests/torch/test_predictions.py", "tests/torch/test_transforms.py"),
    "_config": ("numpy,array_api_strict", MESSAGES, "tests/everywhere/test_inputs.py"),
    "_laws": ("torch", "tests/torch/test_slopes.py"),
    "arithmetic._words": ("array_api_strict", "tests/devices"),
    "distribution": ("numpy,array_api_strict", MESSAGES, "tests/capabilities"),
    "paths": ("array_api_strict", MESSAGES, "tests/everywhere/test_paths.py"),
    "timesteps": ("numpy,torch,jax", MESSAGES, *(f"tests/{name}/test_draws.py" for name in ("torch", "jax"))),
}
LONGEST = 900  # seconds; a change that does not end is noticed


def main() -> None:
    """Print what differs, and end with an error if anything does."""
    changes = dict(every_change())
    not_run = {function(name) for name, (exit_code, _) in changes.items() if exit_code is None}
    found = {name: entry for name, (exit_code, entry) in changes.items() if exit_code in UNNOTICED}
    listed = Counter(entry for line in LIST.read_text().splitlines() if (entry := line.strip()) and line[0] == " ")
    unlisted = []
    for name, entry in found.items():
        if listed[entry] > 0:
            listed[entry] -= 1
        else:
            unlisted.append(name)
    gone = [entry for entry in listed.elements() if entry.partition(": ")[0] not in not_run]
    for unchanged in {tests_of(name) for name in unlisted}:
        if not passes(unchanged):
            raise SystemExit(f"without any change, these fail: {' '.join(unchanged)}")
    diffs = map(get_diff_for_mutant, unlisted)
    tests = map(tests_of, unlisted)
    passing = thread_map(passes, tests, unlisted, diffs, max_workers=os.cpu_count(), total=len(unlisted))
    surviving = [found[name] for name, passed in zip(unlisted, passing, strict=True) if passed]
    if sys.argv[1:] == ["--write"]:
        print(*surviving, sep="\n")
        return
    for entry in surviving:
        print(f"no test notices, and the list does not name\n    {entry}")
    for entry in gone:
        print(f"the list names, and a test notices or nothing is\n    {entry}")
    print(
        f"{len(found)} changes are not noticed on NumPy, {passing.count(False)} of these elsewhere; "
        f"{len(not_run)} functions were not run"
    )
    sys.exit(bool(surviving or gone))


def every_change() -> Iterator[tuple[str, tuple[int | None, str]]]:
    """Names of mutmut's changes, each with what became of it and its entry in the list."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            entry = ""
            if exit_code in UNNOTICED:
                lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
                old, new = ([word for line in lines if line[:1] == sign for word in line[1:].split()] for sign in "-+")
                entry = f"{function(name)}: {change(old, new)}"
            yield name, (exit_code, entry)


def change(old: list[str], new: list[str]) -> str:
    """The words that differ and one on each side, ``old -> new``."""
    start = shared(old, new)
    end = shared(old[start:][::-1], new[start:][::-1])
    return " -> ".join(" ".join(words[max(0, start - 1) : len(words) - end + 1]) for words in (old, new))


def shared(one: list[str], other: list[str]) -> int:
    """How many words two lists begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def function(name: str) -> str:
    """``_laws._beta`` of mutmut's ``fastgen_rf._laws.x__beta__mutmut_3``."""
    module, mangled = name.removeprefix("fastgen_rf.").rpartition("__mutmut_")[0].rsplit(".", 1)
    return f"{module}.{mangled.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


def tests_of(name: str) -> tuple[str, ...]:
    """The frameworks and the tests for the function that a change is in."""
    return ELSEWHERE[max(filter(function(name).startswith, ELSEWHERE), key=len)]


def changed(source: str, diff: str) -> str:
    """The source of a module with the change of one of its functions made, of which a method stands indented."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]:
        old, new = ([line[1:] for line in hunk.splitlines() if line[:1] in f" {sign}"] for sign in "-+")
        for margin in ("", "    "):
            before, after = (textwrap.indent("\n".join(lines), margin) for lines in (old, new))
            if source.count(before) == 1:
                source = source.replace(before, after)
                break
        else:
            raise RuntimeError(f"not once in the source:\n{hunk}")
    return source


def passes(tests: tuple[str, ...], name: str = "", diff: str = "") -> bool:
    """Whether tests pass in a copy of the project, with a change made if one is named."""
    frameworks, *files = tests
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT, f"{folder}/copy", ignore=shutil.ignore_patterns(".*", "_build"))
        if name:
            module = Path(copy, *name.split(".")[:-1]).with_suffix(
                ".py"
            )  # not by `mutmut apply`, which takes an overload for it
            module.write_text(changed(module.read_text(encoding="utf-8"), diff), encoding="utf-8")
        run = [sys.executable, "-m", "pytest", "-x", "-q", "--numprocesses", "0", "-p", "no:cacheprovider"]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}
        try:
            command = [*run, "--backend", frameworks, *files]
            tested = subprocess.run(command, cwd=copy, env=alone, capture_output=True, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return False
    if tested.returncode not in (0, 1):
        raise RuntimeError(f"pytest did not run: {tested.stdout.decode()[-2000:]}")
    return tested.returncode == 0


if __name__ == "__main__":
    main()
