"""At-least-once on top of Faust's consumers: which offset is committed, and when acknowledgements are dropped.

Stock Faust commits past records that are in flight, drops acknowledged offsets before it commits them on a
revoke, skips fetched records of partitions paused meanwhile, and takes a failed commit for done.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify

from earshot.streams.offsets import Offsets

if TYPE_CHECKING:
    from faust.transport.consumer import Consumer as _Base
else:
    _Base = object

REVOKE_COMMIT_S = 5.0
"""How long a revoke waits for the commit of what is acknowledged; what is not committed then is done again."""

log = structlog.get_logger()


class _Unfiltered(defaultdict[TP, Any]):
    """Stands in for Faust's read offsets, by which it would silently drop a record that comes again."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __getitem__(self, _partition: TP) -> None:
        return None


class LowestUnacked(_Base):
    """Mixed in before a Faust consumer class. Only streams under ``noack()`` with explicit acks are ever committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.offsets: Offsets[TP] = Offsets()
        self._seeks = 0
        super().__init__(*args, **kwargs)
        self._read_offset = _Unfiltered()

    def track_delivery(self, partition: TP, offset: int, generation: int) -> int | None:
        """Note a record in the moment in which it is handed to the conductor; return the offset to be expected."""
        return self.offsets.delivered(partition, offset, generation)

    def ack(self, message: Any) -> bool:
        """Note an acknowledgement; those of an older generation are ignored, their records come again."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            noted = self.offsets.acked(message.tp, message.offset, message.generation_id or 0)
            self._n_acked += 1
            notify(self._waiting_for_ack)
            return noted

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        seeks = self._seeks
        records = await super()._getmany(active_partitions, timeout)  # type: ignore[safe-super]
        if seeks != self._seeks:
            # These records may lie behind the position that was sought meanwhile: go there again.
            await self.perform_seek()
            return {}
        return records

    async def _wait_next_records(self, timeout: float) -> tuple[Any, None]:  # noqa: ASYNC109 - Faust's signature
        # None: deliver all that was fetched. Faust would skip the records of partitions paused since, for good.
        records, _ = await super()._wait_next_records(timeout)
        return records, None

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch from the partitions again. The Kafka driver's own partition type would crash Faust here."""
        super().resume_partitions({TP(*tp) for tp in tps})

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch from a partition again whose events were too many for Faust's buffer, unless it is paused."""
        super().on_buffer_drop(tp)
        if tp in self._paused_partitions:
            self._get_active_partitions().discard(tp)

    async def perform_seek(self) -> None:
        """Go back to the committed offsets."""
        self._seeks += 1
        self.offsets.rewind()
        committed = await self.seek_to_committed()
        self._seeks += 1
        for partition, offset in committed.items():
            known = offset if offset is not None and offset >= 0 else None
            self.offsets.committed(TP(partition.topic, partition.partition), known)

    async def seek(self, partition: TP, offset: int) -> None:
        """Go to an offset of a partition."""
        self._seeks += 1
        self.offsets.rewind([partition])
        await super().seek(partition, offset)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is acknowledged, let Faust drain what is in work, then forget the partitions."""
        try:
            await asyncio.wait_for(self._commit_now(), REVOKE_COMMIT_S)
        except TimeoutError:
            log.warning("commit on revoke timed out", seconds=REVOKE_COMMIT_S)
        await super().on_partitions_revoked(revoked)
        self.offsets.forget(revoked)

    async def _commit_now(self) -> None:
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        wanted = None if topics is None else set(topics)
        return (tp for tp in self.offsets.partitions() if wanted is None or tp in wanted or tp.topic in wanted)

    def _new_offset(self, tp: TP) -> int | None:
        return self.offsets.next_commit(tp)

    def _should_commit(self, _tp: TP, _offset: int) -> bool:
        return True

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        done = bool(await super()._commit(offsets))  # type: ignore[safe-super]
        if done:
            for partition, offset in offsets.items():
                self.offsets.committed(TP(partition.topic, partition.partition), offset)
        return done
