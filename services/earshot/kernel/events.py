"""The events, in the order of the flow. ``schemas/*.avsc`` is generated from these models and checked by test.

Times are whole milliseconds from the recording's start. Fields with a default are optional for a foreign
producer. Events are frozen; a change of a recording is a new event with a higher revision.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Tenant = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
Priority = Literal["high", "normal", "low"]
ProgressState = Literal["pending", "failed", "done"]
Task = Literal["transcribe", "translate"]
MAX_HINT = 1000
"""Characters of hotwords, and of a prompt: Whisper takes about that much of both together."""


class Event(BaseModel):
    """What every event carries: whose it is, which recording, which attempt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: Tenant = Field("default", description="Who owns the recording.")
    recording_id: str = Field(description="UUID of the recording.")
    revision: int = Field(1, ge=1, description="Attempt or edit this belongs to; the higher one wins.")


class Word(BaseModel):
    """One word as it was heard."""

    model_config = ConfigDict(frozen=True)

    text: str = Field(description="The word, with its punctuation.")
    start_ms: int = Field(ge=0, description="Start, in ms from the recording's start.")
    end_ms: int = Field(ge=0, description="End, in ms from the recording's start.")
    confidence: float | None = Field(None, description="0 to 1 as the engine reports it; null when it does not.")
    speaker: str | None = Field(None, description="Speaker label, when known.")


class Engine(BaseModel):
    """What made a transcript, and whether it was the one that should have."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="faster-whisper, pocketsphinx, import, …")
    model: str = Field("", description="Model name.")
    digest: str = Field("", description="SHA-256 that tells one set of weights from another.")
    device: str = Field("cpu", description="cpu, cuda, …")
    degraded: bool = Field(False, description="True when a fallback did the work.")
    reason: str = Field("", description="Why it is degraded, and how to turn the real thing on.")


class AudioUploaded(Event):
    """A recording is in the blob store and asks to be processed."""

    recording_id: str = Field("", description="UUID; empty: derived from the event's headers or its place in the log.")
    uri: str = Field(description="Where the audio lies, inside the tenant's folder of the blob store.")
    sha256: str = Field("", description="Hex SHA-256 of the bytes at uri; empty: not checked.")
    size_bytes: int = Field(0, ge=0, description="Size of the bytes at uri; 0: unknown.")
    media_type: str = Field("", description="What the producer believes it is; decoded to find out.")
    title: str = Field("", description="Shown with every hit.")
    collection: str = Field("default", description="The tenant's own grouping.")
    language: str = Field("", description="BCP 47 language of the speech; empty: detected.")
    priority: Priority = Field("normal", description="high, normal or low: the lane its segments take.")
    task: Task | None = Field(None, description="translate: into English; null: as the collection's settings say.")
    recorded_at: datetime | None = Field(None, description="When it was said; null: unknown.")
    metadata: dict[str, str] = Field(default_factory=dict, description="The producer's own, kept and returned.")


class SegmentCut(Event):
    """At most 30 s of a recording, cut at a pause: the unit of work."""

    index: int = Field(ge=0, description="Position in the recording, from 0, without gaps.")
    start_ms: int = Field(ge=0, description="Start, in ms from the recording's start.")
    end_ms: int = Field(ge=0, description="End, in ms from the recording's start.")
    uri: str = Field(description="FLAC, 16 kHz, mono, 16 bit.")
    sha256: str = Field(description="Hex SHA-256 of the decoded samples (16-bit little-endian PCM).")
    collection: str = Field("default", description="As uploaded.")
    language: str = Field("", description="As uploaded; empty: detect.")
    recorded_at: datetime | None = Field(None, description="As uploaded.")
    task: Task = Field("transcribe", description="translate: into English, where the engine can.")
    hotwords: str = Field("", max_length=MAX_HINT, description="Words and names that may be said.")
    prompt: str = Field("", max_length=MAX_HINT, description="A text as it might stand before this one.")


class SegmentTranscribed(Event):
    """What was said in one segment."""

    index: int = Field(ge=0, description="Position in the recording, from 0, without gaps.")
    start_ms: int = Field(ge=0, description="Start, in ms from the recording's start.")
    end_ms: int = Field(ge=0, description="End, in ms from the recording's start.")
    text: str = Field(description="The words, joined; empty when nothing was understood.")
    words: list[Word] = Field(default_factory=list, description="Each word with its times; empty for imports without.")
    language: str = Field("", description="BCP 47 of the text: as spoken, unless translated; empty: unknown.")
    speaker: str | None = Field(None, description="Speaker label of the whole segment, when known.")
    engine: Engine = Field(description="What made it.")
    collection: str = Field("default", description="As uploaded.")
    recorded_at: datetime | None = Field(None, description="As uploaded.")
    translated_from: str = Field("", description="BCP 47, as spoken, where the text is a translation; else empty.")


class Turn(BaseModel):
    """A stretch of time in which one person speaks. Turns may overlap."""

    model_config = ConfigDict(frozen=True)

    speaker: str = Field(description="Speaker label, stable within the recording.")
    start_ms: int = Field(ge=0, description="Start, in ms from the recording's start.")
    end_ms: int = Field(ge=0, description="End, in ms from the recording's start.")


class SpeakersFound(Event):
    """Who spoke when, in the whole recording."""

    turns: list[Turn] = Field(description="In order of start.")
    engine: Engine = Field(description="What made it.")
    exclusive: list[Turn] = Field(
        default_factory=list,
        description="The same without overlap, the clearest voice at each moment, for words; empty: by turns.",
    )


AvroFloat = Annotated[float, "avro:float"]


class Passage(BaseModel):
    """The searchable piece of a segment."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="UUID, derived from segment, model and ordinal.")
    ordinal: int = Field(ge=0, description="Position in the segment, from 0.")
    start_ms: int = Field(ge=0, description="Start, in ms from the recording's start.")
    end_ms: int = Field(ge=0, description="End, in ms from the recording's start.")
    text: str = Field(description="The words of the passage.")
    speakers: list[str] = Field(default_factory=list, description="Labels of those who speak in it, when known.")
    vector: list[AvroFloat] = Field(description="Unit length, as many numbers as the model has dimensions.")


