"""What is kept for how long, and who may use how much: retention, erasures of tenants, turns in the outbox, quotas."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("tenants", "retain_days", sa.Integer()),
    ("tenants", "erasing_since", sa.BigInteger()),
    ("tenants", "erasing_recordings", sa.BigInteger()),
    ("tenants", "erased_at", sa.BigInteger()),
    ("collections", "retain_days", sa.Integer()),
    ("collections", "segment_audio_days", sa.Integer()),
    ("recordings", "erased_at", sa.BigInteger()),
    ("recordings", "gone_at", sa.BigInteger()),
    ("jobs", "segments_dropped_at", sa.BigInteger()),
    ("recordings", "claimed_ms", sa.BigInteger()),
    ("jobs", "audio_ms", sa.BigInteger()),
    ("jobs", "in_flight_ms", sa.BigInteger()),
    ("outbox", "lane", sa.SmallInteger()),
    ("outbox", "audio_ms", sa.BigInteger()),
)
_PARTIAL = (
    ("jobs_in_flight", "jobs", ["tenant"], "in_flight_ms IS NOT NULL"),
    ("outbox_waiting", "outbox", ["lane", "tenant", "id", "audio_ms"], "lane IS NOT NULL"),
    ("outbox_free", "outbox", ["id"], "lane IS NULL"),
)


def upgrade() -> None:
    """Add the columns. What was erased before counts as erased now, and as gone when its source is."""
    for table, column, kind in _COLUMNS:
        op.add_column(table, sa.Column(column, kind, nullable=True))
    now = int(time.time() * 1e6)
    op.execute(f"UPDATE recordings SET erased_at = {now} WHERE state = 'erased'")  # noqa: S608 - a number
    op.execute(f"UPDATE recordings SET gone_at = {now} WHERE state = 'erased' AND source_key IS NULL")  # noqa: S608 - likewise
    op.create_index("recordings_leaving", "recordings", ["tenant", "state", "gone_at"])
    op.create_index("jobs_by_end", "jobs", ["segments_dropped_at", "state", "updated_at"])
    _make_fairness()


def _make_fairness() -> None:
    """Whose turn it is, and what a tenant may use and has used. What waits in the outbox by now may go."""
    op.create_index("jobs_by_state", "jobs", ["tenant", "state"])
    op.create_index("recordings_by_size", "recordings", ["tenant", "size_bytes"])
    for name, table, columns, where in _PARTIAL:
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    lanes = op.create_table(
        "lanes",
        sa.Column("lane", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lane"),
    )
    op.bulk_insert(lanes, [{"lane": lane, "credit": 0} for lane in range(3)])
    op.create_table(
        "turns",
        sa.Column("lane", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("deficit_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lane", "tenant"),
    )
    op.create_table(
        "limits",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("audio_ms_a_day", sa.BigInteger()),
        sa.Column("recordings_in_flight", sa.BigInteger()),
        sa.Column("storage_bytes", sa.BigInteger()),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant"),
    )
    op.create_table(
        "usage",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("audio_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant", "day"),
    )


def downgrade() -> None:
    """Take them away again; retention is off, and an erasure of a tenant that was not done is forgotten."""
    for table in ("usage", "limits", "turns", "lanes"):
        op.drop_table(table)
    for name, table, _, _ in _PARTIAL:
        op.drop_index(name, table)
    op.drop_index("recordings_by_size", "recordings")
    op.drop_index("jobs_by_state", "jobs")
    op.drop_index("jobs_by_end", "jobs")
    op.drop_index("recordings_leaving", "recordings")
    for table, column, _ in reversed(_COLUMNS):
        op.drop_column(table, column)
