"""Everything outside, as protocols. Adapters implement them; tests have one fake for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from earshot.kernel.codec import Record
from earshot.kernel.events import AudioUploaded, Engine, SegmentTranscribed, StageProgressed, Word
from earshot.kernel.ledger import JobState

# --- blobs ------------------------------------------------------------------------------------------------------


class BlobStore(Protocol):
    """A folder or a bucket. Every key begins with its tenant: ``tenant/recordings/<id>/…``.

    All methods raise ``Unavailable("blobs", …)`` when the store does not answer.
    """

    def uri(self, key: str) -> str:
        """The URI that events carry for a key."""

    def key(self, tenant: str, uri: str) -> str:
        """The key of a URI. Raises ``ForeignUri`` outside the store or outside the tenant's folder."""

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool = False) -> bool:
        """Write a blob whole or not at all; ``False`` when ``create_only`` and it was there already."""

    async def get(self, key: str) -> bytes:
        """Read a blob. Raises ``BlobMissing``."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream a blob or the range ``[start, end)`` of it. Raises ``BlobMissing``."""

    async def size(self, key: str) -> int:
        """Size in bytes. Raises ``BlobMissing``."""

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The blob as a file for a decoder: the file itself where the store is a folder, else a temporary copy."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; those that are gone already are no error."""

    def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Keys below a prefix that ends in ``/``, with when they were written."""


# --- sound and speech -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """What a file turned out to be.

    Attributes:
        container: as the decoder names it.
        codec: of the audio stream.
        duration_ms: as the container says; ``None`` where it does not.
    """

    container: str
    codec: str
    duration_ms: int | None


@dataclass(frozen=True)
class CutSegment:
    """One segment, decoded and cut.

    Attributes:
        index: from 0.
        start_ms: from the recording's start.
        end_ms: from the recording's start.
        flac: 16 kHz mono 16-bit FLAC.
        sha256: hex, of the 16-bit little-endian samples.
        decoded_ms: how much of the recording has been decoded so far.
    """

    index: int
    start_ms: int
    end_ms: int
    flac: bytes
    sha256: str
    decoded_ms: int


@dataclass(frozen=True)
class CutEnd:
    """The end of a recording: its duration, and how many segments had speech.

    ``damage`` says what of the file did not decode, as a clause for a person; empty when everything did.
    """

    duration_ms: int
    segments: int
    damage: str = ""


class Decoder(Protocol):
    """Decodes files in a process of its own, within limits of size, duration, memory and CPU time."""

    async def probe(self, path: Path) -> Probe:
        """Decode the beginning to find out what it is. Raises ``NotAudio``, ``LimitExceeded``."""

    def cut(self, path: Path) -> AsyncIterator[CutSegment | CutEnd]:
        """Decode as a stream and yield segments as they are cut, then one ``CutEnd``.

        Raises:
            NotAudio: nothing decodes.
            LimitExceeded: longer than allowed, or the decoder ran out of its limits.
        """


@dataclass(frozen=True)
class Clip:
    """One segment for the engine: FLAC bytes, where it starts in its recording, what is known of it."""

    flac: bytes
    start_ms: int
    end_ms: int
    language: str = ""


@dataclass(frozen=True)
class Recognized:
    """What an engine heard in a clip. Word times count from the recording's start."""

    text: str
    words: list[Word]
    language: str
    engine: Engine


