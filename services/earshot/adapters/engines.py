"""Which speech engines do the work: the chain that the settings describe, from best to last resort."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from earshot.adapters import models
from earshot.adapters.engine_chain import EngineChain
from earshot.adapters.engine_link import Link, StartedEngine
from earshot.adapters.engine_process import EngineProcess, Plan
from earshot.adapters.models import ModelSettings
from earshot.kernel.errors import Misconfigured, Unavailable

INSTALL = "pip install 'earshot[asr]'"
ON_CPU = ("base@cpu", "pocketsphinx")
ON_CUDA = ("large-v3@cuda", "turbo@cuda", "medium@cuda", *ON_CPU)
CUDA_PACE = 0.1  # of the time that a CPU may take: a batch is large, and one that hangs must not stay for hours
_DEVICE = re.compile(r"@(cpu|cuda)$")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LAST_RESORT = "pocketsphinx is the last resort: a much weaker recogniser, for English."
Device = Literal["cpu", "cuda", "remote"]


class EngineSettings(ModelSettings):
    """Which engines, which models, on which device."""

    engine: str = Field(
        "auto",
        pattern=rf"^(auto|faster-whisper|pocketsphinx|remote|simulated|{_CLASS.pattern})$",
        description="auto: the chain that suits the device. faster-whisper: the same. pocketsphinx, remote, or "
        "package.module:Class: that one alone. simulated: made-up words, for load tests.",
    )
    chain: str = Field(
        "",
        description="Engines from best to last resort, with commas, instead of the one above: MODEL@cuda or MODEL@cpu "
        "(faster-whisper), remote, package.module:Class, pocketsphinx. Empty: large-v3@cuda,turbo@cuda,medium@cuda,"
        "base@cpu,pocketsphinx, without those on CUDA where there is none.",
    )
    model: str = Field(
        "auto",
        description="Of faster-whisper, where no chain is set: a name of `earshot models list`, owner/name, or a "
        "folder; then pocketsphinx. auto: the chain that suits the device.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda when there is one. cuda: without one, what is done on a CPU is degraded."
    )
    compute_type: str = Field("auto", description="Of CTranslate2. auto: int8 on a CPU, float16 on a GPU.")
    cpu_threads: int = Field(0, ge=0, description="Of faster-whisper on a CPU. 0: CTranslate2 decides (at most 4).")
    batch_size: int = Field(16, ge=1, le=256, description="Segments that faster-whisper decodes at once.")
    deadline_factor: float = Field(
        5.0,
        gt=0,
        description="Seconds a call may take for one second of audio, beyond 15 s, until it is ended; a tenth on CUDA.",
    )
    remote_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Of the engine `remote`: an OpenAI-compatible server, up to and with its /v1.",
    )
    remote_model: str = Field("whisper-1", description="The model that the remote server is asked for.")
    remote_api_key: SecretStr = Field(SecretStr(""), description="Sent to the remote server as a bearer token.")
    remote_requests_per_minute: float = Field(0.0, ge=0, description="To the remote server, at most. 0: no limit.")
    remote_parallel: int = Field(4, ge=1, le=64, description="Requests to the remote server at once.")
    remote_timeout_s: float = Field(60.0, gt=0, description="Until a request to the remote server is given up.")
    simulated_real_time_factor: float = Field(
        0.05, ge=0, description="Seconds the simulated engine takes for one second of audio."
    )
    simulated_seconds: float = Field(0.0, ge=0, description="Seconds it takes for each clip besides, however short.")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> EngineSettings:
        if self.chain and (self.engine, self.model) != ("auto", "auto"):
            raise ValueError("chain says which engines there are; leave engine and model at auto, or chain empty")
        if not chain(self):
            raise ValueError("chain names no engine")
        if not self.remote_url and any(spec.name == "remote" for spec in chain(self)):
            raise ValueError("the engine remote needs remote_url")
        return self


@dataclass(frozen=True)
class Spec:
    """One engine as the settings write it: what it is, and where it runs."""

    name: str
    device: Device

    def __str__(self) -> str:
        """As a person reads it: ``base on cpu``, ``remote``."""
        return self.name if self.name in ("pocketsphinx", "remote", "simulated") else f"{self.name} on {self.device}"


def recognizer(settings: EngineSettings) -> EngineChain:
    """The engines that the settings lead to, not yet started: enter it."""
    specs = chain(settings)
    alone = len(specs) == 1
    return EngineChain([Link(str(spec), partial(_make, settings, spec, alone)) for spec in specs])


def chain(settings: EngineSettings) -> list[Spec]:
    """The engines, from best to last resort."""
    if settings.chain:
        return [_spec(text.strip(), _present(settings)) for text in settings.chain.split(",") if text.strip()]
    if settings.engine not in ("auto", "faster-whisper"):
        return [_spec(settings.engine, _present(settings))]
    if settings.model != "auto":
        return [_spec(settings.model, _present(settings)), _spec("pocketsphinx", "cpu")]
    return [_spec(text, "cpu") for text in {"cpu": ON_CPU, "cuda": ON_CUDA}[_present(settings)]]


def device(settings: EngineSettings) -> Device:
    """Where the best engine of the chain runs."""
    return chain(settings)[0].device


def _spec(text: str, where: Literal["cpu", "cuda"]) -> Spec:
    name = _DEVICE.sub("", text)
    if name == "remote":
        return Spec(name, "remote")
    if name in ("pocketsphinx", "simulated"):
        return Spec(name, "cpu")
    said = _DEVICE.search(text)
    return Spec(name, where if said is None else "cuda" if said[1] == "cuda" else "cpu")


def _present(settings: EngineSettings) -> Literal["cpu", "cuda"]:
    """The device this installation is meant to use. A card whose driver does not work counts as one: that is said."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if _cuda_devices() or Path("/dev/nvidiactl").exists() else "cpu"


