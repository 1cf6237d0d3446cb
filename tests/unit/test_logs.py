"""Logs say what happened, and nothing that is not meant for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from earshot.kernel.settings import Settings
from earshot.logs import set_up

set_up(Settings(_env_file=None, log_format=%r))
token = "hunter" + str(2)
try:
    raise ValueError("the cause")
except ValueError:
    structlog.get_logger().critical("worker_failed", exc_info=True)
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_the_cause_and_no_local_variables(log_format: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM % log_format], capture_output=True, text=True, timeout=60)
    assert "worker_failed" in done.stderr
    assert "the cause" in done.stderr
    assert "hunter2" not in done.stderr
