"""How Weaviate holds passages: the collection, the objects, the filters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from earshot.adapters.nearest import NearestSettings
from earshot.kernel.ports import IndexedPassage, PassageSet, SearchFilters
from earshot.kernel.ports.vectors import by_label

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import _Filters

EXACT = ("recording_id", "collection", "language")
WHOLE = ("revision", "segment_index", "ordinal", "start_ms", "end_ms")
PROPERTIES = ("text", *EXACT, *WHOLE, "speakers", "recorded_at", "degraded")


def collection(dimensions: int, replicas: int, nearest: NearestSettings) -> dict[str, Any]:
    """What a collection is created with: one shard a tenant, vectors brought along, HNSW, BM25 over the text."""
    from weaviate.classes.config import Configure, StopwordsPreset, VectorDistances

    hnsw = Configure.VectorIndex.hnsw(
        distance_metric=VectorDistances.COSINE,
        max_connections=nearest.hnsw_m,
        ef_construction=nearest.hnsw_ef_construction,
        ef=nearest.hnsw_ef,
    )
    return {
        "description": f"Passages of what was said; vectors of {dimensions} dimensions.",
        "properties": _properties(),
        "vector_config": Configure.Vectors.self_provided(vector_index_config=hnsw),
        "multi_tenancy_config": Configure.multi_tenancy(auto_tenant_creation=True, auto_tenant_activation=True),
        # A query may consist of nothing but words that others call stop words.
        "inverted_index_config": Configure.inverted_index(stopwords_preset=StopwordsPreset.NONE),
        "replication_config": Configure.replication(factor=replicas, async_enabled=replicas > 1),
    }


def _properties() -> list[Any]:
    from weaviate.classes.config import DataType, Property, Tokenization

    def exact(name: str, kind: DataType) -> Property:
        return Property(name=name, data_type=kind, tokenization=Tokenization.FIELD, index_searchable=False)

    words = Property(name="text", data_type=DataType.TEXT, tokenization=Tokenization.WORD, index_filterable=False)
    return [
        words,
        *(exact(name, DataType.TEXT) for name in EXACT),
        exact("speakers", DataType.TEXT_ARRAY),
        *(Property(name=name, data_type=DataType.INT) for name in WHOLE),
        Property(name="recorded_at", data_type=DataType.DATE),
        Property(name="degraded", data_type=DataType.BOOL),
    ]


def data(passage: IndexedPassage) -> Any:
    """A passage as an object; its id is the passage's, so that writing twice is writing once."""
    from weaviate.classes.data import DataObject

    properties = {name: getattr(passage, name) for name in PROPERTIES}
    properties["speakers"] = list(passage.speakers)
    if passage.recorded_at is None:
        del properties["recorded_at"]
    else:
        properties["recorded_at"] = _aware(passage.recorded_at)
    return DataObject(properties=properties, uuid=passage.id, vector=list(passage.vector))


def passage(found: Any) -> IndexedPassage:
    """An object as a passage, without its vector."""
    properties = {name: found.properties[name] for name in (*EXACT, *WHOLE, "text", "degraded")}
    at: datetime | None = found.properties.get("recorded_at")
    speakers = tuple(found.properties.get("speakers") or ())
    return IndexedPassage(id=str(found.uuid), speakers=speakers, recorded_at=at, **properties)


def allowed(filters: SearchFilters) -> _Filters | None:
    """The filter that search filters make; ``None`` when they restrict nothing."""
    from weaviate.classes.query import Filter

    terms = []
    if filters.recording_ids:
        terms.append(Filter.by_property("recording_id").contains_any(list(filters.recording_ids)))
    if filters.collection:
        terms.append(Filter.by_property("collection").equal(filters.collection))
    if filters.collections is not None:
        terms.append(Filter.by_property("collection").contains_any(list(filters.collections)))
    if filters.language:
        terms.append(Filter.by_property("language").equal(filters.language))
    if filters.speaker:
        terms.append(_spoken_by(filters.speaker, filters.called))
    if filters.recorded_from is not None:
        terms.append(Filter.by_property("recorded_at").greater_or_equal(_aware(filters.recorded_from)))
    if filters.recorded_to is not None:
        terms.append(Filter.by_property("recorded_at").less_or_equal(_aware(filters.recorded_to)))
    return Filter.all_of(terms) if terms else None


def _spoken_by(label: str, called: Sequence[tuple[str, str]]) -> _Filters:
    """The filter that somebody speaks: under a label, or in a recording where a label has been given that name."""
    from weaviate.classes.query import Filter

    either: list[_Filters] = [Filter.by_property("speakers").contains_any([label])]
    for other, recordings in by_label(called).items():
        speaks = Filter.by_property("speakers").contains_any([other])
        either.append(Filter.all_of([speaks, Filter.by_property("recording_id").contains_any(recordings)]))
    return Filter.any_of(either)


def of_recording(recording_id: str, revision: int | None, up_to: int | None, segment_index: int | None) -> _Filters:
    """The filter that picks a recording's passages: all, or of one revision, up to one, of one segment."""
    from weaviate.classes.query import Filter

    terms = [Filter.by_property("recording_id").equal(recording_id)]
    if revision is not None:
        terms.append(Filter.by_property("revision").equal(revision))
    if up_to is not None:
        terms.append(Filter.by_property("revision").less_or_equal(up_to))
    if segment_index is not None:
        terms.append(Filter.by_property("segment_index").equal(segment_index))
    return Filter.all_of(terms)


def of_segments(sets: Sequence[PassageSet]) -> _Filters:
    """The filter that picks everything these sets are to replace, and themselves."""
    from weaviate.classes.query import Filter

    return Filter.any_of([of_recording(each.recording_id, None, each.revision, each.segment_index) for each in sets])


def _aware(at: datetime) -> datetime:
    """A time without a zone is UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)