def _cuda_devices() -> int:
    if find_spec("ctranslate2") is None:
        return 0
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count())


def _make(settings: EngineSettings, spec: Spec, alone: bool, download: bool) -> StartedEngine:
    """The engine of a link, not yet started."""
    if spec.name == "remote":
        from earshot.adapters.remote_speech import RemoteSpeech

        return RemoteSpeech(settings)
    plan = partial(_plan, settings, spec, alone=alone, download=download)
    pace = CUDA_PACE if spec.device == "cuda" else 1.0
    return EngineProcess(plan, deadline_factor=pace * settings.deadline_factor)


def _plan(settings: EngineSettings, spec: Spec, *, alone: bool, download: bool) -> Plan:
    """How to make an engine in its process. May ask the hub and download a model: runs in a thread.

    Raises:
        Misconfigured: it is not installed, or its device is not there.
        Unavailable: its model is not on this disk, and cannot be had now.
    """
    if spec.name == "simulated":
        pace = {"real_time_factor": settings.simulated_real_time_factor, "seconds": settings.simulated_seconds}
        return Plan("earshot.adapters.simulated:Simulated", pace)
    if spec.name == "pocketsphinx":
        _installed("pocketsphinx")
        asked = "EARSHOT_TRANSCRIBER__ENGINE asks for pocketsphinx; set it to auto for faster-whisper."
        return Plan("earshot.adapters.pocketsphinx:PocketSphinx", {"reason": asked if alone else _LAST_RESORT})
    if _CLASS.fullmatch(spec.name):
        folder = None if settings.model_dir is None else str(settings.model_dir)
        return Plan(spec.name, {"device": spec.device, "model_dir": folder})
    _installed("faster_whisper")
    if spec.device == "cuda" and not _cuda_devices():
        raise Misconfigured(
            "There is no CUDA device here that works.",
            next_step="Repair the driver, or set EARSHOT_TRANSCRIBER__DEVICE=cpu.",
        )
    return _faster_whisper(settings, spec, _folder(settings, spec, download=download))


def _installed(module: str) -> None:
    if find_spec(module) is None:
        raise Misconfigured(
            f"{module.replace('_', '-')} is not installed.", next_step=f"Install the engines: {INSTALL}"
        )


def _folder(settings: EngineSettings, spec: Spec, *, download: bool) -> Path:
    if download:
        return models.pull(spec.name, settings=settings)
    found = models.path(spec.name, settings)
    if found is None:
        raise Unavailable("engine", f"The model {spec.name} is not on this disk; it is fetched in the background.")
    return found


def _faster_whisper(settings: EngineSettings, spec: Spec, folder: Path) -> Plan:
    compute_type = settings.compute_type
    if compute_type == "auto":
        compute_type = "float16" if spec.device == "cuda" else "int8"
    return Plan(
        "earshot.adapters.faster_whisper:FasterWhisper",
        {
            "model": spec.name,
            "folder": str(folder),
            "device": spec.device,
            "compute_type": compute_type,
            "cpu_threads": settings.cpu_threads,
            "batch_size": settings.batch_size,
        },
    )
