"""Killed in the middle of writing a blob: nothing lies under its key, it can be written, and what is left is swept."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from earshot.adapters.blobs import ObstoreBlobs
from earshot.kernel.errors import BlobMissing
from tests.faults.system import ROOT

KEY = "acme/recordings/one/source"
WRITER = """
import asyncio, os, signal, sys
from earshot.adapters.blobs import ObstoreBlobs

async def pieces():
    for _ in range(20):
        yield bytes(2**20)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(ObstoreBlobs(sys.argv[1]).put(sys.argv[2], pieces(), create_only=sys.argv[3] == "new"))
"""


@pytest.mark.parametrize("how", ["new", "over"])
async def test_a_writer_that_was_killed_leaves_no_blob_and_nothing_for_ever(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", WRITER, tmp_path.as_uri(), KEY, how]
    died = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, timeout=60)
    assert died.returncode == -signal.SIGKILL
    blobs = ObstoreBlobs(tmp_path.as_uri())
    assert len(files(tmp_path)) == 1, "the writer died before it wrote"
    with pytest.raises(BlobMissing):
        await blobs.size(KEY)
    assert [key async for key, _ in blobs.list("acme/")] == []
    assert await blobs.put(KEY, b"whole", create_only=True)
    now = datetime.now(UTC)
    assert await blobs.sweep(now - timedelta(hours=1)) == 0, "somebody may still be writing it"
    assert await blobs.sweep(now + timedelta(hours=1)) == 1
    assert [path.read_bytes() for path in files(tmp_path)] == [b"whole"]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
