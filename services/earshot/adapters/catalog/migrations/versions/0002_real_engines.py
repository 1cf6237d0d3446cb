"""What the real engines need: turns and names of speakers, indexes and their alias, which engine wrote what down."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and room for what a collection or an upload wishes of its transcripts."""
    for name in ("hotwords", "prompt", "task"):
        op.add_column("collections", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("recordings", sa.Column("task", sa.Text(), nullable=True))
    op.add_column("recordings", sa.Column("quality", sa.JSON(), nullable=True))
    _make_speakers()
    _make_indexes()
    _tell_engines()


def downgrade() -> None:
    """Take them away again; the turns can be found again, the names are lost."""
    op.drop_index("transcript_segments_by_engine", "transcript_segments")
    with op.batch_alter_table("transcript_segments") as batch:
        batch.drop_column("degraded")
        batch.drop_column("engine")
    op.drop_table("indexes")
    op.drop_table("speaker_names")
    op.drop_table("speaker_turns")
    op.drop_column("recordings", "quality")
    op.drop_column("recordings", "task")
    for name in ("task", "prompt", "hotwords"):
        op.drop_column("collections", name)


def _make_speakers() -> None:
    op.create_table(
        "speaker_turns",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("recording_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "recording_id", "revision"),
    )
    op.create_table(
        "speaker_names",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("recording_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "recording_id", "label"),
    )
    op.create_index("speaker_names_by_name", "speaker_names", ["tenant", "name"], unique=False)


def _make_indexes() -> None:
    op.create_table(
        "indexes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("barrier", sa.Text(), nullable=False),
        sa.Column("until", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("served_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("indexes_by_generation", "indexes", ["generation"], unique=True)
    one = sa.text("state = 'serving'")
    op.create_index("indexes_serving", "indexes", ["state"], unique=True, sqlite_where=one, postgresql_where=one)


def _tell_engines() -> None:
    """Which engine wrote a segment down, out of its body to where a query can ask for it."""
    op.add_column("transcript_segments", sa.Column("engine", sa.Text(), nullable=False, server_default=""))
    op.add_column("transcript_segments", sa.Column("degraded", sa.Boolean(), nullable=False, server_default=sa.false()))
    if op.get_bind().dialect.name == "postgresql":
        found = ("body::json->'engine'->>'name'", "(body::json->'engine'->>'degraded')::boolean")
    else:
        found = ("json_extract(body, '$.engine.name')", "json_extract(body, '$.engine.degraded')")
    op.execute("UPDATE transcript_segments SET engine = %s, degraded = %s WHERE body <> ''" % found)  # noqa: UP031, S608 - constants
    op.create_index("transcript_segments_by_engine", "transcript_segments", ["tenant", "engine", "degraded"])
