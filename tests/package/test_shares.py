"""How conftest.py deals out the cases of the tests: several runs with a share each leave nothing out."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from conftest import _share


class Item:
    """As much of a test's case as the dealing looks at."""

    def __init__(self, test: str, case: int, *marks: pytest.MarkDecorator) -> None:
        self.nodeid, self.marks = f"tests/test_it.py::{test}[{case}]", [mark.mark for mark in marks]
        self.callspec = SimpleNamespace(params={"xp": ("jax", "cpu"), "case": case})

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(self.iter_markers(name), None)

    def iter_markers(self, name: str) -> Iterator[pytest.Mark]:
        return (mark for mark in self.marks if mark.name == name)


argument, dtypes, one_dtype = (
    pytest.mark.parametrize("case", [1, 2]),
    pytest.mark.dtypes(),
    pytest.mark.dtypes("float32"),
)
ONE = {
    "a": [Item("a", case, argument) for case in range(3)],
    "b": [Item("b", case, argument, one_dtype) for case in range(10)],
}
PRODUCTS = {"c": [Item("c", case, argument, dtypes) for case in range(18)]}
FEW = {f"of {cases}, {i}": [Item(f"{cases}{i}", case) for case in range(cases)] for cases in (1, 2) for i in range(9)}
UNDEALT = {"d": [Item("d", case, pytest.mark.undealt, argument) for case in range(4)]}
TESTS = ONE | PRODUCTS | FEW | UNDEALT
ITEMS = [item for cases in TESTS.values() for item in cases]


def share(j: int = 0, parts: int = 1, k: int = 0, n: int = 1, of_products: int = 0):
    return _share(ITEMS, j, parts, k, n, of_products)


def test_without_shares_all_is_run():
    assert share() == set(ITEMS)


@pytest.mark.parametrize("of_all", [[(0, 1)], [(0, 2), (1, 2)], [(0, 3), (1, 3), (2, 3)]])
def test_the_shares_have_every_case_of_one_argument_once_and_a_product_s_thinner(of_all):
    shares = [share(k=k, n=n, of_products=3 * n) for k, n in of_all]
    for cases in ONE.values():
        assert [sum(case in taken for taken in shares) for case in cases] == [1] * len(cases)
    for cases in PRODUCTS.values():
        times = [sum(case in taken for taken in shares) for case in cases]
        assert set(times) == {0, 1} and abs(sum(times) - 6) <= 1


@pytest.mark.parametrize("k", range(4))
def test_a_share_has_every_test_and_whole_the_undealt(k):
    taken = share(k=k, n=4, of_products=12)
    for cases in (ONE | PRODUCTS | FEW).values():
        assert taken.intersection(cases)
    assert taken.issuperset(UNDEALT["d"])


def test_the_cases_of_a_share_are_no_stride_of_the_product():
    """Else an argument that has as many values as there are shares had one of them in all of its cases."""
    taken = [case for case in PRODUCTS["c"] if case in share(n=4)]
    assert len({case.callspec.params["case"] % 4 for case in taken}) > 1


def test_the_parts_have_every_test_once_with_the_cases_of_the_share():
    whole, halves = share(k=2, n=3, of_products=9), [share(j, 2, 2, 3, 9) for j in range(2)]
    assert halves[0] | halves[1] == whole and halves[0] & halves[1] == set(UNDEALT["d"])
    assert min(len(half) for half in halves) > len(whole) / 4
    for cases in (ONE | PRODUCTS | FEW).values():
        assert sum(not half.isdisjoint(cases) for half in halves) <= 1
