"""Decoding in a process of its own: every kind of file, good and bad."""

import asyncio
import hashlib
import io
import os
import signal
import stat
import sys
import zipfile

import numpy as np
import psutil
import pytest

from earshot.adapters.decoder import DecoderLimits, IsolatedDecoder
from earshot.kernel.errors import BlobMissing, LimitExceeded, NotAudio, UnitCrashed
from earshot.kernel.ports import CutEnd
from tests.audio import EXAMPLES, JFK, RATE, encode, silence, speech, wav
from tests.waiting import eventually

DECODER = IsolatedDecoder(ffmpeg="")


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and returns its path."""

    def write(data: bytes, name: str = "upload"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


async def cut(path, decoder=DECODER):
    items = [item async for item in decoder.cut(path)]
    assert isinstance(items[-1], CutEnd)
    segments, end = items[:-1], items[-1]
    assert end.segments == len(segments)
    assert [s.index for s in segments] == list(range(len(segments)))
    return segments, end


def samples_of(segment):
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(segment.flac), dtype="int16")
    assert (rate, samples.ndim) == (RATE, 1)
    assert hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest() == segment.sha256
    assert (segment.end_ms - segment.start_ms) == pytest.approx(len(samples) / 16, abs=1)
    return samples


async def test_a_short_clip_passes_whole_and_unmodified():
    for path in sorted(EXAMPLES.glob("sense_and_sensibility/*.wav")):
        import soundfile

        [segment], end = await cut(path)
        assert (segment.start_ms, segment.end_ms) == (0, end.duration_ms)
        assert np.array_equal(samples_of(segment), soundfile.read(path, dtype="int16")[0])
        assert end.damage == ""


async def test_stereo_at_another_rate_becomes_mono_at_16_khz():
    [segment], end = await cut(JFK)
    assert (segment.start_ms, segment.end_ms, end.duration_ms) == (0, 11_000, 11_000)
    assert len(samples_of(segment)) == pytest.approx(11 * RATE, abs=16)


@pytest.mark.parametrize(("container", "codec", "rate"), [("flac", "flac", 44_100), ("mp3", "libmp3lame", 22_050)])
async def test_a_segment_that_is_cut_again_has_the_same_samples(file, container, codec, rate):
    """Whatever lies before it, in the middle and at the end, which is no whole millisecond."""
    said = speech()
    sound = np.concatenate([said[: 8 * RATE], silence(6), said[8 * RATE : 14 * RATE], silence(7), said[-6 * RATE : -5]])
    path = file(encode(sound, container, codec, rate=rate))
    segments, _ = await cut(path)
    assert len(segments) == 3
    for segment in segments:
        again = await DECODER.span(path, segment.start_ms, segment.end_ms)
        assert again == segment.flac


async def test_a_stretch_behind_the_end_of_a_recording_cannot_be_cut(file):
    with pytest.raises(LimitExceeded, match="ms long"):
        await DECODER.span(file(wav(speech())), 3_600_000, 3_610_000)


CONTAINERS = [
    ("wav", "pcm_s16le", RATE, None), ("wav", "pcm_u8", 8000, None), ("flac", "flac", 44_100, None),
    ("mp3", "libmp3lame", 44_100, None), ("ogg", "libopus", 48_000, None), ("ogg", "flac", 44_100, None),
    ("mp4", "aac", 44_100, None), ("webm", "libopus", 48_000, None), ("mpegts", "aac", 48_000, None),
    ("mp4", "aac", 48_000, "libx264"), ("matroska", "libopus", 48_000, "mpeg4"), ("adts", "aac", 22_050, None),
    ("aiff", "pcm_s16be", RATE, None), ("caf", "pcm_s16le", RATE, None), ("au", "pcm_mulaw", 8000, None),
]  # fmt: skip


@pytest.mark.parametrize(("container", "codec", "rate", "video"), CONTAINERS)
async def test_containers_and_codecs_are_found_by_content(file, container, codec, rate, video):
    path = file(encode(speech()[: 4 * RATE], container, codec, rate=rate, video=video), "lecture.txt")
    found = await DECODER.probe(path)
    assert codec.removeprefix("lib").removesuffix("lame") in found.codec
    segments, end = await cut(path)
    assert end.duration_ms == pytest.approx(4000, abs=120)
    assert end.damage == ""
    heard = np.concatenate([samples_of(s) for s in segments]).astype(float)
    wanted = speech()[: len(heard)].astype(float)
    lag = np.argmax(np.correlate(heard[: 2 * RATE], wanted[: 2 * RATE - 2000], "valid"))
    assert lag < 1600, "the sound is shifted by more than 0.1 s"


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("a.wav", b"RIFF")
    return buffer.getvalue()


NOT_AUDIO = [
    (b"", "an empty file"), (b"Dear Sir, " * 500, "text"), ("Grüße".encode() * 900, "text"),
    (b"%PDF-1.7\n" + bytes(range(256)) * 20, "a PDF document"), (archive(), "a ZIP archive"),
    (b"\x89PNG\r\n\x1a\n" + b"\x00" * 500, "a PNG image"), (b"\xff\xd8\xff\xe0" + b"\x00" * 500, "a JPEG image"),
    (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "a playlist"),
    (b"<!DOCTYPE html><html>", "a web page"), (b'{"a": 1}', "a JSON document"),
    (np.random.default_rng(5).bytes(5000), "unknown data"), (wav(silence(0)), "no samples"),
    (b"RIFF\x00\x00\x00\x00WAVE", "damaged or incomplete"), (b"\x00" * 5000, "unknown data"),
    (b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n", "a session description"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "found"), NOT_AUDIO, ids=[found for _, found in NOT_AUDIO])
async def test_what_is_not_audio_is_refused_and_named(file, data, found):
    path = file(data, "speech.wav")
    with pytest.raises(NotAudio, match=found):
        await DECODER.probe(path)
    with pytest.raises(NotAudio, match=found):
        await cut(path)


async def test_a_video_without_sound_is_refused_and_named(file):
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(NotAudio, match="matroska without an audio track"):
        await DECODER.probe(file(buffer.getvalue()))


@pytest.mark.parametrize(
    "playlist",
    ["ffconcat version 1.0\nfile {0}\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n"],
)
async def test_lists_that_name_other_files_open_none_of_them(file, playlist):
    """The file they name is sound and lies beside them, so opening it would succeed."""
    file(JFK.read_bytes(), "jfk.flac")
    with pytest.raises(NotAudio):
        await DECODER.probe(file(playlist.format("jfk.flac").encode(), "list"))


async def test_silence_is_a_recording_without_segments(file):
    segments, end = await cut(file(wav(silence(7))))
    assert (segments, end.duration_ms, end.segments, end.damage) == ([], 7000, 0, "")


@pytest.mark.parametrize(("container", "codec"), [("flac", "flac"), ("mp3", "libmp3lame"), ("wav", "pcm_s16le")])
async def test_of_a_truncated_file_the_beginning_is_kept(file, container, codec):
    data = encode(speech()[: 10 * RATE], container, codec)
    if container == "wav":
        data = wav(speech()[: 10 * RATE])
    path = file(data[: len(data) // 2])
    await DECODER.probe(path)
    segments, end = await cut(path)
    assert end.duration_ms == pytest.approx(5000, abs=900)
    assert segments
    if container != "mp3":  # which announces nothing to compare with
        assert "before the end it announces" in end.damage or "do not decode" in end.damage


@pytest.mark.parametrize(("container", "codec"), [("flac", "flac"), ("mp4", "aac")])
async def test_of_a_file_that_is_garbled_in_the_middle_the_rest_is_kept_in_its_place(file, container, codec):
    data = bytearray(encode(speech()[: 20 * RATE], container, codec))
    middle = len(data) // 2
    data[middle : middle + 10_000] = np.random.default_rng(3).bytes(10_000)
    segments, end = await cut(file(bytes(data)))
    assert end.duration_ms == pytest.approx(20_000, abs=500)
    assert segments[-1].end_ms > 17_000
    if container == "mp4":  # FLAC's own parser skips what is garbled without a word
        assert "do not decode" in end.damage


async def test_limits_of_size_and_duration_are_kept(file):
    path = file(wav(silence(10)))
    small = IsolatedDecoder(DecoderLimits(max_bytes=1000), ffmpeg="")
    short = IsolatedDecoder(DecoderLimits(max_duration_s=5), ffmpeg="")
    for decoder in (small, short):
        with pytest.raises(LimitExceeded):
            await decoder.probe(path)
        with pytest.raises(LimitExceeded):
            await cut(path, decoder)


async def test_a_bomb_is_stopped_at_the_limit(file):
    """A silent minute and a half that announces no duration is stopped on the way; so is what takes too long."""
    unannounced = encode(silence(90), "adts", "aac", rate=8000)
    with pytest.raises(LimitExceeded, match="longer than the limit"):
        await cut(file(unannounced), IsolatedDecoder(DecoderLimits(max_duration_s=30), ffmpeg=""))
    costly = IsolatedDecoder(DecoderLimits(cpu_base_s=1, bytes_per_cpu_s=10**9), ffmpeg="")
    with pytest.raises(LimitExceeded, match="CPU time"):
        await cut(file(wav(np.tile(speech(), 40))), costly)


async def test_the_decoder_killed_in_the_middle_is_a_crash_and_leaves_no_process(file):
    """Its segments so far are out; the next file is decoded as if nothing had been."""
    path = file(wav(np.tile(speech(), 8)))
    items = DECODER.cut(path)
    await anext(items)
    [child] = [p for p in psutil.Process().children() if "isolated_child" in " ".join(p.cmdline())]
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(UnitCrashed, match="SIGKILL"):
        async for _ in items:
            pass
    assert not psutil.pid_exists(child.pid)
    await DECODER.probe(JFK)


async def test_a_file_that_is_erased_while_it_is_decoded_is_missing_not_a_crash(file):
    """A crash is tried again, and its reason shown, of a recording that is not there any more."""
    path = file(wav(np.tile(speech(), 8)))
    items = DECODER.cut(path)
    await anext(items)
    path.unlink()
    [child] = [p for p in psutil.Process().children() if "isolated_child" in " ".join(p.cmdline())]
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(BlobMissing):
        async for _ in items:
            pass


async def test_a_decoder_that_hangs_is_stopped_at_its_deadline(file, tmp_path):
    """A stand-in for the binary that never answers; it goes with the process that started it."""
    binary, pid = tmp_path / "ffmpeg", tmp_path / "pid"
    binary.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    binary.chmod(0o755)
    decoder = IsolatedDecoder(DecoderLimits(probe_deadline_s=3), ffmpeg=str(binary))
    with pytest.raises(LimitExceeded, match="did not answer within 3 s"):
        await decoder.probe(file(b"\x01exotic" * 100))
    await eventually(lambda: not psutil.pid_exists(int(pid.read_text())))


async def test_a_file_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(BlobMissing):
        await DECODER.probe(tmp_path / "none")


async def test_a_hole_in_the_timestamps_is_silence_so_times_stay_true(file):
    """As a recorder writes it that pauses: 4 s of speech, a hole of 10 s, 4 s of speech."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start, at in ((0, 0), (4 * RATE, 14 * RATE)):
            frame = av.AudioFrame.from_ndarray(speech()[None, start : start + 4 * RATE], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    segments, end = await cut(file(buffer.getvalue()))
    assert end.duration_ms == pytest.approx(18_000, abs=100)
    assert segments[-1].end_ms == end.duration_ms


async def test_what_pyav_refuses_is_tried_with_ffmpeg(file, tmp_path):
    """A stand-in for the binary that writes 3 s of samples, whatever it is given."""
    binary = tmp_path / "ffmpeg"
    log = tmp_path / "arguments"
    pcm = tmp_path / "pcm"
    pcm.write_bytes(speech()[: 3 * RATE].tobytes())
    binary.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(log)!r}, 'w').write(' '.join(sys.argv))\n"
        f"sys.stdout.buffer.write(open({str(pcm)!r}, 'rb').read())\n"
    )
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    decoder = IsolatedDecoder(ffmpeg=str(binary))
    [segment], end = await cut(file(b"\x01exotic" * 100), decoder)
    assert end.duration_ms == 3000
    assert np.array_equal(samples_of(segment), speech()[: 3 * RATE])
    arguments = await asyncio.to_thread(log.read_text)
    assert "-protocol_whitelist file " in arguments
    assert "-format_whitelist aac," in arguments
    with pytest.raises(NotAudio):  # and a binary that is not there is no other error
        await IsolatedDecoder(ffmpeg=str(tmp_path / "none")).probe(file(b"\x01exotic" * 100))


async def test_memory_stays_flat_however_long_the_recording(file):
    """Five minutes of speech; the limit is far below what its samples and segments would need if they were kept."""
    path = file(wav(np.tile(speech(), 13)))
    peak = 0
    async for _ in DECODER.cut(path):
        for process in psutil.Process().children():
            peak = max(peak, process.memory_info().rss)
    assert 0 < peak < 400 * 2**20
