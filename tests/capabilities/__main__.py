"""``python -m tests.capabilities``: write the table into the pages that show it."""

from tests.capabilities import PAGES, written

for page, table in PAGES.items():
    page.write_text(written(page.read_text(encoding="utf-8"), table()), encoding="utf-8")
