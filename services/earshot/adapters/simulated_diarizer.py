"""An engine for tests without a model: two people who take turns of four seconds, whatever is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "simulated"
TURN_MS = 4000
BYTES_PER_MS = 32  # 16 kHz, 16 bit


class SimulatedDiarizer:
    """Lives in the engine's process."""

    def describe(self) -> dict[str, Any]:
        """Who it is."""
        reason = "Nobody listened: EARSHOT_DIARIZER__ENGINE is simulated, for load tests. Set it to auto."
        engine = {"name": NAME, "model": "none", "digest": "", "device": "cpu", "degraded": True, "reason": reason}
        return {"engine": engine, "options": {}}

    def diarize(self, path: str, _exactly: int, _at_least: int, _at_most: int) -> dict[str, Any]:
        """Turns over the whole of a file of samples; each runs 300 ms into the next."""
        end_ms = Path(path).stat().st_size // BYTES_PER_MS
        turns = [
            {
                "speaker": f"SPEAKER_{number % 2:02}",
                "start_ms": start_ms,
                "end_ms": min(start_ms + TURN_MS + 300, end_ms),
            }
            for number, start_ms in enumerate(range(0, end_ms, TURN_MS))
        ]
        return {"turns": turns, "exclusive": []}
