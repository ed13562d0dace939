"""The rows of the pages "From ...": what a row calls there and what it calls here give the same, or what it says.

A page's programs are marked as code blocks, not as Python, for they need what no other session installs. A row runs
after all of them. The head of a table says what its rows claim: that two expressions are equal, that they are drawn
from one law, or that each has the value that stands behind it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PAGES = [page for page in sorted(HOWTO.glob("from_*.md")) if "{code-block} python" in page.read_text(encoding="utf-8")]


def program(page):
    """The page's code blocks, from top to bottom."""
    return "\n".join(re.findall(r"```{code-block} python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))


def tables(page):
    """Head and rows of each table, every cell as the code spans in it."""
    for table in re.findall(r"(?:^\|.*\|\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in table.splitlines()]
        yield table.splitlines()[0], [[re.findall(r"`([^`]+)`", cell) for cell in line] for line in lines[2:]]


def rows(claim):
    """Parameters for the rows whose table's head makes the claim."""
    found = []
    for page in PAGES:
        for head, body in tables(page):
            kind = "value" if head.startswith("| |") else "law" if "drawn" in head else "equal"
            first = 1 if kind == "value" else 0
            found += [pytest.param(page, row, id=f"{page.stem}-{row[first][0]}") for row in body if kind == claim]
    return found


@pytest.fixture
def evaluate():
    """A function that evaluates an expression after the programs of a page, which run anew for each test."""
    names = {}

    def evaluated(page, expression):
        if not names:
            names["__name__"] = page.stem
            exec(compile(program(page), str(page), "exec"), names)
        return eval(expression, names)

    return evaluated


def numbers(value):
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, dtype=np.float64)


@pytest.mark.parametrize(("page", "row"), rows("equal"))
def test_both_calls_of_a_row_give_the_same_numbers(page, row, evaluate):
    (there,), (here,) = row[:2]
    theirs, ours = (numbers(evaluate(page, expression)) for expression in (there, here))
    assert theirs.size > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize(("page", "row"), rows("law"))
def test_both_draws_of_a_row_follow_one_law(page, row, evaluate):
    (there,), (here,) = row[:2]
    theirs, ours = (numbers(evaluate(page, expression)) for expression in (there, here))
    assert theirs.shape == ours.shape == (20_000,)
    assert ks_2samp(theirs, ours).pvalue > 1e-3


def digits(literal):
    """How many decimals a number is given with."""
    return len(literal.partition(".")[2])


@pytest.mark.parametrize(("page", "row"), rows("value"))
def test_both_sides_of_a_row_have_the_values_that_it_gives(page, row, evaluate):
    for expression, value in row[1:]:
        actual = evaluate(page, expression)
        if value.startswith("torch."):
            assert str(actual) == value
            continue
        wanted = numbers(ast.literal_eval(value))
        decimals = [digits(literal) for literal in re.findall(r"[\d.]+", value)]
        rounded = [round(float(x), n) for x, n in zip(numbers(actual).ravel(), decimals, strict=True)]
        assert rounded == wanted.ravel().tolist()


def test_every_page_has_rows_and_every_row_two_calls():
    libraries = {page.stem.removeprefix("from_") for page in PAGES}
    assert libraries == {"diffusers", "flow_matching", "k_diffusion", "torchcfm"}
    for page in PAGES:
        assert sum(len(body) for _, body in tables(page)) >= 10
