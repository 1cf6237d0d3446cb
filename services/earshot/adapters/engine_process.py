"""A speech engine in a process of its own, behind the kernel's ``Recognizer``."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from earshot.adapters import flac
from earshot.adapters.isolated import Isolated
from earshot.kernel.errors import Misconfigured, OutOfMemory, UnitCrashed
from earshot.kernel.events import Engine, Word
from earshot.kernel.ports import Clip, Recognized

BASE_DEADLINE_S = 15.0
START_DEADLINE_S = 180.0  # hashing and loading 3 GB of weights from a slow disk
WARM_UP_DEADLINE_S = 60.0  # the first call on a GPU also loads and chooses kernels
WARM_UP_MS = 1000
_SHORT_OF_MEMORY = ("out of memory", "alloc_failed", "bad_alloc", "failed to allocate")
"""How CTranslate2, torch, cuBLAS and oneDNN say it, in lower case, in a plain ``RuntimeError``."""


class SpeechEngine(Protocol):
    """What runs in the child: synchronous, one call at a time. ``docs/engines.md`` says how to write one."""

    @property
    def engine(self) -> Engine:
        """Who it is. A result may have another ``degraded`` and ``reason``: what speaks against that result."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option that changes the text."""

    def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order. Raises ``Permanent`` for a clip that it cannot handle."""


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
        with _short_of_memory():
            self._engine: SpeechEngine = _class(target)(**arguments)

    def describe(self) -> dict[str, Any]:
        """Who it is and which options it runs with."""
        return {"engine": self._engine.engine.model_dump(), "options": dict(self._engine.options)}

    def warm_up(self) -> None:
        """Hear a second of nothing, so that the first segment does not wait for what is loaded on first use."""
        with _short_of_memory():
            self._engine.recognize([Clip(flac.silence(WARM_UP_MS / 1000), 0, WARM_UP_MS)])

    def recognize(self, clips: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One result a clip, in order."""
        with _short_of_memory():
            results = self._engine.recognize([Clip(**clip) for clip in clips])
        return [
            {
                "text": heard.text,
                "words": [word.model_dump() for word in heard.words],
                "language": heard.language,
                "engine": heard.engine.model_dump(),
                "translated_from": heard.translated_from,
            }
            for heard in results
        ]


@contextmanager
def _short_of_memory() -> Iterator[None]:
    """Make of every way to say that memory ran out the one that the kernel knows."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(hint in str(error).lower() for hint in _SHORT_OF_MEMORY):
            raise OutOfMemory(f"The speech engine ran out of memory: {str(error)[:200] or 'MemoryError'}") from error
        raise


def _class(target: str) -> Callable[..., SpeechEngine]:
    module, _, name = target.partition(":")
    try:
        found: Callable[..., SpeechEngine] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(
            f"The speech engine {target} cannot be imported: {error}",
            next_step="Install its package where the transcriber runs, or correct EARSHOT_TRANSCRIBER__CHAIN.",
        ) from None
    return found


class EngineProcess:
    """A ``Recognizer``: enter it to load the engine and warm it up. One that died is replaced by the next call.

    Args:
        plan: decides which engine, when the process is entered; may block (it runs in a thread).
        deadline_factor: seconds a call may take for one second of audio, on top of ``base_deadline_s``.
        base_deadline_s: seconds a call may take besides.

    Attributes:
        engine: set on entering.
        options: set on entering.
    """

    engine: Engine
    options: Mapping[str, Any]

    def __init__(
        self, plan: Callable[[], Plan], *, deadline_factor: float, base_deadline_s: float = BASE_DEADLINE_S
    ) -> None:
        self._plan = plan
        self._deadline_factor = deadline_factor
        self._base_deadline_s = base_deadline_s
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
            await self._child.call("warm_up", deadline_s=WARM_UP_DEADLINE_S)
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
        deadline_s = deadline(audio_s, self._deadline_factor, self._base_deadline_s)
        heard = await self._child.call("recognize", [asdict(clip) for clip in clips], deadline_s=deadline_s)
        if len(heard) != len(clips):
            raise UnitCrashed(f"The speech engine answered {len(heard)} results for {len(clips)} clips.")
        return [self._recognized(item) for item in heard]

    def _recognized(self, plain: Mapping[str, Any]) -> Recognized:
        words, engine = [Word(**word) for word in plain["words"]], Engine(**plain["engine"])
        note = "" if engine.reason == self.engine.reason else engine.reason.removesuffix(self.engine.reason).strip()
        text, spoken = plain["text"], plain["translated_from"]
        return Recognized(text, words, plain["language"], engine, self.options, note, spoken)


def deadline(audio_s: float, factor: float, base_s: float = BASE_DEADLINE_S) -> float:
    """Seconds that a call with so much audio may take."""
    return base_s + factor * audio_s
