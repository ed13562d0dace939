"""The Python blocks of README and documentation run, the README's for the frameworks of this run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = {
    re.search(r"^import (\w+)", block)[1]: block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
}


def test_the_same_example_stands_for_each_framework():
    assert set(BLOCKS) == {"numpy", "torch", "jax", "cupy"}


@pytest.mark.backends("numpy", "torch", "jax", "cupy")
def test_the_example_runs(xp):
    exec(compile(BLOCKS[xp.name], f"README.md, {xp.name}", "exec"), {})


PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): re.findall(
        r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL
    )
    for path in sorted((ROOT / "docs").rglob("*.md"))
}


@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if blocks])
def test_a_page_of_the_documentation_runs_from_top_to_bottom(page):
    exec(compile("\n".join(PAGES[page]), f"docs/{page}", "exec"), {})


def test_the_pages_with_examples_are_found():
    assert {"index.md", "howto/random.md", "howto/timesteps.md", "howto/predictions.md"} <= {
        name for name in PAGES if PAGES[name]
    }
