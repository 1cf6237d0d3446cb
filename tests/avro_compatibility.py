"""Whether two versions of a schema can live side by side, judged by encoding and decoding real bodies."""

from __future__ import annotations

import io
from typing import Any

import fastavro
from fastavro.schema import parse_schema


def incompatibilities(old: dict[str, Any], new: dict[str, Any], bodies: list[dict[str, Any]]) -> list[str]:
    """What breaks when readers and writers of the two versions meet; empty when nothing does.

    Args:
        old: a version that was published.
        new: the version that is to follow it.
        bodies: events that fit the new version; what the old one does not know is left out when it writes.
    """
    found = []
    for number, body in enumerate(bodies):
        for writer, reader, direction in (
            (old, new, "the new reader cannot read the old writer (BACKWARD)"),
            (new, old, "the old reader cannot read the new writer (FORWARD)"),
        ):
            try:
                carry(body, writer, reader)
            except Exception as error:  # fastavro has no common base class for what does not fit
                found.append(f"{direction}, body {number}: {type(error).__name__}: {error}")
    return found


def carry(body: dict[str, Any], writer: dict[str, Any], reader: dict[str, Any]) -> Any:
    """Encode a body with one schema and decode it with the other. Raises what fastavro raises."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parse_schema(writer), body)
    buffer.seek(0)
    return fastavro.schemaless_reader(buffer, parse_schema(writer), parse_schema(reader))
