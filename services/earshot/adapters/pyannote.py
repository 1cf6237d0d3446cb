"""The engine that tells voices apart: pyannote.audio with a pipeline that is on this disk. Makes no network call.

It reports the duration of every file to its makers unless it is told not to before it is imported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from earshot.kernel.errors import Misconfigured

NAME = "pyannote.audio"
QUIET = {"PYANNOTE_METRICS_ENABLED": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
RATE = 16_000
LEAST_S = 0.1
"""Nobody is told apart in less sound."""
WARM_UP_S = 10
"""The window of pyannote's segmentation models."""
_FULL_SCALE = 32768.0


class Pyannote:
    """Lives in the engine's process.

    Args:
        folder: of the pipeline: ``config.yaml`` and what it names.
        model: what a person calls it.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is a card.
        threads: of PyTorch on a CPU; 0: PyTorch decides.

    Raises:
        Misconfigured: the pipeline cannot be loaded.
    """

    def __init__(self, folder: str, model: str, device: str, threads: int) -> None:
        os.environ.update(QUIET)  # read when the package is imported
        import torch  # type: ignore[import-not-found,unused-ignore]  # comes with pyannote.audio
        from pyannote.audio import Pipeline  # type: ignore[import-not-found,unused-ignore]  # of an extra
        from pyannote.audio.telemetry.metrics import is_metrics_enabled  # type: ignore[import-not-found,unused-ignore]

        if is_metrics_enabled():
            raise Misconfigured("pyannote.audio would report what is done with it, although it was told not to.")
        if threads:
            torch.set_num_threads(threads)
        where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            pipeline = Pipeline.from_pretrained(folder)
            assert pipeline is not None, "from_pretrained gives nothing only for names on a hub"
            self._pipeline = pipeline.to(torch.device(where))
        except Exception as error:  # whatever a library makes of a wrong folder
            raise Misconfigured(
                f"pyannote.audio cannot load {folder} on {where}: {type(error).__name__}: {error}"[:500],
                next_step="Set EARSHOT_DIARIZER__MODEL to the folder of a whole pipeline for pyannote.audio 4.",
            ) from error
        self._about = {
            "engine": {"name": NAME, "model": model, "digest": _digest(Path(folder)), "device": where},
            "options": {NAME: version(NAME), "torch": version("torch")},
        }
        self._apply(torch.zeros(1, WARM_UP_S * RATE), {})

    def describe(self) -> dict[str, Any]:
        """Who it is, and what else changes the turns."""
        return self._about

    def diarize(self, path: str, exactly: int, at_least: int, at_most: int) -> dict[str, Any]:
        """Turns, with overlap and without, of 16 kHz mono 16-bit samples in a file. 0 speakers: not known.

        The whole file is in memory meanwhile, as 4 bytes a sample: 230 MB an hour.
        """
        import numpy as np
        import torch

        samples = np.fromfile(path, dtype="<i2")
        if len(samples) < LEAST_S * RATE:
            return {"turns": [], "exclusive": []}
        waveform = torch.from_numpy(samples.astype(np.float32) / _FULL_SCALE)[None]
        del samples
        wanted = {"num_speakers": exactly, "min_speakers": at_least, "max_speakers": at_most}
        output = self._apply(waveform, {name: number for name, number in wanted.items() if number})
        overlapping = getattr(output, "speaker_diarization", output)  # older pipelines give this alone
        duration_ms = waveform.shape[1] * 1000 // RATE
        exclusive = getattr(output, "exclusive_speaker_diarization", None)
        return {
            "turns": _turns(overlapping.itertracks(yield_label=True), duration_ms),
            "exclusive": [] if exclusive is None else _turns(exclusive.itertracks(yield_label=True), duration_ms),
        }

    def _apply(self, waveform: Any, wanted: dict[str, int]) -> Any:
        return self._pipeline({"waveform": waveform, "sample_rate": RATE}, **wanted)


def _turns(tracks: Iterable[Any], duration_ms: int) -> list[dict[str, Any]]:
    """Turns in order of start, inside the recording, none of them empty."""
    turns = []
    for stretch, _, label in tracks:
        start, end = (min(max(round(seconds * 1000), 0), duration_ms) for seconds in (stretch.start, stretch.end))
        if end > start:
            turns.append({"speaker": str(label), "start_ms": start, "end_ms": end})
    return sorted(turns, key=lambda turn: (turn["start_ms"], turn["end_ms"], turn["speaker"]))


def _digest(folder: Path) -> str:
    """SHA-256 of every file of a pipeline, names included."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts):
        with path.open("rb") as file:
            whole.update(f"{path.relative_to(folder)}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
