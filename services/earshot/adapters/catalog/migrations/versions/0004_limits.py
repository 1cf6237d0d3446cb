"""What is kept for how long: retention, tenants that are being erased, segments whose audio was dropped."""

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


def downgrade() -> None:
    """Take them away again; retention is off, and an erasure of a tenant that was not done is forgotten."""
    op.drop_index("jobs_by_end", "jobs")
    op.drop_index("recordings_leaving", "recordings")
    for table, column, _ in reversed(_COLUMNS):
        op.drop_column(table, column)
