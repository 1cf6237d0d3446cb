"""What every speech engine keeps to, in its own process or faked. Real speech, so that it has something to hear."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from contextlib import asynccontextmanager, nullcontext

import numpy as np
import pytest

from earshot.adapters import engines
from earshot.adapters.engines import EngineSettings
from earshot.kernel.errors import EngineRejected, NotAudio, UnitCrashed
from tests.audio import RATE
from tests.fakes_speech import FakeRecognizer, clip, in_order, sentence
from tests.tiny_whisper import MODEL
from tests.transcription_server import Reply, TranscriptionServer
from tests.waiting import eventually

ENGINES = ["fake", "simulated", "pocketsphinx", "faster-whisper", "remote"]
SHORT = "0880"  # 3 s of speech


def settings(engine: str, **fields) -> EngineSettings:
    return EngineSettings(engine=engine, hub="off", _env_file=None, **fields)


@asynccontextmanager
async def remote_engine():
    """The remote engine, and a server whose words depend on what it was sent."""

    def reply(request: bytes) -> Reply:
        if b"fLaC" not in request:
            return Reply(400)
        audio = request.split(b"audio/flac\r\n\r\n")[1].split(b"\r\n--")[0]
        text = f"heard {hashlib.sha256(audio).hexdigest()}"
        said = [{"word": word, "start": 0.1 + place, "end": 0.2 + place} for place, word in enumerate(text.split())]
        return Reply(body=json.dumps({"text": text, "words": said, "language": "english"}).encode())

    async with TranscriptionServer() as server:
        server.always = reply
        async with engines.recognizer(settings("remote", remote_url=server.url)) as started:
            yield started


def engine_named(name: str):
    """The engine, to be entered. faster-whisper has a model that knows the clips, and nothing else."""
    if name == "fake":
        return nullcontext(FakeRecognizer())
    if name == "remote":
        return remote_engine()
    model = {"model": str(MODEL)} if name == "faster-whisper" else {}
    return engines.recognizer(settings(name, device="cpu", **model))


@pytest.fixture(params=ENGINES)
async def recognizer(request):
    async with engine_named(request.param) as started:
        yield started


async def test_results_come_in_order_and_do_not_depend_on_what_else_was_heard(recognizer):
    """The same clip has the same words, as sure, first, last, and after noise."""
    speech, noise = clip(sentence(SHORT)), clip(np.random.default_rng(1).normal(0, 3000, RATE).astype(np.int16))
    together = await recognizer.recognize([speech, noise])
    apart = [(await recognizer.recognize([item]))[0] for item in (noise, speech)]
    assert together == apart[::-1]
    assert together[0].text != together[1].text


async def test_words_lie_in_order_inside_the_segment_wherever_it_starts(recognizer):
    segment = clip(sentence(SHORT), start_ms=3_600_000)
    (heard,) = await recognizer.recognize([segment])
    assert heard.words
    assert in_order(heard.words, segment.start_ms, segment.end_ms)
    assert " ".join(word.text for word in heard.words) == heard.text
    assert all(word.confidence is None or 0 <= word.confidence <= 1 for word in heard.words)


async def test_every_result_says_who_made_it(recognizer):
    (heard,) = await recognizer.recognize([clip(np.zeros(RATE, np.int16))])
    assert (heard.engine, heard.options) == (recognizer.engine, recognizer.options)
    assert heard.engine.name
    assert heard.engine.device
    assert bool(heard.engine.reason) == heard.engine.degraded


async def test_what_is_no_segment_is_refused_and_the_next_is_heard(recognizer):
    segment = clip(sentence(SHORT))
    with pytest.raises((NotAudio, EngineRejected)):
        await recognizer.recognize([type(segment)(b"this is a poem", 0, 1000)])
    (heard,) = await recognizer.recognize([segment])
    assert heard.text


@pytest.mark.parametrize("name", ["simulated", "pocketsphinx"])
async def test_an_engine_killed_at_work_is_a_crashed_unit_and_the_next_call_has_a_new_one(name):
    async with engines.recognizer(settings(name, simulated_real_time_factor=1.0)) as recognizer:
        process = recognizer._links[0].running
        first = process.pid
        call = asyncio.create_task(recognizer.recognize([clip(sentence("0870"))]))
        await eventually(process._child._turn.locked)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(UnitCrashed, match="SIGKILL"):
            await call
        (heard,) = await recognizer.recognize([clip(sentence(SHORT)[: RATE // 2])])
        assert heard.engine == recognizer.engine
        assert process.pid != first
    assert process.pid is None
