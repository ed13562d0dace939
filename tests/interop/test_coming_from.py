"""The tables of the migration pages ("From diffusers", ...), row by row.

The programs of these pages are code blocks that the other sessions cannot run, for they need the other packages. A row
runs after all of them. The head of its table says what a row claims: that two expressions are equal, that they are
samples of one distribution, or that each has the value that is given after it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

FOLDER = Path(__file__).parents[2] / "docs" / "migrate"
PAGES = [page for page in sorted(FOLDER.glob("from_*.md")) if "{code-block} python" in page.read_text(encoding="utf-8")]


def tables(page: Path) -> Iterator[tuple[str, list[list[list[str]]]]]:
    """Head and rows of each table; a cell is the list of its code spans."""
    for table in re.findall(r"(?:^\|.*\|\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in table.splitlines()]
        yield table.splitlines()[0], [[re.findall(r"`([^`]+)`", cell) for cell in line] for line in lines[2:]]


def claim(head: str) -> str:
    if head.startswith("| |"):
        return "values"
    return "distribution" if re.search("drawn|sampled", head) else "equal"


def rows(wanted: str) -> Any:
    """Parametrize a test with the rows that make a claim."""
    return pytest.mark.parametrize(
        ("page", "row"),
        [
            pytest.param(page, row, id=f"{page.stem}-{row[wanted == 'values'][0]}")
            for page in PAGES
            for head, body in tables(page)
            for row in body
            if claim(head) == wanted
        ],
    )


@pytest.fixture
def evaluate() -> Callable[[Path, str], Any]:
    """A function that evaluates an expression after the programs of a page, which run anew for each test."""
    names: dict[str, Any] = {}

    def evaluated(page: Path, expression: str) -> Any:
        if not names:
            names["__name__"] = page.stem
            blocks = re.findall(r"```{code-block} python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
            exec(compile("\n".join(blocks), str(page), "exec"), names)
        return eval(expression, names)

    return evaluated


def numbers(value: Any) -> Any:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, dtype=np.float64)


@rows("equal")
def test_both_calls_of_a_row_return_the_same_numbers(page: Path, row: Any, evaluate: Any) -> None:
    theirs, ours = (numbers(evaluate(page, expression)) for (expression,) in row[:2])
    assert theirs.size > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-6)


@rows("distribution")
def test_both_samples_of_a_row_have_one_distribution(page: Path, row: Any, evaluate: Any) -> None:
    theirs, ours = (numbers(evaluate(page, expression)) for (expression,) in row[:2])
    assert theirs.shape == ours.shape == (20_000,)
    assert ks_2samp(theirs, ours).pvalue > 1e-3


@rows("values")
def test_both_expressions_of_a_row_have_the_values_given(page: Path, row: Any, evaluate: Any) -> None:
    for expression, value in row[1:]:
        actual = evaluate(page, expression)
        if value.startswith("torch."):
            assert str(actual) == value
            continue
        decimals = [len(literal.partition(".")[2]) for literal in re.findall(r"[\d.]+", value)]
        rounded = [round(float(x), n) for x, n in zip(numbers(actual).ravel(), decimals, strict=True)]
        assert rounded == numbers(ast.literal_eval(value)).ravel().tolist()
