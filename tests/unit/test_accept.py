"""What becomes of the bytes, whatever the catalog and the decoder say."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from earshot.ingest.accept import Offer, accept
from earshot.ingest.details import Details
from earshot.kernel.errors import NotAudio, Permanent, Unavailable, UnitCrashed
from earshot.kernel.ports import Probe
from tests.fakes_http import FakeRecordings
from tests.fakes_media import FakeBlobs, FakeDecoder


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def offer(*parts: bytes, transcript: bytes | None = None, key: str | None = None, **details: object) -> Offer:
    audio = chunks(*parts) if parts else None
    return Offer("default", Details.model_validate(details), audio, transcript, key)


class RefusingDecoder(FakeDecoder):
    def __init__(self, error):
        super().__init__()
        self.error = error

    async def probe(self, path):
        raise self.error


async def test_the_bytes_lie_below_the_tenant_and_the_event_names_them():
    blobs, recordings = FakeBlobs(), FakeRecordings()
    accepted = await accept(offer(b"one", b"two", title="T"), blobs, FakeDecoder(), recordings)
    (new,) = recordings.accepted
    assert new.source_key == f"default/recordings/{accepted.job.recording_id}/source"
    assert blobs.stored[new.source_key][0] == b"onetwo"
    assert (new.upload.sha256, new.upload.size_bytes) == (hashlib.sha256(b"onetwo").hexdigest(), 6)
    assert (new.upload.uri, new.upload.title) == (blobs.uri(new.source_key), "T")


async def test_the_media_type_is_what_the_decoder_found():
    recordings = FakeRecordings()
    await accept(offer(b"x"), FakeBlobs(), FakeDecoder(probe=Probe("mov,mp4,m4a", "aac", 5)), recordings)
    assert recordings.accepted[0].upload.media_type == "audio/mp4"


async def test_bytes_that_are_no_audio_are_not_kept():
    blobs, recordings = FakeBlobs(), FakeRecordings()
    with pytest.raises(NotAudio):
        await accept(offer(b"text"), blobs, RefusingDecoder(NotAudio("This is a text file.")), recordings)
    assert (blobs.stored, recordings.accepted) == ({}, [])


async def test_bytes_that_crash_the_decoder_are_not_kept():
    """The client may send them again, so nothing of this request is needed any more."""
    blobs, recordings = FakeBlobs(), FakeRecordings()
    with pytest.raises(UnitCrashed):
        await accept(offer(b"evil"), blobs, RefusingDecoder(UnitCrashed("The decoder died.")), recordings)
    assert (blobs.stored, recordings.accepted) == ({}, [])


async def test_an_empty_file_is_named_as_such_without_decoding():
    decoder = FakeDecoder()
    with pytest.raises(NotAudio, match="empty"):
        await accept(offer(b""), FakeBlobs(), decoder, FakeRecordings())
    assert decoder.paths == []


async def test_of_the_same_audio_sent_twice_one_copy_is_kept():
    blobs, recordings = FakeBlobs(), FakeRecordings()
    first = await accept(offer(b"same"), blobs, FakeDecoder(), recordings)
    second = await accept(offer(b"same"), blobs, FakeDecoder(), recordings)
    assert second.job.id == first.job.id
    assert list(blobs.stored) == [f"default/recordings/{first.job.recording_id}/source"]


async def test_a_key_used_for_another_request_is_refused_and_its_bytes_dropped():
    blobs, recordings = FakeBlobs(), FakeRecordings()
    await accept(offer(b"one", key="k"), blobs, FakeDecoder(), recordings)
    with pytest.raises(Permanent) as caught:
        await accept(offer(b"two", key="k"), blobs, FakeDecoder(), recordings)
    assert caught.value.code == "idempotency_key_reused"
    assert len(blobs.stored) == 1


async def test_bytes_stay_when_nobody_knows_whether_the_catalog_took_them():
    """A commit whose answer was lost: deleting the blob would lose an accepted recording."""
    blobs, recordings = FakeBlobs(), FakeRecordings()
    recordings.failure = Unavailable("catalog", "The connection broke.")
    with pytest.raises(Unavailable):
        await accept(offer(b"audio"), blobs, FakeDecoder(), recordings)
    assert len(blobs.stored) == 1


async def test_a_transcript_comes_without_audio_and_with_audio_for_playback():
    blobs, recordings = FakeBlobs(), FakeRecordings()
    srt = b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"
    await accept(offer(transcript=srt), blobs, FakeDecoder(), recordings)
    await accept(offer(b"audio", transcript=srt), blobs, FakeDecoder(), recordings)
    alone, beside = recordings.accepted
    assert (alone.source_key, alone.upload.uri) == (None, "")
    assert beside.source_key in blobs.stored
    assert alone.segments is not None
    assert alone.segments[0].text == "Hello"
    assert beside.segments is not None
    assert beside.segments[0].recording_id == beside.upload.recording_id


async def test_nothing_sent_is_refused():
    with pytest.raises(Permanent) as caught:
        await accept(offer(), FakeBlobs(), FakeDecoder(), FakeRecordings())
    assert caught.value.code == "nothing_sent"
