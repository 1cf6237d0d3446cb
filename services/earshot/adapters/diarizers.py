"""Whether voices are told apart, and by what: pyannote.audio in a process of its own, or nothing, saying so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import astuple
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.adapters import hub, models, scratch
from earshot.adapters.decoder import DecoderLimits
from earshot.adapters.isolated import Isolated
from earshot.adapters.waveform import WaveformDecoder
from earshot.kernel.errors import EarshotError, LimitExceeded, Misconfigured, Permanent, Unavailable
from earshot.kernel.events import Engine, Turn
from earshot.kernel.ports.speakers import Diarized, SpeakerCount
from earshot.kernel.settings import config, load

INSTALL = "pip install 'earshot[diarization]'"
BASE_DEADLINE_S = 120.0
START_DEADLINE_S = 300.0  # importing PyTorch from a slow disk, and loading the pipeline
_COUNT = itertools.count()


class DiarizerEngineSettings(BaseSettings):
    """``EARSHOT_DIARIZER__…``: which engine, which model, and what a recording may cost."""

    model_config = config("DIARIZER__")

    engine: Literal["auto", "pyannote", "off", "simulated"] = Field(
        "auto",
        description="auto: pyannote.audio when it is installed and its model is at hand, else off. pyannote: nothing "
        "is done without it. off: nobody looks for speakers. simulated: made-up turns, for load tests.",
    )
    model: str = Field(
        "pyannote/speaker-diarization-community-1",
        description="A pipeline for pyannote.audio 4: owner/name on the hub, or its folder. Loading one runs its code.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda when there is one.")
    threads: int = Field(0, ge=0, description="Of PyTorch on a CPU. 0: PyTorch decides.")
    max_hours: float = Field(
        4.0,
        gt=0,
        le=24,
        description="Longest recording: all of it is in memory, with what is known of it about 1 GB for four hours, "
        "and telling many voices apart takes several more.",
    )
    max_bytes: int = Field(8 * 2**30, ge=1, description="Largest file.")
    decoder_memory_mb: int = Field(768, ge=256, description="Memory of the process that decodes, in MiB (Linux).")
    deadline_factor: float = Field(
        3.0, gt=0, description="Seconds a recording may take for one of its own, beyond two minutes, until it is ended."
    )
    ffmpeg: str | None = Field(None, description="Binary for what PyAV refuses; unset: the one on PATH; empty: none.")


class DiarizerProcess:
    """A ``Diarizer``: enter it to start the engine. One that died is replaced by the next call.

    Args:
        settings: decide which engine, when the process is entered.

    Attributes:
        off: why nobody looks for speakers, and how to turn it on; empty when somebody does.
        engine: set on entering, unless it is off.
        options: likewise.
    """

    engine: Engine
    options: Mapping[str, Any]

    def __init__(self, settings: DiarizerEngineSettings) -> None:
        self.off = ""
        self._settings = settings
        self._child: Isolated | None = None
        limits = DecoderLimits(
            settings.max_bytes, settings.max_hours * 3600, settings.decoder_memory_mb * 2**20, parallel=1
        )
        self._decoder = WaveformDecoder(limits, ffmpeg=settings.ffmpeg)

    async def __aenter__(self) -> Self:
        """Start the engine, or learn why there is none.

        Raises:
            Misconfigured, Transient: pyannote is asked for by name, and cannot run, or not now.
        """
        try:
            await self._start()
        except EarshotError as error:
            await self.__aexit__(None, None, None)
            if self._settings.engine == "pyannote":
                if isinstance(error, Permanent):
                    raise Misconfigured(error.detail, next_step=error.next_step) from error
                raise
            self.off = str(error)
            structlog.get_logger().warning("diarization is off", reason=self.off)
        return self

    async def _start(self) -> None:
        settings = self._settings
        target, how = "earshot.adapters.simulated_diarizer:SimulatedDiarizer", list[Any]()
        if settings.engine != "simulated":
            folder = await asyncio.to_thread(find, settings)
            target, how = "earshot.adapters.pyannote:Pyannote", [str(folder), settings.model, settings.device]
            how.append(settings.threads)
        self._child = Isolated(target, *how, name="diarizer", start_deadline_s=START_DEADLINE_S)
        about = await self._child.call("describe", deadline_s=BASE_DEADLINE_S)
        self.engine, self.options = Engine(**about["engine"]), about["options"]
        structlog.get_logger().info("diarizer started", **self.engine.model_dump(), options=self.options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the engine's process."""
        if self._child is not None:
            await self._child.close()

    async def diarize(self, path: Path, count: SpeakerCount) -> Diarized:
        """The turns of a whole file. Raises ``NotAudio``, ``LimitExceeded``, ``UnitCrashed``."""
        assert self._child is not None, "enter the DiarizerProcess first"
        target = scratch.folder() / f"waveform-{next(_COUNT)}.s16"
        try:
            duration_ms = await self._decode(path, target)
            deadline_s = deadline(duration_ms / 1000, self._settings.deadline_factor)
            said = await self._child.call("diarize", str(target), *astuple(count), deadline_s=deadline_s)
        finally:
            await asyncio.to_thread(target.unlink, missing_ok=True)
        turns, exclusive = ([Turn(**turn) for turn in said[name]] for name in ("turns", "exclusive"))
        return Diarized(turns, exclusive, duration_ms)

    async def _decode(self, path: Path, target: Path) -> int:
        try:
            return await self._decoder.waveform(path, target)
        except LimitExceeded as error:
            raise LimitExceeded(
                f"Nobody looked for its speakers. {error.detail}",
                next_step="Raise EARSHOT_DIARIZER__MAX_HOURS where there is memory for it.",
            ) from error


