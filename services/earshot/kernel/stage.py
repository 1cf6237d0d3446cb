"""A stage: topics in, a verb, topics out, and what to do with work that was overtaken meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from earshot.kernel.codec import Record
from earshot.kernel.events import Event, StageProgressed
from earshot.kernel.gate import Judge, Verdict, judge
from earshot.kernel.topics import RECORDINGS_PROGRESS, Topic

E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True)
class Delivery(Generic[E_co]):
    """One event as it was delivered, with the record it came in."""

    event: E_co
    record: Record


@dataclass(frozen=True)
class Output:
    """One event to publish because of a delivery; ``event`` ``None`` deletes the key."""

    topic: Topic
    key: str
    event: Event | None
    cause: Delivery[Event]


@dataclass(frozen=True)
class Stale:
    """A delivery whose outputs were confirmed before the gate said no."""

    delivery: Delivery[Event]
    verdict: Verdict


Work = Callable[[Sequence[Delivery[Any]]], AsyncIterator[Output]]
Undo = Callable[[Sequence[Stale]], AsyncIterator[Output]]


@dataclass(frozen=True)
class BatchPolicy:
    """When a batch is full: by count, by seconds of audio, or by the age of its first event.

    Attributes:
        max_events: at most so many events.
        max_audio_s: at most so many seconds of audio; ``None``: not counted.
        max_age_s: how long the first event waits for company; 0: take what is there.
    """

    max_events: int = 1
    max_audio_s: float | None = None
    max_age_s: float = 0.0


async def never() -> bool:
    """For stages whose work has no end."""
    return False


async def undo_nothing(_stale: Sequence[Stale]) -> AsyncIterator[Output]:
    """For stages whose outputs every consumer checks at the gate itself."""
    for _ in ():
        yield _


@dataclass(frozen=True)
class Stage:
    """One consumer group.

    Attributes:
        name: of the folder, the consumer group, ``service.name`` and the Deployment.
        sources: consumed topics.
        sinks: topics it may publish to; they must exist before the worker starts.
        work: the verb. Yields outputs as they are ready; returning means every write is confirmed by its store.
            Raises ``Permanent``, ``Transient`` or ``Misconfigured``; anything else is a bug.
        undo: called with what was erased, cancelled or overtaken while the outputs were on their way.
        batch: how deliveries are collected.
        lanes: whether the sources go one before the other, the first in front, each later one keeping a tenth.
        batches_in_work: so many at most; with two the next is fetched and checked while one is worked on. Their order
            is no promise, whatever serves only one at a time must make the other wait.
        costly: a durable attempt row is written before a unit is worked on, its third crash dead-letters it.
        gated: ask the gate before and after; off only for stages that keep the catalog themselves.
        judge: what the gate's answer means to this stage.
        deadline_s: a unit that runs longer is stuck, and the worker is ended.
        adopt: makes an event known to the catalog when the gate has never heard of it (foreign uploads).
        tombstone: what a null value means here; by default it is acknowledged.
        resources: entered before the first event and left after the last: engines, stores.
        probe: checks its own dependencies; raises ``Unavailable`` while one is down.
        info: said with every sign of life: ``engine`` (as in ``Engine``) or ``model`` of the stages that use one.
        counts: what it did beside its events since it started, by kind, for its metrics; always the same kinds.
        group: the consumer group, where it is not the name; asked once the resources are there.
        finished: asked every second: whether the work has come to an end. The worker drains then, and ends with 0.
    """

    name: str
    sources: tuple[Topic, ...]
    sinks: tuple[Topic, ...]
    work: Work
    undo: Undo = undo_nothing
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    lanes: bool = False
    batches_in_work: int = 1
    costly: bool = False
    gated: bool = True
    judge: Judge = judge
    deadline_s: float = 120.0
    adopt: Callable[[Delivery[Any]], Awaitable[None]] | None = None
    tombstone: Callable[[Record], AsyncIterator[Output]] | None = None
    resources: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
    probe: Callable[[], Awaitable[None]] | None = None
    info: Callable[[], Mapping[str, Any]] = dict
    counts: Callable[[], Mapping[str, int]] = dict
    group: Callable[[], str] | None = None
    finished: Callable[[], Awaitable[bool]] = never

    @property
    def consumer_group(self) -> str:
        """Without the configurable prefix."""
        return self.name if self.group is None else self.group()


def emit(topic: Topic, event: Event, cause: Delivery[Any]) -> Output:
    """An output keyed as its topic keys it."""
    return Output(topic, topic.key(event), event, cause)


def erase_key(topic: Topic, key: str, cause: Delivery[Any]) -> Output:
    """An output that deletes a key of a compacted topic."""
    return Output(topic, key, None, cause)


def progress(stage: str, cause: Delivery[Any], **fields: Any) -> Output:
    """``stage`` has done its part of the delivery's segment or recording; ``fields`` as in ``StageProgressed``."""
    event = cause.event
    about: dict[str, Any] = {
        "tenant": event.tenant,
        "recording_id": event.recording_id,
        "revision": event.revision,
        "stage": stage,
        "index": getattr(event, "index", None),
        "state": "done",
        "start_ms": getattr(event, "start_ms", None),
        "end_ms": getattr(event, "end_ms", None),
    }
    return emit(RECORDINGS_PROGRESS, StageProgressed(**(about | fields)), cause)
