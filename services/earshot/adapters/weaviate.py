"""Weaviate: vectors on a server. One collection for each index, one tenant in it for each of ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from earshot.adapters import weaviate_rows as rows
from earshot.adapters.guard import VECTORS, Figures, Guards, reads, writes
from earshot.adapters.nearest import NearestSettings
from earshot.adapters.passage_sets import settle
from earshot.adapters.weaviate_client import WRITE_S, WeaviateConnection
from earshot.adapters.weaviate_writes import delete_where, insert
from earshot.kernel.ports import IndexedPassage, PassageSet, ScoredPassage, SearchFilters, SearchMode

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient

ALIAS = "Passages"
"""Points at the index that serves, for other clients of the server; ours name the index they mean."""
SETS_A_WRITE = 64
MOST_RESULTS = 10_000
"""Weaviate's own limit of one answer (QUERY_MAXIMUM_RESULTS)."""
PAGE = 5_000
"""Passages read at once; half of what one answer may hold."""
RELABELS_AT_ONCE = 16


class WeaviateStore:
    """Passages on a Weaviate server or cluster.

    Args:
        url: ``weaviate://[api-key@]host[:8080][?grpc=50051&replicas=1]``, or ``weaviates://`` for TLS.
        nearest: what the graphs of new indexes are built with, and what queries look at.
        figures: of the breakers.

    Raises:
        Misconfigured: the URL cannot be used.
    """

    def __init__(self, url: str, nearest: NearestSettings | None = None, figures: Figures = VECTORS) -> None:
        self.guards = Guards("vectors", figures)
        self._nearest = nearest or NearestSettings()
        self._to = WeaviateConnection(url)

    @reads  # it hardly ever writes; its success says nothing of whether passages can be written
    async def prepare(self, index: str, dimensions: int) -> None:
        """Create the index unless it is there, and the alias unless it points at something."""
        client = await self._to.client()
        async with self._to.answering(WRITE_S):
            if not await client.collections.exists(index):
                await self._create(client, index, dimensions)
            await self._look_at(client, index)
            if not await client.alias.exists(alias_name=ALIAS):
                await client.alias.create(alias_name=ALIAS, target_collection=index)

    async def _look_at(self, client: WeaviateAsyncClient, index: str) -> None:
        """Let queries look at as many neighbours as the settings say; what an index was built with stays."""
        from weaviate.classes.config import Reconfigure

        config = client.collections.get(index).config
        vectors = (await config.get()).vector_config or {}
        for name, held in vectors.items():
            if getattr(held.vector_index_config, "ef", self._nearest.hnsw_ef) != self._nearest.hnsw_ef:
                hnsw = Reconfigure.VectorIndex.hnsw(ef=self._nearest.hnsw_ef)
                await config.update(vector_config=Reconfigure.Vectors.update(name=name, vector_index_config=hnsw))

    async def _create(self, client: WeaviateAsyncClient, index: str, dimensions: int) -> None:
        from weaviate.exceptions import UnexpectedStatusCodeError

        try:
            await client.collections.create(index, **rows.collection(dimensions, self._to.replicas, self._nearest))
        except UnexpectedStatusCodeError:
            if not await client.collections.exists(index):  # else another worker was faster
                raise

    async def replace(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        revision: int,
        segment_index: int,
        passages: Sequence[IndexedPassage],
    ) -> None:
        """Make these the only passages of the segment at this revision or below."""
        await self.replace_many(index, tenant, [PassageSet(recording_id, revision, segment_index, tuple(passages))])

    @writes
    async def replace_many(self, index: str, tenant: str, sets: Sequence[PassageSet]) -> None:
        """Write the sets' passages, then delete the others of their segments: a reader never sees a gap."""
        held = await self._to.tenant(index, tenant)
        settled = settle(sets)
        for at in range(0, len(settled), SETS_A_WRITE):
            part = settled[at : at + SETS_A_WRITE]
            new = [passage for each in part for passage in each.passages]
            await insert(self._to, held, new)
            await self._delete_others(index, tenant, part, {passage.id for passage in new})

    async def _delete_others(self, index: str, tenant: str, sets: Sequence[PassageSet], kept: set[str]) -> None:
        from weaviate.classes.query import Filter

        there = rows.of_segments(sets)
        while True:
            found = await self._to.read(
                index, tenant, "fetch_objects", filters=there, limit=MOST_RESULTS, return_properties=[]
            )
            others = [str(item.uuid) for item in found if str(item.uuid) not in kept]
            if others:
                await self._delete_where(index, tenant, Filter.by_id().contains_any(others))
            if len(found) < MOST_RESULTS or not others:
                return

    @writes
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
        """Delete a recording's passages: of one revision, of those up to one, of one segment, or all."""
        await self._delete_where(index, tenant, rows.of_recording(recording_id, revision, up_to, segment_index))

    async def _delete_where(self, index: str, tenant: str, where: Any) -> None:
        if await self._to.exists(index, tenant):
            await delete_where(self._to, await self._to.tenant(index, tenant), where)

    @reads
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
        """The best passages: by BM25, by cosine similarity, or by both rankings fused on the server.

        The fusion is by rank (reciprocal, k = 60), not by relative score: the same as the embedded store's, so that
        a system that grows from one to the other finds alike.
        """
        from weaviate.classes.query import HybridFusion, MetadataQuery

        has_words = re.search(r"\w", text) is not None
        if mode == "keyword" and not has_words:
            return []
        if mode != "keyword" and vector is None:
            raise ValueError(f"a {mode} search needs a vector")
        how: dict[str, Any] = {
            "filters": rows.allowed(filters),
            "limit": limit,
            "return_properties": list(rows.PROPERTIES),
        }
        if mode == "keyword":
            scored = MetadataQuery(score=True)
            found = await self._to.read(
                index, tenant, "bm25", query=text, query_properties=["text"], return_metadata=scored, **how
            )
        elif mode == "vector" or not has_words:
            near = MetadataQuery(distance=True)
            found = await self._to.read(
                index, tenant, "near_vector", near_vector=list(vector or ()), return_metadata=near, **how
            )
        else:
            how |= {"query_properties": ["text"], "fusion_type": HybridFusion.RANKED, "alpha": 0.5}
            how["return_metadata"] = MetadataQuery(score=True)
            found = await self._to.read(index, tenant, "hybrid", query=text, vector=list(vector or ()), **how)
        return [ScoredPassage(rows.passage(item), _score(item)) for item in found]

    @reads
    async def passages_of(self, index: str, tenant: str, recording_id: str) -> list[IndexedPassage]:
        """Every passage of a recording, of every revision, without vectors; read in pages of whole segments."""
        from weaviate.classes.query import Filter, Sort

        found: dict[str, IndexedPassage] = {}
        first, in_order = 0, Sort.by_property("segment_index")
        of_it = rows.of_recording(recording_id, None, None, None)
        while True:
            rest = Filter.all_of([of_it, Filter.by_property("segment_index").greater_or_equal(first)])
            how: dict[str, Any] = {"filters": rest, "sort": in_order, "limit": PAGE}
            page = await self._to.read(index, tenant, "fetch_objects", return_properties=list(rows.PROPERTIES), **how)
            found |= {passage.id: passage for passage in map(rows.passage, page)}
            last = int(page[-1].properties["segment_index"]) if page else first
            if len(page) < PAGE:
                return list(found.values())
            first = max(last, first + 1)

    @writes
    async def relabel(self, index: str, tenant: str, speakers: Mapping[str, Sequence[str]]) -> None:
        """Say who speaks in passages, by their ids, a few at a time. One that is gone meanwhile stays gone."""
        if not await self._to.exists(index, tenant):
            return
        held, items = await self._to.tenant(index, tenant), list(speakers.items())
        for at in range(0, len(items), RELABELS_AT_ONCE):
            await asyncio.gather(*(self._relabel(held, *item) for item in items[at : at + RELABELS_AT_ONCE]))

    async def _relabel(self, held: Any, key: str, labels: Sequence[str]) -> None:
        from weaviate.exceptions import UnexpectedStatusCodeError

        async with self._to.answering(WRITE_S):
            try:
                await held.data.update(uuid=key, properties={"speakers": list(labels)})
            except UnexpectedStatusCodeError as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise

    @reads
    async def count(self, index: str, tenant: str, recording_id: str | None = None) -> int:
        """How many passages a tenant, or one recording of its, has."""
        if not await self._to.exists(index, tenant):
            return 0
        where = None if recording_id is None else rows.of_recording(recording_id, None, None, None)
        held = await self._to.tenant(index, tenant)
        async with self._to.answering():
            counted = await held.aggregate.over_all(filters=where, total_count=True)
        return int(counted.total_count or 0)

    @reads
    async def indexes(self) -> list[str]:
        """Every index there is: the collections that are ours by name."""
        client = await self._to.client()
        async with self._to.answering():
            return sorted(name for name in await client.collections.list_all() if name.startswith(f"{ALIAS}_"))

    @writes
    async def serve(self, index: str) -> None:
        """Point the alias at the index: one request, so another client finds the old one or the new one."""
        client = await self._to.client()
        async with self._to.answering(WRITE_S):
            if await client.alias.exists(alias_name=ALIAS):
                await client.alias.update(alias_name=ALIAS, new_target_collection=index)
            else:
                await client.alias.create(alias_name=ALIAS, target_collection=index)

    @writes
    async def drop(self, index: str) -> None:
        """Delete the index; one that is not there is no error."""
        client = await self._to.client()
        async with self._to.answering(WRITE_S):
            if await client.collections.exists(index):
                await client.collections.delete(index)

    @writes
    async def forget(self, index: str, tenant: str) -> None:
        """Delete the tenant's part of the index; it is made anew by the next that writes to it."""
        if await self._to.exists(index, tenant):
            client = await self._to.client()
            async with self._to.answering(WRITE_S):
                await client.collections.get(index).tenants.remove([tenant])

    async def ping(self) -> None:
        """Return when the server is ready to answer."""
        await self._to.ping()
        self.guards.alive()

    async def close(self) -> None:
        """Close the connections."""
        await self._to.close()


def _score(item: Any) -> float:
    """Higher is better: BM25 or fused score, else cosine similarity from the distance."""
    if item.metadata.distance is not None:
        return 1.0 - float(item.metadata.distance)
    return float(item.metadata.score or 0.0)
