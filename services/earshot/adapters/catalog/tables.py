"""The tables. Every row that belongs to a tenant has the tenant in its primary key, so no id can reach across."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(sa.types.TypeDecorator[datetime]):
    """A UTC time as whole microseconds since the epoch: exact and sortable on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy passes it
        """To microseconds."""
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy passes it
        """From microseconds."""
        return None if value is None else EPOCH + timedelta(microseconds=int(value))


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


metadata = sa.MetaData()


tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("retain_days", sa.Integer),  # of collections that say nothing; null: for ever
    sa.Column("erasing_since", Moment),  # null: it is not being erased
    sa.Column("erasing_recordings", sa.BigInteger),  # how many it had then
    sa.Column("erased_at", Moment),  # what was uploaded before is erased, also where it was never heard of
    sa.Column("created_at", Moment, nullable=False),
)

collections = sa.Table(
    "collections",
    metadata,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("passage_max_words", sa.Integer),
    sa.Column("passage_overlap_words", sa.Integer),
    sa.Column("hotwords", sa.Text),
    sa.Column("prompt", sa.Text),
    sa.Column("task", sa.Text),
    sa.Column("retain_days", sa.Integer),  # null: as the tenant says
    sa.Column("segment_audio_days", sa.Integer),  # null: as the eraser's settings say
    sa.Column("created_at", Moment, nullable=False),
)

recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("visible_from", sa.BigInteger, nullable=False),
    sa.Column("source_key", sa.Text),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("same_as", sa.Text),  # what makes an upload the same one; null: never the same
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("task", sa.Text),  # null: as the collection says
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("claimed_ms", sa.BigInteger),  # the duration that its container claims; null: none
    sa.Column("recorded_at", Moment),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False, server_default=""),  # each on a line of its own, between line ends
    sa.Column("quality", sa.JSON(none_as_null=True)),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("erased_at", Moment),  # when it was decided
    sa.Column("gone_at", Moment),  # when the eraser had deleted the last of it
    sa.Index("recordings_leaving", "tenant", "state", "gone_at"),
    sa.Index("recordings_by_size", "tenant", "size_bytes"),
    sa.Index("recordings_by_id", "id", unique=True),
    sa.Index("recordings_newest", "tenant", "created_at", "id"),
    sa.Index("recordings_by_source", "tenant", "source_key"),
    sa.Index("recordings_same", "tenant", "collection", "same_as", unique=True),
)

imports = sa.Table(
    "imports",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("segments", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["tenant", "recording_id"], ["recordings.tenant", "recordings.id"]),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("segments_total", sa.BigInteger),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("announced", sa.Text, nullable=False),  # final states already said on recordings.completed
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.Column("segments_dropped_at", Moment),  # null: the audio of its segments is there, as far as it was cut
    sa.ForeignKeyConstraint(["tenant", "recording_id"], ["recordings.tenant", "recordings.id"]),
    sa.Column("audio_ms", sa.BigInteger),  # what it counts for; null: it came by another way, or with its transcript
    sa.Column("in_flight_ms", sa.BigInteger),  # what of it is on its way through the stages; null: nothing
    sa.Index("jobs_by_end", "segments_dropped_at", "state", "updated_at"),
    sa.Index("jobs_by_state", "tenant", "state"),
    sa.Index(
        "jobs_in_flight",
        "tenant",
        sqlite_where=sa.text("in_flight_ms IS NOT NULL"),
        postgresql_where=sa.text("in_flight_ms IS NOT NULL"),
    ),
    sa.Index("jobs_by_id", "tenant", "id", unique=True),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request_hash", sa.Text, nullable=False),
    sa.Column("recording_id", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.ForeignKeyConstraint(["tenant", "recording_id"], ["recordings.tenant", "recordings.id"]),
    sa.Index("idempotency_by_recording", "tenant", "recording_id"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),  # SHA-256 of the key, which is kept nowhere
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # JSON
    sa.Column("collections", sa.Text),  # JSON; null: all
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Column("last_used_at", Moment),
    sa.Column("revoked_at", Moment),
    sa.Index("api_keys_by_hash", "hash", unique=True),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("recordings", sa.Text, nullable=False),  # ids with spaces between
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Index("audit_newest", "tenant", "id"),
    sa.Index("audit_by_age", "at"),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("recording_id", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("lane", sa.SmallInteger),  # waits for its turn in this class of priority; null: may go
    sa.Column("audio_ms", sa.BigInteger),  # what it counts for; null: nothing
    sa.Index("outbox_by_recording", "tenant", "recording_id"),
    sa.Index(
        "outbox_waiting",
        "lane",
        "tenant",
        "id",
        "audio_ms",
        sqlite_where=sa.text("lane IS NOT NULL"),
        postgresql_where=sa.text("lane IS NOT NULL"),
    ),
    sa.Index("outbox_free", "id", sqlite_where=sa.text("lane IS NULL"), postgresql_where=sa.text("lane IS NULL")),
    sqlite_autoincrement=True,  # ids are never reused, even after the table was empty
)

lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("lane", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("credit", sa.BigInteger, nullable=False),
)

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("lane", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),  # in the ring
    sa.Column("deficit_ms", sa.BigInteger, nullable=False),
)

limits = sa.Table(  # null: as the settings say; -1: none
    "limits",
    metadata,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("audio_ms_a_day", sa.BigInteger),
    sa.Column("recordings_in_flight", sa.BigInteger),
    sa.Column("storage_bytes", sa.BigInteger),
)

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),  # of UTC, as ISO 8601 writes it
    sa.Column("audio_ms", sa.BigInteger, nullable=False),
)

