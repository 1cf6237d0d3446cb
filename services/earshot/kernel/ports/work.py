"""The catalog: progress, tries, leases, upkeep, signs of life, traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from earshot.kernel.dead_letters import Outcome
from earshot.kernel.events import StageProgressed, Task


class Attempts(Protocol):
    """Durable counts of tries at costly units: written before the work, so a crash is remembered."""

    async def begin_first(self, stage: str, units: Sequence[str]) -> set[str]:
        """Count a first try at each unit that has none, and return those; the others were tried before."""

    async def begin(self, stage: str, unit: str) -> int:
        """Count one more try at a unit and return how many there have been."""

    async def forgive(self, stage: str, unit: str) -> None:
        """The last try ended for a reason outside the unit: it does not count, those before it do."""

    async def finish(self, stage: str, units: Sequence[str]) -> None:
        """The units are done or dead-lettered: forget their counts."""


class Ledger(Protocol):
    """The projection of ``recordings.progress``."""

    async def record(self, events: Sequence[StageProgressed]) -> None:
        """Raise the lines, settle each job, and write ``recordings.completed`` into the outbox when one ends.

        When a job completes, ``visible_from`` rises to its revision, and if it had predecessors a
        ``recordings.erased`` row (superseded, revision - 1) is written. Progress of erased recordings is dropped.

        Raises ``UnknownRecording`` when a recording was never heard of.
        """


class AnsweredLetters(Protocol):
    """What was done with dead letters. Raises ``Unavailable``."""

    async def outcomes(self, letters: Sequence[str]) -> dict[str, Outcome]:
        """What was done with each of these letters; open ones are left out."""

    async def answer(self, letters: Sequence[str], outcome: Outcome) -> None:
        """Remember what was done with them; the last word counts."""


class Leases(Protocol):
    """Who may work on something long: held by beating, free again when its holder stops. Raises ``Unavailable``."""

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        """Take a lease that is free, expired or one's own already; ``False`` while another owner holds it."""

    async def renew(self, name: str, owner: str, ttl_s: float) -> bool:
        """Hold it longer; ``False`` when it was lost meanwhile."""

    async def release(self, name: str, owner: str) -> None:
        """Let go; what another holds stays theirs."""


@dataclass(frozen=True)
class CollectionSettings:
    """How the recordings of a collection are transcribed, cut into passages, and for how long all is kept.

    ``None`` leaves it to the stage's own settings, or to the tenant's.

    Attributes:
        passage_max_words: longest passage.
        passage_overlap_words: words a passage shares with the one before.
        hotwords: words and names that may be said, for engines that listen to hints.
        prompt: a text as it might stand before each segment, for its words and its style; likewise.
        task: ``translate``: into English, unless an upload says otherwise.
        retain_days: after which a recording is erased, counted from when it came in.
        segment_audio_days: after which the audio of segments is dropped, counted from when their job ended.
    """

    passage_max_words: int | None = None
    passage_overlap_words: int | None = None
    hotwords: str | None = None
    prompt: str | None = None
    task: Task | None = None
    retain_days: int | None = None
    segment_audio_days: int | None = None


class Collections(Protocol):
    """Settings of a tenant's collections. Raises ``Unavailable("catalog", …)``."""

    async def collection_settings(self, tenant: str, collection: str) -> CollectionSettings:
        """The settings of a collection; those of one never heard of are all ``None``."""

    async def configure_collection(self, tenant: str, collection: str, settings: CollectionSettings) -> None:
        """Set them; what was made before stays as it is."""


class Upkeep(Protocol):
    """What the relay tidies up. Raises ``Unavailable("catalog", …)``."""

    async def tenants(self) -> list[str]:
        """Every tenant that ever had a recording accepted."""

    async def prune(self, before: datetime) -> int:
        """Forget heartbeats, spans, attempts and expired leases older than that; return how many rows went."""

    async def in_use(self, tenant: str, keys: Sequence[str]) -> set[str]:
        """Which of these blobs belong to a recording that is not erased: below its folder, or as its source."""


class Erasures(Protocol):
    """What the eraser needs of an erased recording until its last blob is gone. Raises ``Unavailable``."""

    async def source_left(self, tenant: str, recording_id: str) -> str | None:
        """The blob key of an erased recording's source, unless another recording that lives has the same."""

    async def source_gone(self, tenant: str, recording_id: str) -> None:
        """Forget where the source of an erased recording was."""


@dataclass(frozen=True)
class Heartbeat:
    """What a worker last said of itself. ``reason`` says why it is paused."""

    stage: str
    worker: str
    state: Literal["running", "paused"]
    reason: str
    at: datetime
    info: Mapping[str, Any]


class Heartbeats(Protocol):
    """Signs of life of workers."""

    async def beat(self, beat: Heartbeat) -> None:
        """Upsert by stage and worker."""

    async def heartbeats(self) -> list[Heartbeat]:
        """The latest of each worker seen in the last minute."""


@dataclass(frozen=True)
class SpanRow:
    """A finished span, kept per recording for the embedded default. Times are ns since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    service: str
    name: str
    start_ns: int
    end_ns: int
    tenant: str
    recording_id: str
    error: str
    attributes: Mapping[str, Any]


class Spans(Protocol):
    """Where traces are kept when no OTLP endpoint is set. Synchronous: called on the exporter's own thread."""

    def write(self, spans: Sequence[SpanRow]) -> None:
        """Insert spans; the same span again is no error."""

    def of_trace(self, tenant: str, trace_id: str) -> list[SpanRow]:
        """The spans of a trace, in order of start."""
