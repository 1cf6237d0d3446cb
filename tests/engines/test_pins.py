"""The pinned engines live in one process: what ``requirements-engines.lock`` and the GPU image install."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TOGETHER = [
    "torch",
    "torchaudio",
    "transformers",
    "FlagEmbedding",
    "pyannote.audio",
    "faster_whisper",
    "faust",
    "weaviate",
    "lancedb",
]


@pytest.mark.parametrize("order", [TOGETHER, TOGETHER[::-1]], ids=["torch first", "torch last"])
def test_every_engine_imports_beside_the_others(order):
    """In both orders, in a fresh process; libraries that load each other's shared objects fail in one of them."""
    program = "\n".join(f"import {name}" for name in order) + "\nprint('all of them')"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        capture_output=True,
        text=True,
        timeout=170,
        env=os.environ | {"PYANNOTE_METRICS_ENABLED": "false"},
    )
    print(done.stderr)  # the warnings, shown when the test fails or -s asks for them
    assert done.stdout.splitlines()[-1:] == ["all of them"], done.stderr[-2000:]
