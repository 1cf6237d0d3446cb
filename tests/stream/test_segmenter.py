"""The segmenter as a stage, over its real decoder and catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Codec
from earshot.kernel.events import StageProgressed
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_UPLOADED, RECORDINGS_PROGRESS
from earshot.segmenter.app import create_stage
from tests.fakes_catalog import new, upload
from tests.fakes_stream import Bench, record_of


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(Settings(data=tmp_path))
    await made.catalog.migrate()
    yield made
    await made.catalog.close()


async def test_a_file_that_kills_its_decoder_is_put_aside_and_its_job_says_why(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV refuses it, and the binary that is tried next takes its parent down, each time."""
    binary = tmp_path / "ffmpeg"
    tries = tmp_path / "tries"
    binary.write_text(f"#!/bin/sh\necho once >> {tries}\nkill -9 $PPID\n")
    binary.chmod(0o755)
    monkeypatch.setenv("EARSHOT_SEGMENTER__FFMPEG", str(binary))
    event = upload(sha256="")
    key = f"default/recordings/{event.recording_id}/source"
    event = event.model_copy(update={"uri": kit.blobs.uri(key)})
    await kit.blobs.put(key, b"\x01exotic" * 100)
    job = (await kit.catalog.accept(new(event))).job

    bench = Bench(create_stage(kit))
    await bench.process(record_of(event, 0, AUDIO_UPLOADED))
    assert tries.read_text().split() == ["once"] * 3
    assert bench.acked == [0]
    (letter,) = bench.producer.of("audio.uploaded.dlq")
    assert letter.header("earshot-error-code") == "unit_crashed"
    said = [Codec().decode(RECORDINGS_PROGRESS, r.value or b"") for r in bench.producer.of("recordings.progress")]
    await kit.catalog.record([event for event in said if isinstance(event, StageProgressed)])
    ended = await kit.catalog.job("default", job.id)
    assert ended is not None
    assert ended.state == "failed"
    assert ended.error is not None
    assert "SIGKILL" in ended.error["detail"]