class Recognizer(Protocol):
    """A speech-to-text engine in a process of its own."""

    engine: Engine
    """Name, model, digest and device; degraded when it is a fallback."""

    options: Mapping[str, Any]
    """Every option that changes the text: part of the cache key."""

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order. Raises ``EngineRejected``, ``UnitCrashed``, ``Unavailable``."""


# --- vectors ----------------------------------------------------------------------------------------------------


class Encoder(Protocol):
    """An embedding model; passages and queries go through the same one."""

    model: str
    dimensions: int

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text. Raises ``Unavailable``."""

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question. Raises ``Unavailable``."""


@dataclass(frozen=True)
class IndexedPassage:
    """A passage as the vector store holds it."""

    id: str
    recording_id: str
    revision: int
    segment_index: int
    ordinal: int
    start_ms: int
    end_ms: int
    text: str
    collection: str
    language: str
    speakers: tuple[str, ...]
    recorded_at: datetime | None
    degraded: bool
    vector: tuple[float, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class PassageSet:
    """All passages of one segment at one revision; what :meth:`VectorStore.replace` makes the segment hold."""

    recording_id: str
    revision: int
    segment_index: int
    passages: tuple[IndexedPassage, ...]


@dataclass(frozen=True)
class SearchFilters:
    """What a hit must satisfy; empty or ``None`` fields do not restrict. Times bound ``recorded_at``, inclusively."""

    recording_ids: tuple[str, ...] = ()
    collection: str | None = None
    speaker: str | None = None
    language: str | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None


SearchMode = Literal["hybrid", "keyword", "vector"]


@dataclass(frozen=True)
class ScoredPassage:
    """A hit: the passage (without its vector) and its score, higher is better; comparable within one answer only."""

    passage: IndexedPassage
    score: float


class VectorStore(Protocol):
    """Where passages are found. An index holds the vectors of one model; within it, tenants are kept apart.

    Every method raises ``Unavailable("vectors", …)`` when the store does not answer. Writes return when the store has
    confirmed every object.
    """

    async def prepare(self, index: str, dimensions: int) -> None:
        """Create the index unless it is there."""

    async def replace(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        revision: int,
        segment_index: int,
        passages: Sequence[IndexedPassage],
    ) -> None:
        """Make these the only passages of the segment at this revision or below. Passages of higher ones stay."""

    async def replace_many(self, index: str, tenant: str, sets: Sequence[PassageSet]) -> None:
        """``replace`` for several segments in as few calls to the store as it can; the same outcome, in order."""

    async def delete(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        *,
        revision: int | None = None,
        up_to: int | None = None,
        segment_index: int | None = None,
    ) -> None:
        """Delete a recording's passages: of one revision, of those up to one, of one segment, or all."""

    async def search(
        self,
        index: str,
        tenant: str,
        *,
        text: str,
        vector: Sequence[float] | None,
        mode: SearchMode,
        filters: SearchFilters,
        limit: int,
    ) -> list[ScoredPassage]:
        """The best passages, best first."""

    async def count(self, index: str, tenant: str, recording_id: str | None = None) -> int:
        """How many passages a tenant, or one recording of its, has."""

    async def indexes(self) -> list[str]:
        """Every index there is: an erasure goes to all of them."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def close(self) -> None:
        """Let go of connections and files."""


# --- the log ----------------------------------------------------------------------------------------------------


class EventLog(Protocol):
    """The log outside of stream processors: for the relay, the CLI, the checks. Topic names are full, with prefix.

    Every method raises ``Unavailable("broker", …)`` when the broker does not answer.
    """

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when the broker has acknowledged every record. ``Record.partition`` is obeyed when given."""

    def tail(self, topics: Sequence[str], *, from_start: bool, follow: bool) -> AsyncIterator[Record]:
        """Records in order of each partition; without ``follow``, up to the ends found at the start."""

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises ``Misconfigured`` when it does not exist."""

    async def create(self, topics: Mapping[str, Mapping[str, str]], partitions: int) -> list[str]:
        """Create the topics (name to broker configuration) that are missing; return their names."""

    async def lag(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """Committed offset (0 when none) and end offset by topic and partition."""

    async def ping(self) -> None:
        """Return when the broker answers."""

    async def close(self) -> None:
        """Let go of connections and files."""


# --- the catalog ------------------------------------------------------------------------------------------------

RecordingState = Literal["live", "cancelled", "erased"]


@dataclass(frozen=True)
class Recording:
    """A row of the catalog. ``source_key`` is the blob's key, ``None`` for a transcript without audio."""

    id: str
    tenant: str
    collection: str
    title: str
    state: RecordingState
    revision: int
    visible_from: int
    source_key: str | None
    sha256: str
    media_type: str
    size_bytes: int
    language: str
    duration_ms: int | None
    recorded_at: datetime | None
    created_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class StageCount:
    """How far a stage is in one job."""

    stage: str
    done: int
    failed: int


@dataclass(frozen=True)
class Job:
    """One attempt, as the ledger projects it.

    Attributes:
        version: rises with every change; the id of its server-sent events.
        error: ``{"code", "title", "detail", "missing": [{"start_ms", "end_ms"}]}`` when failed.
    """

    id: str
    recording_id: str
    tenant: str
    revision: int
    state: JobState
    segments_total: int | None
    stages: tuple[StageCount, ...]
    error: Mapping[str, Any] | None
    trace_id: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class NewRecording:
    """What the door knows of a recording it accepts. ``segments`` come with an imported transcript."""

    upload: AudioUploaded
    source_key: str | None
    trace: Mapping[str, str]
    segments: tuple[SegmentTranscribed, ...] | None = None
    idempotency_key: str | None = None
    request_hash: str = ""


