"""The README's Python blocks run, for the frameworks of this run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = {
    re.search(r"^import (\w+)", block)[1]: block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
}


def test_the_same_example_stands_for_each_framework():
    assert set(BLOCKS) == {"numpy", "torch", "jax", "cupy"}


@pytest.mark.backends("numpy", "torch", "jax", "cupy")
def test_the_example_runs(xp):
    exec(compile(BLOCKS[xp.name], f"README.md, {xp.name}", "exec"), {})
