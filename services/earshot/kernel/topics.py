"""The map: every topic in the order of the flow."""

from __future__ import annotations

from dataclasses import dataclass

from earshot.kernel import ids
from earshot.kernel.events import (
    AudioUploaded,
    Event,
    Priority,
    RecordingCompleted,
    RecordingErased,
    SegmentCut,
    SegmentEmbedded,
    SegmentTranscribed,
    SpeakersFound,
    StageProgressed,
)

DAY_MS = 24 * 3600 * 1000
ROLL_MS = DAY_MS
"""A broker deletes whole files of records: it begins a new one after so long, so a record may stay so much longer."""
DEAD_LETTER_SUFFIX = ".dlq"


@dataclass(frozen=True)
class Topic:
    """One topic: its name without prefix, the event it carries, how it is keyed and kept.

    Attributes:
        name: without the configurable prefix.
        event: the model of its values; ``None`` for dead letters, which carry whatever came.
        by_segment: keyed and spread by recording and segment; otherwise by recording alone.
        compacted: one record a key, for ever; a null value deletes the key.
        retention_ms: how long records are kept; when compacted, those that a later one of the same key replaces.
    """

    name: str
    event: type[Event] | None
    by_segment: bool = False
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS

    def key(self, event: Event) -> str:
        """The record key of an event on this topic."""
        if self.by_segment:
            return segment_key(event.recording_id, getattr(event, "index"))  # noqa: B009 - only by_segment events
        return event.recording_id

    @property
    def configuration(self) -> dict[str, str]:
        """How a broker is to keep it, in the settings of Kafka.

        A compacted topic is cleaned in time even where little is written: an erased transcript must not stay. Records
        bear the time of their arrival: by a wrong clock of its producer one would be refused, or deleted unread.
        """
        arrival = {"message.timestamp.type": "LogAppendTime"}
        if self.compacted:
            return {"cleanup.policy": "compact", "max.compaction.lag.ms": str(self.retention_ms), **arrival}
        kept = {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        return {**kept, "segment.ms": str(ROLL_MS), **arrival}

    @property
    def dead_letters(self) -> Topic:
        """Where records go that can never succeed."""
        return Topic(self.name + DEAD_LETTER_SUFFIX, None, retention_ms=30 * DAY_MS)


def segment_key(recording_id: str, index: int) -> str:
    """``recording:index``, the key of everything about one segment."""
    return f"{recording_id}:{index}"


def slot_of_key(key: str) -> int:
    """The partition slot of a key made by :meth:`Topic.key`; the same key always has the same slot."""
    recording_id, _, index = key.partition(":")
    return ids.slot(recording_id, int(index) if index.isdigit() else 0)


AUDIO_UPLOADED = Topic("audio.uploaded", AudioUploaded)
AUDIO_SEGMENTS = Topic("audio.segments", SegmentCut, by_segment=True)
AUDIO_SEGMENTS_HIGH = Topic("audio.segments.high", SegmentCut, by_segment=True)
AUDIO_SEGMENTS_LOW = Topic("audio.segments.low", SegmentCut, by_segment=True)
AUDIO_TRANSCRIPTS = Topic("audio.transcripts", SegmentTranscribed, by_segment=True, compacted=True)
AUDIO_SPEAKERS = Topic("audio.speakers", SpeakersFound)
AUDIO_EMBEDDINGS = Topic("audio.embeddings", SegmentEmbedded, by_segment=True)
RECORDINGS_PROGRESS = Topic("recordings.progress", StageProgressed)
RECORDINGS_COMPLETED = Topic("recordings.completed", RecordingCompleted)
RECORDINGS_ERASED = Topic("recordings.erased", RecordingErased)

TOPICS = (
    AUDIO_UPLOADED,
    AUDIO_SEGMENTS,
    AUDIO_SEGMENTS_HIGH,
    AUDIO_SEGMENTS_LOW,
    AUDIO_TRANSCRIPTS,
    AUDIO_SPEAKERS,
    AUDIO_EMBEDDINGS,
    RECORDINGS_PROGRESS,
    RECORDINGS_COMPLETED,
    RECORDINGS_ERASED,
)
LANES: dict[Priority, Topic] = {"high": AUDIO_SEGMENTS_HIGH, "normal": AUDIO_SEGMENTS, "low": AUDIO_SEGMENTS_LOW}
"""By priority, the one that goes first in front."""
FIRST_MS = 10 * 60 * 1000
"""So much of a recording goes by the lane of its priority; what follows goes one lane lower."""
BY_NAME = {topic.name: topic for topic in TOPICS}


def lane_of(priority: Priority, start_ms: int) -> Topic:
    """The lane of a segment that starts so far into a recording of this priority.

    The same segment always takes the same lane.
    """
    lanes = list(LANES)
    place = lanes.index(priority) + (start_ms >= FIRST_MS)
    return LANES[lanes[min(place, len(lanes) - 1)]]


def all_topics() -> tuple[Topic, ...]:
    """Every topic that must exist before a worker starts, dead letters included."""
    return TOPICS + tuple(topic.dead_letters for topic in TOPICS)
