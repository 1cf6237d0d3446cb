"""Which events go into which index, and which of them say that a segment can be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from earshot.kernel import ids
from earshot.kernel.events import Event, SegmentEmbedded
from earshot.kernel.ports import VectorStore
from earshot.kernel.ports.indexes import Indexes, IndexState
from earshot.kernel.stage import Delivery


class Routes:
    """What the catalog says of the indexes at one moment.

    One it has never heard of is written like the one that serves: its embedder is another's.

    Args:
        states: by the name of the index.
    """

    def __init__(self, states: Mapping[str, IndexState]) -> None:
        self._states = states

    @classmethod
    async def read(cls, indexes: Indexes) -> Routes:
        """What the catalog says now. Raises ``Unavailable``."""
        return cls({index.name: index.state for index in await indexes.indexes()})

    def open(self, event: Event) -> bool:
        """Whether what the event says is still to be written: not into an index that was dropped."""
        return self._state(event) != "dropped"

    def speaks(self, event: Event) -> bool:
        """Whether writing it makes it searchable: not in an index that is only being built."""
        return self._state(event) != "building"

    def split(self, batch: Sequence[Delivery[Any]]) -> tuple[list[Delivery[Any]], list[Delivery[Any]]]:
        """What is to be written, and what came too late for its index."""
        return (
            [delivery for delivery in batch if self.open(delivery.event)],
            [delivery for delivery in batch if not self.open(delivery.event)],
        )

    def _state(self, event: Event) -> IndexState | None:
        return self._states.get(index_of(event)) if isinstance(event, SegmentEmbedded) else None


def index_of(event: SegmentEmbedded) -> str:
    """The name of the index that an event's vectors belong to."""
    return ids.index_name(event.model, event.dimensions)


async def sweep(batch: Sequence[Delivery[Any]], vectors: VectorStore, indexes: Indexes) -> None:
    """Look again after writing: an index that was dropped meanwhile may just have been made anew."""
    routes = await Routes.read(indexes)
    written = [delivery.event for delivery in batch if isinstance(delivery.event, SegmentEmbedded)]
    for name in sorted({index_of(event) for event in written if not routes.open(event)}):
        await vectors.drop(name)
