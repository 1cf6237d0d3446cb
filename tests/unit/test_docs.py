"""The documentation says what the code says."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = runpy.run_path(str(ROOT / "docs" / "build.py"))


@pytest.mark.parametrize("name", sorted(BUILD["TABLES"]))
def test_a_generated_table_is_what_the_code_says(name: str) -> None:
    _, before, after = BUILD["rebuilt"](name)
    assert before == after, "run `make docs`"


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
