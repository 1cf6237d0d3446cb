"""A whole recording as samples on disk: what an engine needs that must hear all of it at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from earshot.adapters.cutter import RATE
from earshot.adapters.decode_child import SIGN_OF_LIFE_S, DecodeChild
from earshot.adapters.decoder import SILENCE_LIMIT_S, IsolatedDecoder
from earshot.adapters.isolated import CPU_LIMIT, MEMORY_LIMIT


class WaveformChild(DecodeChild):
    """The decoder's side of the process boundary."""

    def waveform(self, path: str, target: str) -> Iterator[dict[str, int]]:
        """Write 16 kHz mono 16-bit little-endian samples to ``target``; signs of life, then the duration."""
        _, blocks = self._open(Path(path))
        count, told = 0, time.monotonic()
        with Path(target).open("wb") as file:
            for block in blocks:
                count += len(block)
                self._check(count)
                file.write(block.astype("<i2").tobytes())
                if time.monotonic() - told > SIGN_OF_LIFE_S:
                    told = time.monotonic()
                    yield {"decoded_ms": count * 1000 // RATE}
        yield {"duration_ms": count * 1000 // RATE}


class WaveformDecoder(IsolatedDecoder):
    """Decodes to a file, in constant memory and within the limits of every decoder."""

    target = f"{__name__}:WaveformChild"

    async def waveform(self, path: Path, target: Path) -> int:
        """Write the samples of ``path`` to ``target``; return the duration in ms.

        Raises:
            NotAudio: nothing decodes.
            LimitExceeded: longer than allowed, or the decoder ran out of its limits.
            UnitCrashed: the decoder died or hung.
        """
        last: dict[str, Any] = {}
        async with (
            self._child(path, CPU_LIMIT, MEMORY_LIMIT) as child,
            aclosing(child.stream("waveform", str(path), str(target), deadline_s=SILENCE_LIMIT_S)) as items,
        ):
            async for item in items:
                last = item
        return int(last["duration_ms"])
