"""Bad input behaves as the design says. What comes in, and the tests that show it; each must exist.

not audio, empty
    system/test_http_door.py::test_what_is_not_audio_is_refused_and_not_kept
not audio, 0 samples
    unit/test_decoder.py::test_what_is_not_audio_is_refused_and_named
a video without sound
    unit/test_decoder.py::test_a_video_without_sound_is_refused_and_named
a playlist of other files
    unit/test_decoder.py::test_lists_that_name_other_files_open_none_of_them
wrong extension
    unit/test_decoder.py::test_containers_and_codecs_are_found_by_content
silent
    system/test_bad_input.py::test_silence_is_a_completed_recording_without_speech
truncated, wrong extension
    system/test_bad_input.py::test_of_a_truncated_file_under_a_wrong_name_the_rest_is_understood
truncated
    unit/test_decoder.py::test_of_a_truncated_file_the_beginning_is_kept
larger than the limit, at the door
    system/test_http_door.py::test_a_request_above_the_limit_is_refused_by_its_length_and_by_its_bytes
larger than the limit, by an event
    unit/test_segment.py::test_what_is_too_large_is_refused_before_it_is_fetched
longer than the limit
    unit/test_decoder.py::test_limits_of_size_and_duration_are_kept
a decompression bomb
    unit/test_decoder.py::test_a_bomb_is_stopped_at_the_limit
a bomb of memory
    unit/test_isolated.py::test_memory_and_cpu_time_are_bounded
a decoder that hangs
    unit/test_decoder.py::test_a_decoder_that_hangs_is_stopped_at_its_deadline
a decoder that crashes
    unit/test_decoder.py::test_the_decoder_killed_in_the_middle_is_a_crash_and_leaves_no_process
a decoder that crashes, at the door
    unit/test_accept.py::test_bytes_that_crash_the_decoder_are_not_kept
a file that kills every decoder
    stream/test_segmenter.py::test_a_file_that_kills_its_decoder_is_put_aside_and_its_job_says_why
the same upload twice
    system/test_http_door.py::test_the_same_upload_twice_is_one_recording_with_one_blob
the same upload twice, everywhere
    system/test_speech_in_search_out.py::test_the_same_file_again_is_the_same_recording
Idempotency-Key, again and misused
    system/test_http_door.py::test_an_idempotency_key_answers_the_same_and_refuses_another_body
bad bytes, an unknown schema; a missing blob, a wrong hash; a URI outside its tenant
    system/test_bad_input.py::test_bad_events_are_put_aside_and_the_next_is_unaffected
a URI that leaves its folder
    contract/test_blobs.py::test_uris_outside_the_tenants_folder_are_refused
random bytes
    unit/test_codec.py::test_random_bytes_raise_nothing_but_undecodable
bad events, on both transports
    faults/test_errors.py::test_poison_and_permanent_errors_are_put_aside_and_transient_ones_waited_out
an id that is no UUID
    stream/test_processor.py::test_a_recording_id_that_is_no_uuid_is_poison
a null value
    faults/test_errors.py::test_a_null_value_deletes_and_the_next_event_is_unaffected
a null value, on its way in
    stream/test_processor.py::test_a_null_value_is_a_deletion_and_never_poison
a bind beyond loopback without a key
    system/test_http_server.py::test_it_does_not_start_beyond_loopback_without_a_key
another bind address, by the CLI
    system/test_cli.py::test_a_misconfigured_system_says_what_and_does_not_start
the Host header
    system/test_http_door.py::test_without_a_key_a_foreign_host_name_is_refused

Two rows wait for what they are about: fetching from a URL, and a model that answers.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Codec, Record
from earshot.kernel.events import AudioUploaded
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_UPLOADED
from tests.audio import JFK, silence, wav
from tests.system.conftest import ROOT, System
from tests.waiting import eventually_sync

NAMED = re.compile(r"(\w+/test_\w+\.py)::(test_\w+)")


def test_every_test_named_above_exists() -> None:
    named = NAMED.findall(__doc__ or "")
    assert len(named) >= 25
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in defined, f"{file} has no {name}"


def test_silence_is_a_completed_recording_without_speech(system: System, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    path.write_bytes(wav(silence(5)))
    job = system.ended(system.add(path, collection="silent")["id"])
    assert (job["state"], job["segments_total"], job["error"]) == ("completed", 0, None)
    transcript = system.http.get(f"/recordings/{job['recording_id']}/transcript").json()
    assert (transcript["segments"], transcript["duration_ms"]) == ([], 5000)
    assert system.search("anything at all", collection="silent") == []


def test_of_a_truncated_file_under_a_wrong_name_the_rest_is_understood(system: System, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    whole = JFK.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    job = system.ended(system.add(path, collection="truncated", language="en")["id"])
    assert job["state"] == "completed", job
    recording = system.http.get(f"/recordings/{job['recording_id']}").json()
    assert 6_000 < recording["duration_ms"] < 9_000
    assert system.search("my fellow Americans ask not", collection="truncated")


class Producer:
    """Someone else's producer: knows the log and the blob store, not the door."""

    def __init__(self, system: System) -> None:
        given = system.settings
        self.settings = Settings(
            data=system.data,
            broker_url=given.get("EARSHOT_BROKER_URL", ""),
            topic_prefix=given.get("EARSHOT_TOPIC_PREFIX", ""),
        )
        self.topic = self.settings.topic(AUDIO_UPLOADED.name)

    def stored(self, name: str, data: bytes) -> str:
        """The URI of a blob in the folder of the default tenant."""
        return asyncio.run(self._stored(f"default/incoming/{uuid4()}/{name}", data))

    async def _stored(self, key: str, data: bytes) -> str:
        blobs = Kit(self.settings).blobs
        await blobs.put(key, data)
        return blobs.uri(key)

    def uri(self, key: str) -> str:
        return Kit(self.settings).blobs.uri(key)

    def publish(self, values: Sequence[bytes | None]) -> None:
        """All to one partition, so that each is in the way of those behind it."""
        records = [Record(self.topic, b"key", value, (("origin", b"elsewhere"),), 0) for value in values]
        asyncio.run(self._publish(records))

    async def _publish(self, records: Sequence[Record]) -> None:
        log = Kit(self.settings).log
        await log.publish(records)
        await log.close()

    def letters(self, topic: str) -> list[Record]:
        return asyncio.run(self._letters(self.settings.topic(topic + ".dlq")))

    async def _letters(self, name: str) -> list[Record]:
        log = Kit(self.settings).log
        found = [record async for record in log.tail([name], from_start=True, follow=False)]
        await log.close()
        return found


