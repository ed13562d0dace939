"""The tests' own processes: where one of several dies, the others end with it, and its words are in the error."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.cases import processes

CODE = """
import os, subprocess, sys, time
rank, folder = int(sys.argv[1]), sys.argv[3]
if rank == 1:
    while not os.path.exists(f"{folder}/started"):
        time.sleep(0.01)
    sys.exit("no more")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(f"{folder}/pids", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(f"{folder}/pids", f"{folder}/started")
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to ask."""
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_one_that_dies_ends_all_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="process 1 ended with 1\nno more"):
        processes.run(CODE, 2, tmp_path)
    pids = list(map(int, (tmp_path / "started").read_text().split()))
    until = time.monotonic() + 10  # a child's child dies of its signal when the system comes to it
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, pids))


def test_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"more than 0.5 s\n--- process 0 ended with -9"):
        processes.run("import time; time.sleep(600)", 1, tmp_path, seconds=0.5)
    assert os.listdir(tmp_path) == ["output-0.txt"]