def deadline(audio_s: float, factor: float) -> float:
    """Seconds that a recording of so many may take."""
    return BASE_DEADLINE_S + factor * audio_s


def longest(settings: DiarizerEngineSettings) -> float:
    """Seconds that any recording may take, with decoding and a start of the engine."""
    audio_s = settings.max_hours * 3600
    return START_DEADLINE_S + deadline(audio_s, settings.deadline_factor) + audio_s / 4


def find(settings: DiarizerEngineSettings) -> Path:
    """The folder of the pipeline. May ask the hub (3 s) and download it: call it in a thread.

    Raises:
        Misconfigured: it is switched off, or the engine is not installed.
        Unavailable: the pipeline is not on this disk and cannot be fetched.
        Permanent: code ``unknown_model``.
    """
    if settings.engine == "off":
        raise Misconfigured("It is switched off.", next_step="Set EARSHOT_DIARIZER__ENGINE to auto.")
    if find_spec("pyannote") is None or find_spec("pyannote.audio") is None:
        raise Misconfigured("pyannote.audio is not installed.", next_step=f"Install it: {INSTALL}")
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        return folder
    return _pulled(settings.model)


def _pulled(repository: str) -> Path:
    """The pipeline in the cache, downloaded when it is not there."""
    parcel = hub.Parcel(repository)
    found = hub.cached(parcel)
    if found is not None and (found / "config.yaml").is_file():
        return found
    endpoint = models.hub(load(models.ModelSettings))
    if endpoint is None or not hub.answers(endpoint):
        state = "EARSHOT_TRANSCRIBER__HUB is off" if endpoint is None else f"the model hub {endpoint} does not answer"
        raise Unavailable(
            "engine",
            f"The model {repository} is not on this disk, and {state}.",
            next_step="Set EARSHOT_DIARIZER__MODEL to a folder that has it, and start the diarizer again.",
        )
    folder = hub.download(parcel, endpoint, "start the diarizer again")
    if not (folder / "config.yaml").is_file():
        raise Permanent(f"{repository} is no pipeline for pyannote.audio: it has no config.yaml.", code="unknown_model")
    return folder