@dataclass(frozen=True)
class Accepted:
    """What became of it: a new job, or the one that was there (``created`` is ``False``)."""

    job: Job
    created: bool


class Recordings(Protocol):
    """The part of the catalog that ingest and query work on. Raises ``Unavailable("catalog", …)``.

    Every method is scoped to one tenant and never shows another's rows.
    """

    async def accept(self, new: NewRecording) -> Accepted:
        """In one transaction: recording, job, idempotency key, imported transcript, outbox rows.

        The same audio sent again by the tenant to the collection while the first lives and has not failed is the
        first's job; after failure or cancellation a new attempt of the same recording; after erasure a new recording.

        Raises:
            Permanent: code ``idempotency_key_reused`` when the key was used with another ``request_hash``.
        """

    async def adopt(self, upload: AudioUploaded, source_key: str, trace: Mapping[str, str]) -> None:
        """A foreign producer's upload becomes a recording with a job. Doing it again changes nothing."""

    async def recording(self, tenant: str, recording_id: str) -> Recording | None:
        """One recording, erased ones excluded."""

    async def recordings(
        self, tenant: str, *, collection: str | None = None, before: tuple[datetime, str] | None = None, limit: int = 50
    ) -> list[Recording]:
        """Newest first; ``before`` is the (created_at, id) of the last one seen."""

    async def job(self, tenant: str, either_id: str) -> Job | None:
        """A job by its id, or the latest job of a recording by the recording's id."""

    async def retry(self, tenant: str, job_id: str, trace: Mapping[str, str]) -> Job:
        """A new attempt (revision + 1) of a failed or cancelled job; its outbox row in the same transaction.

        Raises ``UnknownRecording``; ``Permanent`` (``not_retryable``, status 409) in any other state.
        """

    async def cancel(self, tenant: str, job_id: str, trace: Mapping[str, str]) -> Job:
        """Cancel a pending or running job, with its ``recordings.erased`` row (reason cancelled).

        Raises ``UnknownRecording``; ``Permanent`` (``not_cancellable``, status 409) when it has ended.
        """

    async def erase(self, tenant: str, recording_id: str, trace: Mapping[str, str]) -> None:
        """Mark erased, forget everything personal in the row, with its ``recordings.erased`` row.

        Raises ``UnknownRecording`` when there is none (or it is erased already).
        """


@dataclass(frozen=True)
class StoredSegment:
    """A transcribed segment in the catalog, with the key of its cached transcript."""

    event: SegmentTranscribed
    cache_key: str | None


class Transcripts(Protocol):
    """The transcripts of recordings, readable as soon as a segment is transcribed."""

    async def store(self, segments: Sequence[StoredSegment]) -> None:
        """Upsert by (recording, index, revision)."""

    async def highest(self, tenant: str, recording_id: str, index: int) -> SegmentTranscribed | None:
        """The stored segment with the highest revision that is not cancelled or erased."""

    async def transcript(self, tenant: str, recording_id: str) -> list[SegmentTranscribed]:
        """For every index the visible segment with the highest revision, in order of index."""

    async def segments(self, tenant: str, recording_id: str, indexes: Collection[int]) -> list[SegmentTranscribed]:
        """As ``transcript``, for these indexes alone: what a search needs around its hits."""

    async def forget(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        """Delete the stored segments: of one revision, of those up to one, or all."""

    async def stored(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> list[tuple[int, int, str | None]]:
        """(revision, index, cache key) of the stored segments, for the eraser."""


class Attempts(Protocol):
    """Durable counts of tries at costly units: written before the work, so a crash is remembered."""

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
    """How the transcripts of a collection are cut into passages; ``None`` leaves it to the embedder's own settings.

    Attributes:
        passage_max_words: longest passage.
        passage_overlap_words: words a passage shares with the one before.
    """

    passage_max_words: int | None = None
    passage_overlap_words: int | None = None


class Collections(Protocol):
    """Settings of a tenant's collections. Raises ``Unavailable("catalog", …)``."""

    async def collection_settings(self, tenant: str, collection: str) -> CollectionSettings:
        """The settings of a collection; those of one never heard of are all ``None``."""

    async def configure_collection(self, tenant: str, collection: str, settings: CollectionSettings) -> None:
        """Set them; passages made before stay as they are."""


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
