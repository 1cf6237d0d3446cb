"""The remote engine against a real server on loopback: what it asks, what it makes of answers, good and hostile."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from earshot.adapters.breaker import Breaker
from earshot.adapters.engine_chain import EngineChain
from earshot.adapters.engine_link import Link
from earshot.adapters.engine_process import EngineProcess, Plan
from earshot.adapters.engines import EngineSettings
from earshot.adapters.languages import code
from earshot.adapters.remote_speech import MAX_ANSWER, Pace, RemoteSpeech, _retry_after
from earshot.adapters.remote_words import MAX_WORDS, Answer, words_of
from earshot.kernel.errors import EngineRejected, Misconfigured, Unavailable
from earshot.kernel.ports import Clip
from tests.fakes_speech import clip, in_order, tone
from tests.transcription_server import GOOD, Reply, TranscriptionServer
from tests.waiting import eventually

KEY = "sk-very-secret"
CLIP = Clip(b"fLaC one", 60_000, 61_000)


def engine(server: TranscriptionServer, **fields) -> RemoteSpeech:
    fields = {"remote_api_key": KEY, "remote_timeout_s": 10.0} | fields
    settings = EngineSettings(engine="remote", remote_url=server.url, _env_file=None, **fields)
    return RemoteSpeech(settings, Breaker(), first_wait_s=0.01)


def answer(**fields) -> Reply:
    return Reply(body=json.dumps(GOOD | fields).encode())


async def asked_once(reply: Reply, **fields):
    async with TranscriptionServer([Reply(), reply]) as server, engine(server, **fields) as remote:
        return (await remote.recognize([CLIP]))[0]


async def test_it_asks_for_words_with_the_key_and_the_model_it_was_given():
    async with TranscriptionServer() as server, engine(server, remote_model="big") as remote:
        await remote.recognize([Clip(b"fLaC one", 0, 1000, "en-US", prompt="A talk.", hotwords="Earshot")])
        assert (remote.engine.name, remote.engine.model, remote.engine.degraded) == ("remote", "big", False)
    request = server.asked[1]
    assert request.startswith(b"POST /v1/audio/transcriptions HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}".encode().lower() in request.lower()
    parts = [part.split(b"\r\n\r\n", 1) for part in request.split(b"--" + request.split(b"boundary=")[1][:32])[1:]]
    fields = [(part[0].split(b'"')[1], part[1].rstrip(b"-\r\n")) for part in parts if len(part) == 2]
    assert (b"model", b"big") in fields
    assert (b"response_format", b"verbose_json") in fields
    assert [value for name, value in fields if name == b"timestamp_granularities[]"] == [b"word", b"segment"]
    assert (b"language", b"en") in fields
    assert (b"prompt", b"A talk. Earshot") in fields
    assert (b"file", b"fLaC one") in fields


async def test_words_keep_the_texts_punctuation_and_count_from_the_recordings_start():
    heard = await asked_once(Reply())
    assert (heard.text, heard.language) == ("Ask not, what your country.", "en")
    assert [word.text for word in heard.words] == ["Ask", "not,", "what", "your", "country."]
    assert [word.start_ms for word in heard.words] == [60_000, 60_200, 60_500, 60_600, 60_700]


async def test_translation_is_asked_for_where_it_is_wanted():
    async with TranscriptionServer() as server, engine(server) as remote:
        (heard,) = await remote.recognize([Clip(b"fLaC", 0, 1000, "de", task="translate")])
    assert server.asked[1].startswith(b"POST /v1/audio/translations ")
    assert (heard.language, heard.translated_from) == ("en", "de")


async def test_a_batch_is_asked_for_a_few_at_a_time_and_comes_back_in_order():
    async with TranscriptionServer() as server, engine(server, remote_parallel=2) as remote:
        open_, server.asked[:] = asyncio.Event(), []
        server.always = lambda _: Reply(delay=open_)
        batch = asyncio.create_task(remote.recognize([Clip(b"fLaC", n * 1000, n * 1000 + 1000) for n in range(5)]))
        await eventually(lambda: len(server.asked) == 2)
        open_.set()
        assert [heard.words[0].start_ms for heard in await batch] == [0, 1000, 2000, 3000, 4000]


@pytest.mark.parametrize(
    "bad",
    [
        Reply(429, b"slow down", {"Retry-After": "0"}),
        Reply(503, b"", {"Retry-After": "0"}),
        Reply(500, b"<html>oops</html>"),
        Reply(502, b""),
        Reply(408, b""),
        Reply(declared=10_000),  # cut in the middle of the body
        Reply(body=b"not json at all"),
        Reply(body=b'{"text": 5}'),
        Reply(body=b"[" * 100_000),
        Reply(body=json.dumps(GOOD).encode().replace(b"0.9", b"1e999")),
        Reply(body=json.dumps(GOOD).encode().replace(b"0.9", b"NaN")),
        Reply(body=b'{"text": "\\ud800"}'),
        Reply(body=json.dumps({"text": "a " * (MAX_WORDS + 1)}).encode()),
        Reply(body=b" " * (MAX_ANSWER + 1)),
        Reply(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda reply: f"{reply.status}-{reply.body[:12]!r}-{reply.declared}",
)
async def test_what_may_pass_is_asked_again_and_then_heard(bad):
    async with TranscriptionServer([Reply(), bad]) as server, engine(server) as remote:
        (heard,) = await remote.recognize([CLIP])
        assert heard.text == "Ask not, what your country."
        assert len(server.asked) == 3


async def test_a_server_that_is_too_slow_is_given_up_after_three_tries():
    async with TranscriptionServer([Reply()]) as server, engine(server, remote_timeout_s=0.2) as remote:
        server.always = lambda _: Reply(delay=asyncio.Event())
        with pytest.raises(Unavailable, match=r"http://127.0.0.1:\d+/v1 (did not answer within|cannot be reached)"):
            await remote.recognize([CLIP])
        assert len(server.asked) == 4


async def test_a_server_that_fails_again_and_again_is_left_alone():
    async with TranscriptionServer([Reply()]) as server, engine(server) as remote:
        server.always = lambda _: Reply(500)
        for _ in range(3):
            with pytest.raises(Unavailable, match="answered 500"):
                await remote.recognize([CLIP])
        calls = len(server.asked)
        with pytest.raises(Unavailable, match=r"left alone for (119|120) s"):
            await remote.recognize([CLIP])
        assert len(server.asked) == calls


async def test_one_that_says_when_to_come_back_is_left_alone_until_then():
    """Far off: not waited for here, and not asked before."""
    async with (
        TranscriptionServer([Reply(), Reply(429, b"", {"Retry-After": "900"})]) as server,
        engine(server) as remote,
    ):
        with pytest.raises(Unavailable, match="too busy"):
            await remote.recognize([CLIP])
        with pytest.raises(Unavailable, match=r"left alone for (899|900) s"):
            await remote.recognize([CLIP])
        assert len(server.asked) == 2


def test_retry_after_is_seconds_or_a_date():
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert _retry_after("17") == 17
    assert 290 < _retry_after(format_datetime(later)) <= 300
    assert _retry_after("Fri, 13 Feb 2009 23:31:30 GMT") == 0
    assert [_retry_after(text) for text in ("", "soon", "-5")] == [None, None, None]


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, Misconfigured, "REMOTE_API_KEY"),
        (403, Misconfigured, "REMOTE_API_KEY"),
        (404, Misconfigured, "REMOTE_URL"),
        (302, Misconfigured, "REMOTE_URL"),
        (400, EngineRejected, "REMOTE_MODEL"),
        (413, EngineRejected, "does not take the segment"),
    ],
)
async def test_a_refusal_is_said_at_once_with_the_next_step(status, error, says):
    async with TranscriptionServer([Reply(), Reply(status, b"no")]) as server, engine(server) as remote:
        with pytest.raises(error, match=says):
            await remote.recognize([CLIP])
        assert len(server.asked) == 2


async def test_a_server_that_takes_nothing_is_found_out_when_it_is_tried_at_the_start():
    async with TranscriptionServer([Reply(400)]) as server:
        with pytest.raises(Misconfigured, match="REMOTE_MODEL"):
            await engine(server).__aenter__()
        server.always = lambda _: Reply(500)
        with pytest.raises(Unavailable, match="answered 500"):
            await engine(server).__aenter__()
    with pytest.raises(Unavailable, match="cannot be reached"):  # closed by now
        await engine(server_at(server.asked)).__aenter__()


def server_at(_asked) -> TranscriptionServer:
    """A place where nobody listens."""

    class Nobody(TranscriptionServer):
        url = "http://127.0.0.1:9/v1"

    return Nobody()


async def test_the_key_is_in_no_message_log_or_representation():
    with structlog.testing.capture_logs() as logs:
        async with TranscriptionServer([Reply()]) as server, engine(server) as remote:
            server.always = lambda _: Reply(401, KEY.encode())
            with pytest.raises(Misconfigured) as error:
                await remote.recognize([CLIP])
            server.always = lambda _: Reply(500, KEY.encode())
            with pytest.raises(Unavailable) as other:
                await remote.recognize([CLIP])
    seen = [
        str(error.value),
        repr(error.value),
        str(other.value),
        repr(remote._settings),
        repr(remote.options),
        str(logs),
    ]
    assert not any(KEY in text for text in seen)


async def test_a_password_in_the_url_is_used_and_not_shown():
    async with TranscriptionServer() as server:
        url = server.url.replace("//", f"//user:{KEY}@") + "?token=hidden"
        settings = EngineSettings(engine="remote", remote_url=url, _env_file=None)
        async with RemoteSpeech(settings) as remote:
            assert KEY not in str(remote.options)
            assert "hidden" not in str(remote.options)
    assert b"Authorization: Basic " in server.asked[0]


async def test_its_own_rate_is_kept():
    pace, loop = Pace(6000.0), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(11):
        await pace.turn()
    assert loop.time() - began >= 0.09  # ten gaps of 10 ms: never faster, however slow the machine
    await asyncio.wait_for(asyncio.gather(*(Pace(0.0).turn() for _ in range(1000))), 30)


async def test_as_a_link_of_a_chain_it_is_left_while_it_is_down_and_comes_back(tmp_path):
    async with TranscriptionServer([Reply(500)] * 3) as server:
        plan = Plan("tests.engine_targets:Told", {"name": "local", "folder": str(tmp_path)})
        local = Link("local", lambda _download: EngineProcess(lambda: plan, deadline_factor=1.0))
        far = Link("remote", lambda _download: engine(server), Breaker(rest_s=0.2))
        async with EngineChain([far, local]) as chain:
            assert chain.engine.name == "local"
            assert "answered 500" in chain.engine.reason
            await eventually(lambda: chain.engine.name == "remote")
            (heard,) = await chain.recognize([clip(tone(), 5000)])
            assert (heard.engine.name, heard.engine.degraded, heard.words[0].start_ms) == ("remote", False, 5000)
            server.always = lambda _: Reply(500)
            (heard,) = await chain.recognize([Clip(b"x", 0, 1000)])
            assert (heard.text, heard.engine.degraded) == ("local:x", True)


times = st.floats(allow_nan=False, allow_infinity=False)
words = st.lists(st.fixed_dictionaries({"word": st.text(max_size=9), "start": times, "end": times}), max_size=30)


@given(st.text(max_size=200), words, st.booleans())
def test_whatever_is_answered_every_word_of_the_text_lies_in_order_inside_the_clip(text, said, inside):
    stretches = [{"text": text[:20], "start": item["start"], "end": item["end"], "words": said} for item in said[:3]]
    made = {"text": text, "words": said if inside else None, "segments": stretches}
    found = words_of(Answer.model_validate(made), CLIP)
    assert in_order(found, CLIP.start_ms, CLIP.end_ms)
    assert "\x00" not in "".join(word.text for word in found)
    clean = "".join(" " if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 else c for c in text)
    assert [word.text for word in found] == clean.split()


def test_words_that_the_text_writes_another_way_lie_between_their_neighbours():
    said = [("it", 0.0, 0.1), ("costs", 0.1, 0.3), ("twenty", 0.3, 0.5), ("dollars", 0.5, 0.8), ("today", 0.8, 1.0)]
    made = {"text": "It costs $20, today!", "words": [{"word": w, "start": s, "end": e} for w, s, e in said]}
    found = words_of(Answer.model_validate(made), CLIP)
    assert [(word.text, word.start_ms - CLIP.start_ms, word.end_ms - CLIP.start_ms) for word in found] == [
        ("It", 0, 100),
        ("costs", 100, 300),
        ("$20,", 300, 800),
        ("today!", 800, 1000),
    ]


def test_without_word_times_the_segments_are_used_and_without_those_the_clip():
    stretch = {"text": "one two", "start": 0.5, "end": 1.0}
    by_segment = words_of(Answer.model_validate({"text": "one two", "segments": [stretch]}), CLIP)
    assert [word.start_ms for word in by_segment] == [60_500, 60_750]
    by_clip = words_of(Answer.model_validate({"text": "one two"}), CLIP)
    assert [word.start_ms for word in by_clip] == [60_000, 60_500]


@pytest.mark.parametrize(
    ("said", "meant"), [("english", "en"), ("German", "de"), ("pt-BR", "pt-BR"), ("<b>", ""), ("", "")]
)
def test_a_language_is_known_by_name_and_by_code(said, meant):
    assert code(said) == meant