def event(uri: str, **fields: Any) -> AudioUploaded:
    return AudioUploaded(recording_id=str(uuid4()), uri=uri, collection="foreign", language="en", **fields)


def test_bad_events_are_put_aside_and_the_next_is_unaffected(system: System) -> None:
    """Each is dead-lettered with its bytes and a code; whose recording is known, ends failed with a reason."""
    producer = Producer(system)
    jfk = JFK.read_bytes()
    failing = {
        "blob_missing": event(producer.uri(f"default/incoming/{uuid4()}")),
        "blob_mismatch": event(producer.stored("talk.flac", jfk), sha256="0" * 64),
        "not_audio": event(producer.stored("talk.wav", b"Dear Sir, this is a letter. " * 99)),
    }
    foreign = [event(uri) for uri in (producer.uri("other/incoming/talk"), "file:///etc/passwd", "https://[::1]/talk")]
    good = event(producer.stored("talk.pdf", jfk), title="unaffected")
    values = {name: Codec().encode(AUDIO_UPLOADED, one) for name, one in failing.items()}
    outside = [Codec().encode(AUDIO_UPLOADED, one) for one in foreign]
    nonsense = [b"\x00junk", b"\xc3\x01" + b"\x07" * 8 + uuid4().bytes]
    producer.publish([*nonsense, None, *values.values(), *outside, Codec().encode(AUDIO_UPLOADED, good)])

    assert _ended(system, good.recording_id)["state"] == "completed"
    letters = {record.value: record for record in producer.letters("audio.uploaded")}
    expected = dict.fromkeys(nonsense, "undecodable_event")
    expected |= {value: name for name, value in values.items()} | dict.fromkeys(outside, "foreign_uri")
    assert {value: letters[value].header("earshot-error-code") for value in expected} == expected
    assert None not in letters
    assert all(letters[value].headers[0] == ("origin", b"elsewhere") for value in expected)
    for code, one in failing.items():
        job = _ended(system, one.recording_id)
        assert (job["state"], job["error"]["code"]) == ("failed", code)
        assert len(job["error"]["detail"]) > 20
    for one in foreign:
        assert system.http.get(f"/jobs/{one.recording_id}").status_code == 404
    told = [record.value or b"" for record in producer.letters("recordings.progress")]
    assert not [one for one in foreign if any(one.recording_id.encode() in value for value in told)]


def _ended(system: System, recording_id: str) -> dict[str, Any]:
    """The job of a recording that its producer named, once it is known and has ended."""
    eventually_sync(lambda: system.http.get(f"/jobs/{recording_id}").status_code == 200, within=60)
    return system.ended(recording_id)
