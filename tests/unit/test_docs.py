"""The documentation says what the code says."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODES = (
    r"\bcode ?= ?\"([a-z_]+)\"",
    r"\bRefused\(\s*\d+,\s*\"([a-z_]+)\"",
    r"_conflict\(\"([a-z_]+)\"",
    r"_forbidden\(\s*\"([a-z_]+)\"",
    r"\d{3}: \"([a-z_]+)\"",
    r"_CODES\.get\([\w.]+, \"([a-z_]+)\"",
    r"\.code or \"([a-z_]+)\"",
    r"\n(?:DEADLINE|CPU_LIMIT|MEMORY_LIMIT) = \"([a-z_]+)\"",
)
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


def test_every_error_code_is_explained_and_no_other() -> None:
    """Codes are found where errors are made: attributes of their classes, arguments of their calls, constants."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|([^|]+)\|", text, re.MULTILINE)
    explained = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    used: set[str] = set()
    for path in (ROOT / "services").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        used |= {code for pattern in CODES for code in re.findall(pattern, source)}
    assert explained == used


def test_every_promise_of_the_readme_names_what_shows_it() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    promises = re.split(r"\n\d\. ", text.split("## What it promises")[1].split("\n## ")[0])[1:]
    shown = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    for promise in promises:
        rows = re.findall(r"docs/guarantees\.md#(row-\d+)", promise)
        files = re.findall(r"`(tests/[\w/]+\.py)`", promise)
        assert rows or files, promise
        assert all(f'<a id="{row}"></a>' in shown for row in rows), promise
        assert all((ROOT / file).exists() for file in files), promise
