"""The progress of every recording, from what the stages say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from earshot.kernel.events import StageProgressed
from earshot.kernel.ports import Ledger
from earshot.kernel.stage import Delivery, Output


async def track(batch: Sequence[Delivery[StageProgressed]], ledger: Ledger) -> AsyncIterator[Output]:
    """Write a batch into the ledger. Nothing is published here: a completion leaves through the outbox.

    Raises:
        UnknownRecording: the catalog has never heard of one of the recordings.
        Unavailable: the catalog does not answer.
    """
    await ledger.record([delivery.event for delivery in batch])
    for _ in ():
        yield _
