"""How LanceDB holds passages: the columns, and the conditions on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from earshot.kernel.ports import IndexedPassage, PassageSet, SearchFilters
from earshot.kernel.ports.vectors import by_label

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = (
    "id", "recording_id", "revision", "segment_index", "ordinal", "start_ms", "end_ms", "text", "collection",
    "language", "speakers", "recorded_at", "degraded",
)  # fmt: skip
"""Without the vector, which is never read back. ``recorded_at`` is µs since the epoch, in UTC."""


def schema(dimensions: int) -> pa.Schema:
    """The columns of an index whose vectors have so many dimensions."""
    import pyarrow as pa

    whole = dict.fromkeys(("revision", "segment_index", "ordinal", "start_ms", "end_ms", "recorded_at"), pa.int64())
    special = whole | {"speakers": pa.list_(pa.string()), "degraded": pa.bool_()}
    fields = [pa.field(name, special.get(name, pa.string())) for name in COLUMNS]
    return pa.schema([*fields, pa.field("vector", pa.list_(pa.float32(), dimensions))])


def row(passage: IndexedPassage) -> dict[str, Any]:
    """A passage as a row."""
    values = {name: getattr(passage, name) for name in COLUMNS}
    return values | {
        "speakers": list(passage.speakers),
        "recorded_at": None if passage.recorded_at is None else _micros(passage.recorded_at),
        "vector": list(passage.vector),
    }


def passage(row: dict[str, Any]) -> IndexedPassage:
    """A row as a passage, without its vector."""
    values = {name: row[name] for name in COLUMNS}
    at = values.pop("recorded_at")
    speakers = tuple(values.pop("speakers") or ())
    return IndexedPassage(
        **values, speakers=speakers, recorded_at=None if at is None else _EPOCH + timedelta(microseconds=at)
    )


def allowed(filters: SearchFilters) -> str:
    """The condition that search filters make; empty when they restrict nothing."""
    terms = []
    if filters.recording_ids:
        terms.append(f"recording_id IN ({_listed(filters.recording_ids)})")
    if filters.collection:
        terms.append(f"collection = {text(filters.collection)}")
    if filters.collections is not None:
        terms.append(f"collection IN ({', '.join(text(name) for name in filters.collections)})")
    if filters.language:
        terms.append(f"language = {text(filters.language)}")
    if filters.speaker:
        terms.append(_spoken_by(filters.speaker, filters.called))
    if filters.recorded_from is not None:
        terms.append(f"recorded_at >= {_micros(filters.recorded_from)}")
    if filters.recorded_to is not None:
        terms.append(f"recorded_at <= {_micros(filters.recorded_to)}")
    return " AND ".join(terms)


def _spoken_by(label: str, called: Sequence[tuple[str, str]]) -> str:
    """The condition that somebody speaks: under a label, or in a recording where a label has been given that name."""
    either = [f"array_has(speakers, {text(label)})"]
    for other, recordings in by_label(called).items():
        either.append(f"(array_has(speakers, {text(other)}) AND recording_id IN ({_listed(recordings)}))")
    return f"({' OR '.join(either)})"


def of_recording(recording_id: str, revision: int | None, up_to: int | None, segment_index: int | None) -> str:
    """The condition that picks a recording's passages: all, or of one revision, up to one, of one segment."""
    terms = [f"recording_id = {text(recording_id)}"]
    if revision is not None:
        terms.append(f"revision = {int(revision)}")
    if up_to is not None:
        terms.append(f"revision <= {int(up_to)}")
    if segment_index is not None:
        terms.append(f"segment_index = {int(segment_index)}")
    return " AND ".join(terms)


def replaced(sets: Sequence[PassageSet]) -> str:
    """The condition that picks what these sets replace: everything of their segments but their own passages."""
    segments = (of_recording(each.recording_id, None, each.revision, each.segment_index) for each in sets)
    condition = " OR ".join(f"({segment})" for segment in segments)
    kept = _listed(passage.id for each in sets for passage in each.passages)
    return f"({condition}) AND id NOT IN ({kept})" if kept else condition


def text(value: str) -> str:
    """A string literal. DataFusion knows one escape inside it, the doubled quote; a backslash is itself."""
    return "'" + value.replace("'", "''") + "'"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(text(value) for value in values)


def _micros(at: datetime) -> int:
    """µs since the epoch; a time without a zone is UTC."""
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
