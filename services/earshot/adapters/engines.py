"""Which speech engine does the work: the one that is asked for, or the next best, saying so."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import structlog
from pydantic import Field

from earshot.adapters import models
from earshot.adapters.engine_process import EngineProcess, Plan
from earshot.adapters.models import ModelSettings
from earshot.kernel.errors import EarshotError, Misconfigured

INSTALL = "pip install 'earshot[asr]'"


class EngineSettings(ModelSettings):
    """Which engine, which model, on which device."""

    engine: Literal["auto", "faster-whisper", "pocketsphinx", "simulated"] = Field(
        "auto",
        description="auto: faster-whisper when its model is at hand, else pocketsphinx. simulated: made-up words, for "
        "load tests.",
    )
    model: str = Field("auto", description="A name of `earshot models list`, owner/name, or a folder. auto: by device.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda when there is one.")
    compute_type: str = Field("auto", description="Of CTranslate2. auto: int8 on a CPU, float16 on a GPU.")
    cpu_threads: int = Field(0, ge=0, description="Of faster-whisper on a CPU. 0: CTranslate2 decides (at most 4).")
    deadline_factor: float = Field(
        5.0, gt=0, description="Seconds a call may take for one second of audio, beyond 15 s, until it is ended."
    )
    simulated_real_time_factor: float = Field(
        0.05, ge=0, description="Seconds the simulated engine takes for one second of audio."
    )


def recognizer(settings: EngineSettings) -> EngineProcess:
    """The engine that the settings lead to, not yet started: enter it."""
    return EngineProcess(partial(choose, settings), deadline_factor=settings.deadline_factor)


def choose(settings: EngineSettings) -> Plan:
    """Decide which engine does the work. May ask the hub (3 s) and download a model: call it in a thread.

    Raises:
        Misconfigured: no engine is installed.
    """
    if settings.engine == "simulated":
        factor = settings.simulated_real_time_factor
        return Plan("earshot.adapters.simulated:Simulated", {"real_time_factor": factor})
    if settings.engine == "pocketsphinx":
        return _fallback("EARSHOT_TRANSCRIBER__ENGINE asks for pocketsphinx; set it to auto for faster-whisper.")
    if find_spec("faster_whisper") is None:
        return _fallback(f"faster-whisper is not installed: {INSTALL}")
    where = device(settings)
    model = settings.model if settings.model != "auto" else {"cpu": "base", "cuda": "turbo"}[where]
    try:
        folder = models.pull(model, settings=settings)
    except EarshotError as error:
        return _fallback(f"faster-whisper has no model at hand. {error}")
    return _faster_whisper(settings, model, folder, where)


def device(settings: EngineSettings) -> Literal["cpu", "cuda"]:
    """Where faster-whisper runs."""
    if settings.device != "auto":
        return settings.device
    if settings.engine in ("pocketsphinx", "simulated") or find_spec("ctranslate2") is None:
        return "cpu"
    import ctranslate2

    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def _faster_whisper(settings: EngineSettings, model: str, folder: Path, where: Literal["cpu", "cuda"]) -> Plan:
    compute_type = settings.compute_type
    if compute_type == "auto":
        compute_type = {"cpu": "int8", "cuda": "float16"}[where]
    return Plan(
        "earshot.adapters.faster_whisper:FasterWhisper",
        {
            "model": model,
            "folder": str(folder),
            "device": where,
            "compute_type": compute_type,
            "cpu_threads": settings.cpu_threads,
        },
    )


def _fallback(reason: str) -> Plan:
    if find_spec("pocketsphinx") is None:
        raise Misconfigured(f"No speech engine can run. {reason}", next_step=f"Install the engines: {INSTALL}")
    structlog.get_logger().warning("pocketsphinx does the work", reason=reason)
    return Plan("earshot.adapters.pocketsphinx:PocketSphinx", {"reason": reason})
