"""The pinned engines live in one process: what ``requirements-engines.lock`` and the GPU image install."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


ROOT = Path(__file__).resolve().parents[2]


def pins(lock: str) -> dict[str, str]:
    """Versions by name of what a lock file installs on this machine."""
    found = {}
    for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith(" "):
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.marker is None or requirement.marker.evaluate():
                found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def test_the_gpu_image_installs_what_is_tested_here():
    """Every version of its lock file is the one installed in this environment."""
    gpu = pins("requirements-gpu.lock")
    assert {"torch", "torchaudio", "flagembedding", "pyannote-audio", "faster-whisper"} <= gpu.keys()
    assert {name: version(name) for name in gpu} == gpu


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
