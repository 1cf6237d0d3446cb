"""Deterministic identifiers: the same input always has the same id, so every write is an upsert.

All ids are UUIDv5 (RFC 9562, section 5.5) below one namespace; parts are joined by U+001F, a character
that no part may contain, so two different lists of parts never collide.
"""

from __future__ import annotations

import hashlib
import re
import uuid
import zlib

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:earshot")
_SEPARATOR = "\x1f"


def derive(*parts: str | int) -> str:
    """Return the UUIDv5 of the given parts, as a string.

    Raises:
        ValueError: a part contains the separator U+001F.
    """
    texts = [str(part) for part in parts]
    if any(_SEPARATOR in text for text in texts):
        raise ValueError("an id part may not contain U+001F")
    return str(uuid.uuid5(NAMESPACE, _SEPARATOR.join(texts)))


def is_canonical(text: str) -> bool:
    """Whether a text is a UUID as it is usually written: lower case, with hyphens."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def new_recording_id() -> str:
    """Mint the id of a recording that comes in at the door. Never reused."""
    return str(uuid.uuid4())


def foreign_recording_id(tenant: str, source: str, event_id: str) -> str:
    """The recording id of an ``audio.uploaded`` event that names none: from tenant, ``ce_source``, ``ce_id``."""
    return derive("recording", tenant, source, event_id)


def bare_recording_id(tenant: str, topic: str, partition: int, offset: int) -> str:
    """The recording id of an ``audio.uploaded`` event without headers: from where it lies in the log."""
    return derive("recording", tenant, topic, partition, offset)


def job_id(recording_id: str, revision: int) -> str:
    """The job of one attempt."""
    return derive("job", recording_id, revision)


def segment_id(recording_id: str, revision: int, index: int) -> str:
    """One segment of one attempt."""
    return derive("segment", recording_id, revision, index)


def passage_id(segment: str, model: str, ordinal: int) -> str:
    """One passage of a segment in the index of one embedding model."""
    return derive("passage", segment, model, ordinal)


def index_name(model: str, dimensions: int) -> str:
    """The index of one embedding model: letters, digits and ``_``, valid in every vector store.

    ``wordllama-l2`` of 256 dimensions lives in ``Passages_wordllama_l2_256``. A name that is not plain lower case
    joined by single hyphens gets a hash, so that two models never share an index.
    """
    slug = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")
    if slug.replace("_", "-") != model:
        slug = f"{slug[:64]}_{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return f"Passages_{slug}_{dimensions}"


def event_id(topic: str, key: str, body: bytes) -> str:
    """The ``ce_id`` of an event: equal bodies under equal keys are the same event."""
    return derive("event", topic, key, hashlib.sha256(body).hexdigest())


def slot(recording_id: str, index: int = 0) -> int:
    """Where a segment goes: partition ``slot mod P``, round robin from a start that the recording's id gives."""
    return zlib.crc32(recording_id.encode()) + index
