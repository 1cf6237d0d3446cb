"""A speech engine in a process of its own, behind the kernel's ``Recognizer``."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from earshot.adapters.isolated import Isolated
from earshot.kernel.events import Engine, Word
from earshot.kernel.ports import Clip, Recognized

BASE_DEADLINE_S = 15.0
START_DEADLINE_S = 180.0  # hashing and loading 3 GB of weights from a slow disk


class SpeechEngine(Protocol):
    """What runs in the child: synchronous, one call at a time."""

    @property
    def engine(self) -> Engine:
        """Who it is."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option that changes the text."""

    def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order."""


@dataclass(frozen=True)
class Plan:
    """How to make an engine in its process.

    Attributes:
        target: ``package.module:Class`` of a :class:`SpeechEngine`.
        arguments: of its constructor, plain values.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Served:
    """The child's side: an engine that speaks plain values."""

    def __init__(self, target: str, arguments: Mapping[str, Any]) -> None:
        module, _, name = target.partition(":")
        self._engine: SpeechEngine = getattr(importlib.import_module(module), name)(**arguments)

    def describe(self) -> dict[str, Any]:
        """Who it is and which options it runs with."""
        return {"engine": self._engine.engine.model_dump(), "options": dict(self._engine.options)}

    def recognize(self, clips: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One result a clip, in order."""
        return [
            {
                "text": heard.text,
                "words": [word.model_dump() for word in heard.words],
                "language": heard.language,
                "engine": heard.engine.model_dump(),
            }
            for heard in self._engine.recognize([Clip(**clip) for clip in clips])
        ]


class EngineProcess:
    """A ``Recognizer``: enter it to start the engine and learn who it is. One that died is replaced by the next call.

    Args:
        plan: decides which engine, when the process is entered; may block (it runs in a thread).
        deadline_factor: seconds a call may take for one second of audio, on top of ``BASE_DEADLINE_S``.

    Attributes:
        engine: set on entering.
        options: set on entering.
    """

    engine: Engine
    options: Mapping[str, Any]

    def __init__(self, plan: Callable[[], Plan], *, deadline_factor: float) -> None:
        self._plan = plan
        self._deadline_factor = deadline_factor
        self._child: Isolated | None = None

    @property
    def pid(self) -> int | None:
        """The engine's process, ``None`` while there is none."""
        return self._child.pid if self._child is not None else None

    async def __aenter__(self) -> Self:
        """Start the engine. Raises ``Misconfigured`` when there is none that could run, ``UnitCrashed``."""
        plan = await asyncio.to_thread(self._plan)
        self._child = Isolated(
            f"{__name__}:Served", plan.target, dict(plan.arguments),
            name="speech engine", start_deadline_s=START_DEADLINE_S,
        )  # fmt: skip
        try:
            about = await self._child.call("describe", deadline_s=BASE_DEADLINE_S)
        except BaseException:
            await self._child.close()
            raise
        self.engine, self.options = Engine(**about["engine"]), about["options"]
        structlog.get_logger().info("speech engine started", **self.engine.model_dump(), options=self.options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the engine's process."""
        if self._child is not None:
            await self._child.close()

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order. Raises ``EngineRejected``, ``NotAudio``, ``UnitCrashed``."""
        assert self._child is not None, "enter the EngineProcess first"
        audio_s = sum(clip.end_ms - clip.start_ms for clip in clips) / 1000
        deadline_s = deadline(audio_s, self._deadline_factor)
        heard = await self._child.call("recognize", [asdict(clip) for clip in clips], deadline_s=deadline_s)
        return [_recognized(item) for item in heard]


def deadline(audio_s: float, factor: float) -> float:
    """Seconds that a call with so much audio may take."""
    return BASE_DEADLINE_S + factor * audio_s


def _recognized(plain: Mapping[str, Any]) -> Recognized:
    words = [Word(**word) for word in plain["words"]]
    return Recognized(plain["text"], words, plain["language"], Engine(**plain["engine"]))
