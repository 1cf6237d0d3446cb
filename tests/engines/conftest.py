"""Tests that need torch and the engines built on it: run by ``make test-engines``, in an environment of their own.

Elsewhere they are skipped, and named at the end. ``EARSHOT_TEST_ENGINES=required``, which ``make test-engines`` sets,
turns the skip off: what is missing then fails.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MISSING = "torch is not installed here. `make test-engines` runs these in .venv-engines (about 7 GB)."
LOOPBACK = {"localhost", "127.0.0.1", "::1", None, b"localhost", b"127.0.0.1"}


class _NotHere(pytest.Module):
    """A test file that is not even imported, because its imports would fail."""

    def collect(self) -> Any:
        pytest.skip(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip every file of this folder where there is no torch, unless it was promised."""
    if os.environ.get("EARSHOT_TEST_ENGINES") == "required" or importlib.util.find_spec("torch") is not None:
        return None
    return _NotHere.from_parent(parent, path=module_path)  # type: ignore[no-any-return]


_calls_out: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a look at a foreign host's address; a library that swallows the refusal is found by the fixture."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in LOOPBACK:
        _calls_out.append(str(host))
        raise OSError(f"a test of an engine may not call {host}")


if importlib.util.find_spec("torch") is not None:
    sys.addaudithook(_watch)  # for ever: Python cannot take one away


@pytest.fixture(autouse=True)
def nothing_phones_home() -> Iterator[None]:
    """Every engine works from what is on disk: a call to another host fails the test, swallowed or not."""
    _calls_out.clear()
    yield
    assert _calls_out == [], f"calls to {sorted(set(_calls_out))}"
