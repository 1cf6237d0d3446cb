"""In memory: a vector store and an embedding model, as exact as they are small."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from earshot.adapters.fusion import fuse
from earshot.kernel.ports import IndexedPassage, PassageSet, ScoredPassage, SearchFilters, SearchMode


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class FakeEncoder:
    """A text's words, hashed into a vector of unit length: texts that share words are close."""

    model = "fake"

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions
        self.calls: list[list[str]] = []

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls.append(list(texts))
        return [self._encode(text) for text in texts]

    async def encode_query(self, text: str) -> list[float]:
        return self._encode(text)

    def _encode(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        for word in words_of(text) or [""]:
            place = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % self.dimensions
            vector[place] += 1.0
        length = math.sqrt(sum(number * number for number in vector))
        return [number / length for number in vector]


class FakeReranker:
    """Scores a text by the words it shares with the question, over its length. ``failure``, when set, is raised."""

    model = "fake"

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.calls: list[tuple[str, list[str]]] = []

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        self.calls.append((query, list(texts)))
        if self.failure is not None:
            raise self.failure
        wanted = set(words_of(query))
        return [len(wanted & set(words_of(text))) / (len(words_of(text)) or 1) for text in texts]


class FakeVectors:
    """A dictionary of passages for each index and tenant, in the order they were written."""

    def __init__(self) -> None:
        self.passages: dict[str, dict[str, dict[str, IndexedPassage]]] = {}
        self.alias = ""

    async def prepare(self, index: str, dimensions: int) -> None:
        self.passages.setdefault(index, {})

    async def replace(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        revision: int,
        segment_index: int,
        passages: Sequence[IndexedPassage],
    ) -> None:
        held = self.passages[index].setdefault(tenant, {})
        for passage in list(held.values()):
            segment = (passage.recording_id, passage.segment_index)
            if segment == (recording_id, segment_index) and passage.revision <= revision:
                del held[passage.id]
        held.update({passage.id: passage for passage in passages})

    async def replace_many(self, index: str, tenant: str, sets: Sequence[PassageSet]) -> None:
        for each in sets:
            await self.replace(index, tenant, each.recording_id, each.revision, each.segment_index, each.passages)

    async def delete(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        *,
        revision: int | None = None,
        up_to: int | None = None,
        segment_index: int | None = None,
    ) -> None:
        held = self._held(index, tenant)
        for passage in list(held.values()):
            if (
                passage.recording_id == recording_id
                and (revision is None or passage.revision == revision)
                and (up_to is None or passage.revision <= up_to)
                and (segment_index is None or passage.segment_index == segment_index)
            ):
                del held[passage.id]

    async def search(
        self,
        index: str,
        tenant: str,
        *,
        text: str,
        vector: Sequence[float] | None,
        mode: SearchMode,
        filters: SearchFilters,
        limit: int,
    ) -> list[ScoredPassage]:
        held = [passage for passage in self._held(index, tenant).values() if _allowed(passage, filters)]
        by_words = _ranked(held, [_shared(text, passage) for passage in held])
        by_words = [hit for hit in by_words if hit.score > 0]
        if mode == "keyword":
            return by_words[:limit]
        assert vector is not None
        by_vector = _ranked(held, [sum(a * b for a, b in zip(vector, passage.vector, strict=True)) for passage in held])
        return (by_vector if mode == "vector" else fuse([by_words, by_vector]))[:limit]

    async def passages_of(self, index: str, tenant: str, recording_id: str) -> list[IndexedPassage]:
        held = self._held(index, tenant).values()
        return [replace(passage, vector=()) for passage in held if passage.recording_id == recording_id]

    async def relabel(self, index: str, tenant: str, speakers: Mapping[str, Sequence[str]]) -> None:
        held = self._held(index, tenant)
        for key, labels in speakers.items():
            if key in held:
                held[key] = replace(held[key], speakers=tuple(labels))

    async def count(self, index: str, tenant: str, recording_id: str | None = None) -> int:
        held = self._held(index, tenant).values()
        return sum(recording_id in (None, passage.recording_id) for passage in held)

    async def indexes(self) -> list[str]:
        return sorted(self.passages)

    async def serve(self, index: str) -> None:
        self.alias = index

    async def drop(self, index: str) -> None:
        self.passages.pop(index, None)

    async def forget(self, index: str, tenant: str) -> None:
        self.passages.get(index, {}).pop(tenant, None)

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _held(self, index: str, tenant: str) -> dict[str, IndexedPassage]:
        return self.passages.get(index, {}).get(tenant, {})


def _ranked(passages: Sequence[IndexedPassage], scores: Sequence[float]) -> list[ScoredPassage]:
    hits = [ScoredPassage(replace(passage, vector=()), score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(hits, key=lambda hit: -hit.score)


def _shared(text: str, passage: IndexedPassage) -> float:
    return float((Counter(words_of(text)) & Counter(words_of(passage.text))).total())


def _speaks(passage: IndexedPassage, filters: SearchFilters) -> bool:
    called = {label for recording_id, label in filters.called if recording_id == passage.recording_id}
    return bool({filters.speaker, *called} & set(passage.speakers))


def _allowed(passage: IndexedPassage, filters: SearchFilters) -> bool:
    at = passage.recorded_at
    return (
        (not filters.recording_ids or passage.recording_id in filters.recording_ids)
        and (not filters.collection or filters.collection == passage.collection)
        and (filters.collections is None or passage.collection in filters.collections)
        and (not filters.language or filters.language == passage.language)
        and (not filters.speaker or _speaks(passage, filters))
        and (filters.recorded_from is None or (at is not None and at >= filters.recorded_from))
        and (filters.recorded_to is None or (at is not None and at <= filters.recorded_to))
    )
