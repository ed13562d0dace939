"""The Python blocks of README and documentation run, each on the framework that it names.

A page is a program that is read from top to bottom. On a framework it consists of the blocks that name it and of those
that name none but NumPy.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests import support_matrix

ROOT = Path(__file__).parents[1]
PATHS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
PAGES = {
    path.relative_to(ROOT).as_posix(): re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    for path in PATHS
}
GUESTS = ("torch", "jax", "cupy", "array_api_strict", "dask")


def named(block):
    """Frameworks beside NumPy that a block names."""
    code = re.sub(r"#.*|\"[^\"]*\"", "", block)
    return {guest for guest in GUESTS if re.search(rf"\b{guest}\b", code)}


def program(blocks, framework):
    return "\n".join(block for block in blocks if named(block) <= {framework})


def pages_for(framework):
    """Pages on which some block is this framework's."""
    wanted = set() if framework == "numpy" else {framework}
    return [page for page, blocks in PAGES.items() if any(named(block) == wanted for block in blocks)]


BLOCKS = [pytest.param(block, id=f"{page}-{i}") for page, blocks in PAGES.items() for i, block in enumerate(blocks)]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_python_and_names_one_framework_at_most(block):
    compile(block, "a page", "exec")
    assert len(named(block)) <= 1


def pages_run_on(framework):
    """A test that runs each page of a framework from top to bottom."""

    @pytest.mark.backends(framework)
    @pytest.mark.parametrize("page", pages_for(framework))
    def run(xp, page):
        exec(compile(program(PAGES[page], framework), page, "exec"), {"__name__": page})

    return run


test_a_page_runs_on_numpy = pages_run_on("numpy")
test_a_page_runs_on_torch = pages_run_on("torch")
test_a_page_runs_on_jax = pages_run_on("jax")
test_a_page_runs_on_cupy = pages_run_on("cupy")
test_a_page_runs_on_array_api_strict = pages_run_on("array_api_strict")
test_a_page_runs_on_dask = pages_run_on("dask")


def test_the_first_program_stands_for_each_framework():
    assert [named(block) for block in PAGES["docs/start/index.md"]] == [{"torch"}, {"jax"}, set(), {"cupy"}]
    assert [named(block) for block in PAGES["docs/index.md"]] == [{"torch"}, {"jax"}, set()]
    assert [named(block) for block in PAGES["README.md"]] == [{"torch"}, {"jax"}]


def test_every_public_name_has_a_page():
    import fastgen_rf

    listed = set(re.findall(r"^   (\w+)$", (ROOT / "docs/reference/api.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == set(fastgen_rf.__all__) - {"flow_matching"}


def test_every_relative_link_of_a_page_leads_somewhere():
    for path in PATHS:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            assert "://" in target or (path.parent / target).exists(), f"{path}: {target}"


def test_the_table_of_published_shifts_is_what_the_page_computes(capsys):
    page = "docs/howto/sampling.md"
    exec(compile(program(PAGES[page], "numpy"), page, "exec"), {"__name__": page})
    printed = [line.rsplit(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    rows = re.findall(
        r"^\| ([\w -]+) \| \d+: .* \| (.*) \| (.*) \| (.*) \|$", (ROOT / page).read_text("utf-8"), re.MULTILINE
    )
    assert [list(row) for row in rows] == printed
    assert len(rows) == 4


GUARANTEES = (ROOT / "docs/explanation/guarantees.md").read_text(encoding="utf-8")
FOOTNOTES = dict(re.findall(r"^\[\^([\w-]+)\]: (.*)$", GUARANTEES, re.MULTILINE))


def test_every_guarantee_has_a_footnote():
    items = re.findall(r"^- (?:.*\n)(?:  .*\n)*", GUARANTEES, re.MULTILINE)
    cited = [re.findall(r"\[\^([\w-]+)\]", item) for item in items]
    assert len(items) > 20
    assert [item for item, names in zip(items, cited, strict=True) if not names] == []
    assert {name for names in cited for name in names} == set(FOOTNOTES)


@pytest.mark.parametrize("footnote", FOOTNOTES)
def test_the_tests_of_a_footnote_exist(footnote):
    files = re.findall(r"`(tests/[\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)", FOOTNOTES[footnote])
    assert files
    for file, names in files:
        source = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"test_\w+", names):
            assert f"def {name}(" in source, name


def test_the_support_matrix_is_the_one_that_the_tests_go_through():
    """``python -m tests.support_matrix`` writes it."""
    page = support_matrix.PAGE.read_text(encoding="utf-8")
    assert page == support_matrix.written(page)


def test_the_versions_of_the_documentation_are_those_that_ci_installs():
    def pinned(file):
        lines = (ROOT / "tests" / file).read_text(encoding="utf-8").splitlines()
        return dict(line.split("==") for line in lines if "==" in line)

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, groups = pyproject["project"]["optional-dependencies"], pyproject["dependency-groups"]
    declared = [*pyproject["project"]["dependencies"], *extras["jax"], *groups["strict"], *groups["dask"]]
    lowest = dict(re.findall(r"^([\w-]+).*>=([\d.]+)$", "\n".join(declared + groups["bfloat16"]), re.MULTILINE))
    usual, newest = pinned("constraints.txt"), pinned("constraints-newest.txt")
    page = support_matrix.PAGE.read_text(encoding="utf-8")
    table = page.partition("<!-- tested versions -->\n")[2].partition("<!-- end of tested versions -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert {name for name, *_ in rows} == {*lowest, "torch"}
    for name, *versions in rows:
        known = ("", usual[name], "") if name == "torch" else (lowest[name], usual[name], newest[name])
        assert versions == list(known), name
