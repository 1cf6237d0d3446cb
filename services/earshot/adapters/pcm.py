"""Any sound file as a stream of 16 kHz mono 16-bit samples. Runs in the decoder's process only.

Nothing but the file itself is ever opened: the protocols are whitelisted, and so are the containers, because
playlists and lists (HLS, DASH, concat, SDP …) would make FFmpeg open what they name.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from earshot.adapters.audio_quality import AudioMeter
from earshot.adapters.cutter import RATE, Samples

# Containers that hold their own sound; names as FFmpeg's demuxers call themselves.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,loas,matroska,mov,mp3,mpc,mpc8,"
    "mpeg,mpegts,mxf,nut,ogg,oma,qcp,rm,sox,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
EXACT = frozenset({"wav", "flac", "mov", "matroska", "aiff", "ogg"})  # containers whose duration is no estimate
GAP_S = 0.25  # a clock that runs ahead by more has a hole in it, which is silence
MAX_GAP_S = 600.0  # one that jumps further is broken
BLOCK = 10 * RATE
NO_CONTAINER = "no container of sound"


class Refused(Exception):
    """This decoder makes nothing of the file; the message is a clause for a person."""


class Source(Protocol):
    """An opened file.

    Attributes:
        container: as FFmpeg names it.
        codec: of the audio stream.
        duration_ms: as the container says; ``None`` where it does not.
        damage: after the last sample: what was wrong with the file, empty when nothing was.
        meter: hears every frame as it was decoded.
    """

    container: str
    codec: str
    duration_ms: int | None
    damage: str
    meter: AudioMeter

    def samples(self) -> Iterator[Samples]:
        """Blocks of samples, none of them large, none of them empty."""


class PyavSource:
    """A :class:`Source` by PyAV. Raises ``Refused`` when it is no such file or has no audio stream."""

    def __init__(self, path: Path) -> None:
        import av

        self._errors: Any = av.error.FFmpegError
        try:
            self._file = av.open(f"file:{path}", options=OPTIONS, metadata_errors="replace")
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise Refused(NO_CONTAINER) from error
        stream = self._file.streams.best("audio")
        self.container = self._file.format.name.partition(",")[0]
        if stream is None or stream.codec_context is None:
            raise Refused(f"{self.container} without an audio track")
        self._stream = stream
        self.codec = stream.codec_context.name
        self.duration_ms = self._file.duration // 1000 if self._file.duration and self._file.duration > 0 else None
        self.damage = ""
        self._cut_off = _cut_off(path)
        self._bad_packets = 0
        self._resampler = _Resampler()
        self.meter = AudioMeter()

    def samples(self) -> Iterator[Samples]:
        """Blocks of samples. What does not decode is left out and told in ``damage``."""
        clock = _Clock((self._file.start_time or 0) / 1_000_000)
        count = 0
        for frame in self._frames():
            self.meter.frame(frame)
            for block in (*_silence(clock.gap(frame.time, count)), *self._resampler.push(frame)):
                count += len(block)
                yield block
        for block in self._resampler.flush():
            count += len(block)
            yield block
        self._judge(count)

    def _frames(self) -> Iterator[Any]:
        packets = self._file.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except MemoryError:
                raise
            except self._errors:
                self.damage = "it breaks off in the middle"
                return
            try:
                yield from packet.decode()
            except MemoryError:
                raise
            except self._errors:
                self._bad_packets += 1

    def _judge(self, count: int) -> None:
        """Say what was wrong, once everything has been read."""
        missing_ms = (self.duration_ms or 0) - count * 1000 // RATE
        if self._bad_packets:
            self.damage = f"{self._bad_packets} pieces of it do not decode"
        elif self._cut_off or (self.container in EXACT and missing_ms > 1000):
            self.damage = "it ends before the end it announces"


class FfmpegSource:
    """A :class:`Source` by the ``ffmpeg`` binary, for what PyAV refuses; within the same whitelists and limits."""

    def __init__(self, path: Path, binary: str) -> None:
        self.container = self.codec = "ffmpeg"
        self.duration_ms: int | None = None
        self.damage = ""
        self.meter = AudioMeter()
        command = [binary, "-nostdin", "-hide_banner", "-v", "error"]
        for name, value in OPTIONS.items():
            command += [f"-{name}", value]
        command += ["-i", f"file:{path}", "-map", "0:a:0", "-f", "s16le", "-ac", "1", "-ar", str(RATE), "pipe:1"]
        self._command = command

    def samples(self) -> Iterator[Samples]:
        """Blocks of samples, as ``ffmpeg`` writes them."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the binary is configured, the path is ours
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise Refused("ffmpeg does not start") from error
        assert process.stdout is not None
        try:
            while data := process.stdout.read(64 * 1024):
                block = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.int16)
                self.meter.resampled(block)
                yield block
            if process.wait() != 0:
                self.damage = "parts of it do not decode"
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


class _Resampler:
    """Frames of any format to 16 kHz mono; made anew when the format changes in the middle of a file."""

    def __init__(self) -> None:
        self._made: Any = None
        self._format: tuple[Any, ...] | None = None

    def push(self, frame: Any) -> list[Samples]:
        import av

        form = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        before = [] if form == self._format else self.flush()
        if self._made is None:
            self._made, self._format = av.AudioResampler(format="s16", layout="mono", rate=RATE), form
        frame.pts = None  # our own clock decides what is missing
        return before + _arrays(self._made.resample(frame))

    def flush(self) -> list[Samples]:
        if self._made is None:
            return []
        rest = _arrays(self._made.resample(None))
        self._made = self._format = None
        return rest


class _Clock:
    """Compares the container's clock with the samples so far."""

    def __init__(self, start_s: float) -> None:
        self._offset_s = start_s

    def gap(self, time_s: float | None, count: int) -> int:
        """How many samples are missing before a frame; a broken clock is set by the samples instead."""
        if time_s is None:
            return 0
        ahead_s = time_s - self._offset_s - count / RATE
        if GAP_S < ahead_s <= MAX_GAP_S:
            return round(ahead_s * RATE)
        if abs(ahead_s) > GAP_S:
            self._offset_s += ahead_s
        return 0


def _cut_off(path: Path) -> bool:
    """Whether a WAV file is shorter than its header says, which FFmpeg passes over. Streamed ones say 0 or all ones."""
    with path.open("rb") as file:
        head = file.read(12)
    announced = int.from_bytes(head[4:8], "little")
    is_wav = head[:4] == b"RIFF" and head[8:] == b"WAVE"
    return (
        is_wav and 0 < announced < 0xFFFFFF00 and announced + 8 > path.stat().st_size + 1
    )  # a pad byte may be missing


def _silence(count: int) -> Iterator[Samples]:
    for start in range(0, count, BLOCK):
        yield np.zeros(min(BLOCK, count - start), np.int16)


def _arrays(frames: list[Any]) -> list[Samples]:
    return [array for frame in frames if len(array := frame.to_ndarray().reshape(-1))]
