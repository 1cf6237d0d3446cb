"""One report of how good it is: what searches find, and what was heard. Markdown, JSON and plots.

Each part is a file ``quality_<part>.py`` beside this one with ``add_arguments(parser)`` and ``measure(args)``, which
gives a section, or nothing when what it needs was not named.
"""

from __future__ import annotations

import argparse
import importlib
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from quality_report import Section, write

PARTS = ("quality_speech", "quality_retrieval")


def main() -> None:
    """Measure every part that is asked for, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for report.md, report.json and plots")
    parts = [importlib.import_module(name) for name in PARTS if find_spec(name) is not None]
    for part in parts:
        part.add_arguments(parser)
    args = parser.parse_args()
    sections: list[Section] = [section for part in parts if (section := part.measure(args)) is not None]
    if not sections:
        parser.error("nothing to measure: name a data set")
    print(write(sections, about(), args.out))


def about() -> dict[str, str]:
    """When, with which version, on what."""
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "earshot": version("earshot"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


if __name__ == "__main__":
    main()
