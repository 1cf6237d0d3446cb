"""Finished spans, where traces are kept when no OTLP endpoint is set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.adapters.catalog.engine import insert
from earshot.kernel.ports import SpanRow


class SpansPart(Part):
    """Synchronous: called on the exporter's own thread."""

    def write(self, spans: Sequence[SpanRow]) -> None:
        """Insert spans; the same span again is no error, one of an erased recording is dropped."""

        def work(connection: sa.Connection) -> None:
            erased = _erased(connection, {(span.tenant, span.recording_id) for span in spans})
            rows = [_values(span) for span in spans if (span.tenant, span.recording_id) not in erased]
            for some in chunks(rows):
                connection.execute(insert(connection, t.spans).values(some).on_conflict_do_nothing())

        self._db.write_now(work)

    def of_trace(self, tenant: str, trace_id: str) -> list[SpanRow]:
        """The spans of a trace, in order of start."""
        c = t.spans.c
        query = sa.select(t.spans).where(c.tenant == tenant, c.trace_id == trace_id).order_by(c.start_ns, c.span_id)
        return self._db.read_now(lambda connection: [_span(row) for row in connection.execute(query)])


def _erased(connection: sa.Connection, keys: set[tuple[str, str]]) -> set[tuple[str, str]]:
    c = t.recordings.c
    found: set[tuple[str, str]] = set()
    for some in chunks(sorted(keys)):
        query = sa.select(c.tenant, c.id).where(sa.tuple_(c.tenant, c.id).in_(some), c.state == "erased")
        found |= {(row.tenant, row.id) for row in connection.execute(query)}
    return found


def _values(span: SpanRow) -> dict[str, object]:
    return asdict(span) | {"attributes": json.dumps(dict(span.attributes), default=str)}


def _span(row: sa.Row[tuple[object, ...]]) -> SpanRow:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    return SpanRow(**values | {"attributes": json.loads(str(values["attributes"]))})