progress = sa.Table(
    "progress",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("segment", sa.BigInteger, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("state", sa.Integer, nullable=False),  # the rank of pending, failed, done
    sa.Column("start_ms", sa.BigInteger),
    sa.Column("end_ms", sa.BigInteger),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

transcript_segments = sa.Table(
    "transcript_segments",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("segment", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),  # the event as JSON; empty once erased
    sa.Column("cache_key", sa.Text),
    sa.Column("engine", sa.Text, nullable=False),  # as in the body, to be asked for
    sa.Column("degraded", sa.Boolean, nullable=False),
    sa.Index("transcript_segments_by_engine", "tenant", "engine", "degraded"),
)

revisions = sa.Table(  # those that an edit keeps, and the edits
    "revisions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("corrected", sa.Boolean, nullable=False),  # some of its words are a person's
    sa.Column("restored_from", sa.BigInteger),
    sa.Column("changed", sa.Text),  # JSON: indexes of segments; null: all
    sa.Column("origins", sa.Text, nullable=False),  # JSON: by index, the revision under which its words are kept
    sa.Column("created_at", Moment, nullable=False),
)

revision_segments = sa.Table(  # words that a revision brought, once
    "revision_segments",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("segment", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),  # the event as JSON
    sa.Column("cache_key", sa.Text),
)

indexes = sa.Table(  # of every tenant's passages alike
    "indexes",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("encoder", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("barrier", sa.Text, nullable=False),  # JSON: offset by partition
    sa.Column("until", sa.Text),  # likewise; null before it is known
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("served_at", Moment),
    sa.Index("indexes_by_generation", "generation", unique=True),
    sa.Index(
        "indexes_serving",
        "state",
        unique=True,  # the alias points at one
        sqlite_where=sa.text("state = 'serving'"),
        postgresql_where=sa.text("state = 'serving'"),
    ),
)

speaker_turns = sa.Table(
    "speaker_turns",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),  # the event as JSON
)

speaker_names = sa.Table(
    "speaker_names",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Index("speaker_names_by_name", "tenant", "name"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)

heartbeats = sa.Table(
    "heartbeats",
    metadata,
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("info", sa.Text, nullable=False),
)

spans = sa.Table(
    "spans",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("trace_id", sa.Text, primary_key=True),
    sa.Column("span_id", sa.Text, primary_key=True),
    sa.Column("parent_id", sa.Text),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("recording_id", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("attributes", sa.Text, nullable=False),
    sa.Index("spans_by_recording", "tenant", "recording_id"),
    sa.Index("spans_by_age", "end_ns"),
)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("answers", sa.Integer, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.Index("conversations_latest", "tenant", "updated_at", "id"),
)

answers = sa.Table(
    "answers",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("conversation_id", sa.Text),
    sa.Column("place", sa.Integer, nullable=False),  # in its conversation, from 1; 0 without one
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("rewritten", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # empty: not kept, or a recording it rests on was erased
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("prompt_hash", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Index("answers_of_conversation", "tenant", "conversation_id", "place"),
    sa.Index("answers_by_age", "created_at"),
)

answer_sources = sa.Table(  # whose words an answer contains
    "answer_sources",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("recording_id", sa.Text, primary_key=True),
    sa.Column("answer_id", sa.Text, primary_key=True),
    sa.Index("answer_sources_by_answer", "tenant", "answer_id"),
)

spending = sa.Table(
    "spending",
    metadata,
    sa.Column("day", sa.Text, primary_key=True),  # ISO 8601, UTC
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),  # millionths of the currency of the prices
)
