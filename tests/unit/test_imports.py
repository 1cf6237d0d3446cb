"""Transcripts that come in, friendly and hostile."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.ingest.imports import read_transcript, segments_of
from earshot.kernel.errors import Permanent

COMMON = {"tenant": "t", "recording_id": "r"}
VTT = """WEBVTT

NOTE nobody needs this

1
00:00:01.000 --> 00:00:02.500 align:start
<v Ann>Good <b>morning</b> &amp; welcome

00:03.000 --> 00:04.000
<v.loud Ann>everyone.</v>

00:00:05.000 --> 00:00:07.000
<v Bob>Thanks. <v Ann>Sure.
"""


def shown(data: str) -> list[tuple[int, int, str | None, str]]:
    return [(s.start_ms, s.end_ms, s.speaker, s.text) for s in read_transcript(data.encode()).stretches]


def test_webvtt_joins_neighbours_of_one_speaker_and_parts_those_of_two():
    assert shown(VTT) == [
        (1000, 4000, "Ann", "Good morning & welcome everyone."),
        (5000, 6166, "Bob", "Thanks."),
        (6166, 7000, "Ann", "Sure."),
    ]


def test_words_of_joined_cues_keep_the_times_of_their_own_cue():
    words = read_transcript(VTT.encode()).stretches[0].words
    assert words is not None
    assert (words[0].text, words[0].start_ms) == ("Good", 1000)
    assert (words[-1].text, words[-1].start_ms, words[-1].end_ms) == ("everyone.", 3000, 4000)


def test_srt_with_windows_line_ends_and_a_byte_order_mark():
    srt = "\ufeff1\n00:00:00,000 --> 00:00:01,500\nHello\nthere\n\n2\n00:01:00,000 --> 00:01:02,000\nBye\n"
    assert shown(srt.replace("\n", "\r\n")) == [(0, 1500, None, "Hello there"), (60_000, 62_000, None, "Bye")]


def test_a_long_segment_is_cut_between_words_at_thirty_seconds():
    text = " ".join(f"word{number}" for number in range(100))
    stretches = read_transcript(
        json.dumps({"segments": [{"start_ms": 0, "end_ms": 95_000, "text": text}]}).encode()
    ).stretches
    assert len(stretches) >= 4
    assert all(s.end_ms - s.start_ms <= 30_000 for s in stretches)
    assert " ".join(s.text for s in stretches) == text


def test_json_as_exported_is_accepted_and_gaps_are_passed_over():
    word = {"text": "Hi", "start_ms": 5, "end_ms": 90, "confidence": 0.5, "speaker": None}
    transcript = {
        "recording_id": "x",
        "language": "en",
        "segments": [
            {
                "index": 0,
                "start_ms": 0,
                "end_ms": 100,
                "text": "Hi",
                "speaker": "A",
                "words": [word],
                "engine": {"name": "e"},
            },
            {"index": 1, "start_ms": 100, "end_ms": 200, "missing": True, "error": "no"},
        ],
    }
    read = read_transcript(json.dumps(transcript).encode())
    assert read.language == "en"
    (only,) = segments_of(read, COMMON)
    assert (only.index, only.text, only.speaker, only.engine.name) == (0, "Hi", "A", "import")
    assert only.words[0].model_dump() == word


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"just some text",
        b"{",
        b"[]",
        b'{"segments": "no"}',
        b'{"segments": [{"start_ms": -1, "end_ms": 5, "text": "x"}]}',
        b'{"segments": [{"start_ms": 0, "end_ms": 1e30, "text": "x"}]}',
        b'{"segments": [{"start_ms": 0, "end_ms": 5, "text": "\\ud800"}]}',
        b'{"segments": [{"start_ms": 0, "end_ms": 5, "text": "  "}]}',
        b'{"segments": [{"start_ms": NaN, "end_ms": 5, "text": "x"}]}',
        b"[" * 100_000,
        b"WEBVTT\n\n999:00:00.000 --> 999:00:01.000\nlate\n",
        b"1\n00:00:01,000 --> 00:00:02,000\n\n",
    ],
)
def test_what_is_no_transcript_is_refused_with_a_next_step(data):
    with pytest.raises(Permanent) as caught:
        read_transcript(data)
    assert caught.value.code == "bad_transcript"
    assert caught.value.next_step


_TIMINGS = ["00:00:01.000 --> 00:00:02.000", "00:00:01,000-->00:00:00,000"]
_MARKUP = ["WEBVTT", "<v A>", "<v ", "</v>", "<", "&lt;", "&#0;", "{", '{"segments":', "[", "]", "}"]
_PIECES = st.sampled_from([*_TIMINGS, *_MARKUP, "\n", "\n\n", "1", "\x00", "\u2028", "text", "word " * 40])


@given(st.lists(_PIECES | st.text(max_size=8), max_size=30).map("".join) | st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_read_within_the_limits_or_refused(given_text):
    data = given_text if isinstance(given_text, bytes) else given_text.encode("utf-8", "replace")
    try:
        events = segments_of(read_transcript(data), COMMON)
    except Permanent:
        return
    assert [event.index for event in events] == list(range(len(events)))
    for event in events:
        assert 0 <= event.start_ms <= event.end_ms <= event.start_ms + 30_000
        assert event.text.strip()
        assert not set(event.text) & set(map(chr, range(32)))


def test_a_hostile_cue_is_read_in_linear_time():
    hostile = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n" + "<v " * 300_000 + "<" * 300_000 + "x"
    assert read_transcript(hostile.encode()).stretches