class SegmentEmbedded(Event):
    """All passages of one segment, with the vectors of one model. Replaces the set before."""

    index: int = Field(ge=0, description="Position of the segment in the recording.")
    start_ms: int = Field(ge=0, description="Start of the segment, in ms from the recording's start.")
    end_ms: int = Field(ge=0, description="End of the segment, in ms from the recording's start.")
    model: str = Field(description="Embedding model; an index holds the vectors of one.")
    dimensions: int = Field(ge=1, description="Length of every vector.")
    passages: list[Passage] = Field(description="In order; empty when there was nothing to say.")
    language: str = Field("", description="As transcribed.")
    degraded: bool = Field(False, description="True when a fallback made the transcript.")
    collection: str = Field("default", description="As uploaded.")
    recorded_at: datetime | None = Field(None, description="As uploaded.")


class Quality(BaseModel):
    """How a recording sounds, measured while it was cut. Null: there was nothing to measure it by."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    loudness_lufs: float | None = Field(None, description="Integrated loudness (ITU-R BS.1770-4, EBU R 128), in LUFS.")
    peak_dbfs: float | None = Field(None, description="Highest sample of any channel; null: digital silence.")
    clipped_ratio: float = Field(0.0, description="Share of moments at which a channel is clipped, 0 to 1.")
    snr_db: float | None = Field(None, description="Speech over the noise between it, estimated, in dB.")
    speech_ratio: float = Field(0.0, description="Share of the time in which there is speech, 0 to 1.")
    bandwidth_hz: int | None = Field(None, description="Highest frequency with sound, at the file's own sample rate.")
    sample_rate_hz: int | None = Field(None, description="The file's own.")
    channels: int | None = Field(None, description="The file's own.")
    mos: float | None = Field(None, description="Mean opinion score, 1 to 5, predicted; null without a predictor.")
    mos_model: str = Field("", description="What predicted it.")


class StageProgressed(Event):
    """A stage did, or could not do, its part of a recording or of one segment."""

    stage: str = Field(description="Name of the stage, equal to its consumer group.")
    index: int | None = Field(None, description="Segment; null: the recording as a whole.")
    state: ProgressState = Field(description="pending, failed or done; it only rises in that order.")
    segments_total: int | None = Field(None, description="Said once, by the stage that cuts, when it is known.")
    start_ms: int | None = Field(None, description="Start of the stretch this is about.")
    end_ms: int | None = Field(None, description="End of the stretch this is about; of the last segment: the duration.")
    code: str = Field("", description="Stable code of the error, when failed.")
    detail: str = Field("", description="The error as a sentence for a person, when failed.")
    quality: Quality | None = Field(None, description="Said with segments_total; null: not measured.")


class RecordingCompleted(Event):
    """A recording has gone all the way: no more segments will come for this revision."""

    state: Literal["completed", "failed"] = Field(description="failed: some time ranges are missing.")
    segments: int = Field(ge=0, description="How many segments the recording has.")
    failed_segments: int = Field(0, ge=0, description="How many of them are missing.")
    duration_ms: int = Field(ge=0, description="Duration of the recording.")
    transcript_uri: str = Field(description="Path of the transcript below the query service.")


class RecordingErased(Event):
    """Forget a recording: all of it, or one attempt."""

    reason: Literal["erased", "cancelled", "superseded"] = Field(
        description="erased: everything, for ever; cancelled: this revision; superseded: this revision and lower."
    )


def dump(event: Event) -> dict[str, Any]:
    """The event as plain values, ready for Avro."""
    return event.model_dump()
