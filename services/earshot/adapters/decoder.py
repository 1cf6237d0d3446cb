"""Decoding and cutting in a process of its own, one for each file: hostile input ends with it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from earshot.adapters.isolated import CPU_LIMIT, DEADLINE, MEMORY_LIMIT, Isolated, Limits
from earshot.kernel.errors import BlobMissing, LimitExceeded, UnitCrashed
from earshot.kernel.events import Quality
from earshot.kernel.ports import CutEnd, CutSegment, Probe

TARGET = "earshot.adapters.decode_child:DecodeChild"
SILENCE_LIMIT_S = 120.0  # the child speaks every 5 s; one that does not hangs
# Measured: a CPU second decodes nearly 400 s of speech and finds the pauses in it. In FLAC, silence packs into 220
# bytes a second, so a CPU second for 2,000 bytes leaves even that many times what it needs.
DURATION_PER_CPU_S = 4
SPAN_DEADLINE_S = 300.0  # at nearly 400 s of sound a second, enough for the end of a recording of a day


@dataclass(frozen=True)
class DecoderLimits:
    """What one file may cost.

    Attributes:
        max_bytes: of the file.
        max_duration_s: of what it decodes to.
        memory_bytes: of the process.
        cpu_base_s: CPU seconds for any file.
        bytes_per_cpu_s: one more CPU second for each so many bytes of it.
        probe_deadline_s: for opening a file and decoding its first samples.
        parallel: processes at once.
    """

    max_bytes: int = 8 * 2**30
    max_duration_s: float = 24 * 3600
    memory_bytes: int = 768 * 2**20
    cpu_base_s: int = 60
    bytes_per_cpu_s: int = 2000
    probe_deadline_s: float = 30.0
    parallel: int = 2

    def cpu_s(self, size: int) -> int:
        """CPU seconds for a file of so many bytes: in proportion, and never more than the longest recording needs."""
        return self.cpu_base_s + int(min(size / self.bytes_per_cpu_s, self.max_duration_s / DURATION_PER_CPU_S))


class IsolatedDecoder:
    """A :class:`~earshot.kernel.ports.Decoder` on PyAV, and the ``ffmpeg`` binary for what PyAV refuses.

    Args:
        limits: of each file.
        ffmpeg: path of the binary; ``None``: the one on PATH, if there is one; empty: none.
    """

    target = TARGET

    def __init__(self, limits: DecoderLimits | None = None, *, ffmpeg: str | None = None) -> None:
        self._limits = limits or DecoderLimits()
        self._ffmpeg = (shutil.which("ffmpeg") or "") if ffmpeg is None else ffmpeg
        self._slots = asyncio.Semaphore(self._limits.parallel)

    async def probe(self, path: Path) -> Probe:
        """Decode the beginning to find out what it is. Raises ``NotAudio``, ``LimitExceeded``, ``UnitCrashed``."""
        async with self._child(path, CPU_LIMIT, MEMORY_LIMIT, DEADLINE) as child:
            found = await child.call("probe", str(path), deadline_s=self._limits.probe_deadline_s)
        return Probe(**found)

    async def cut(self, path: Path) -> AsyncIterator[CutSegment | CutEnd]:
        """Decode as a stream and yield segments as they are cut, then one ``CutEnd``.

        Raises:
            NotAudio: nothing decodes.
            LimitExceeded: longer than allowed, or the decoder ran out of its limits.
            BlobMissing: the file is gone: its recording was erased.
            UnitCrashed: the decoder died or hung.
        """
        async with (
            self._child(path, CPU_LIMIT, MEMORY_LIMIT) as child,
            aclosing(child.stream("cut", str(path), deadline_s=SILENCE_LIMIT_S)) as items,
        ):
            async for item in items:
                if "flac" in item:
                    yield CutSegment(**item)
                elif "segments" in item:
                    yield CutEnd(**(item | {"quality": Quality(**item["quality"])}))

    async def span(self, path: Path, start_ms: int, end_ms: int) -> bytes:
        """The samples between two moments, as FLAC: those of a segment that was cut there.

        Raises:
            NotAudio: nothing decodes.
            LimitExceeded: the recording is shorter, or the decoder ran out of its limits.
            BlobMissing: the file is gone.
            UnitCrashed: the decoder died or hung.
        """
        async with self._child(path, CPU_LIMIT, MEMORY_LIMIT) as child:
            flac: bytes = await child.call("span", str(path), start_ms, end_ms, deadline_s=SPAN_DEADLINE_S)
        return flac

    @asynccontextmanager
    async def _child(self, path: Path, *reasons: str) -> AsyncIterator[Isolated]:
        """A process for one file, within limits for its size; a crash for one of the reasons is the file's fault."""
        limits = self._limits
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
        except FileNotFoundError:
            raise BlobMissing(f"There is no file at {path}.") from None
        child = Isolated(
            self.target, limits.max_bytes, limits.max_duration_s, self._ffmpeg,
            name="decoder", limits=Limits(limits.memory_bytes, limits.cpu_s(size)),
        )  # fmt: skip
        async with self._slots:
            try:
                yield child
            except UnitCrashed as crash:
                if crash.code in reasons:
                    raise LimitExceeded(crash.detail, next_step="Convert it to FLAC or WAV and try again.") from crash
                if not await asyncio.to_thread(path.exists):
                    raise BlobMissing("The file was taken away while it was decoded.") from crash
                raise
            finally:
                await child.close()
