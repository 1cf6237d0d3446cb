"""Dead letters: the original bytes and headers, and beside them what happened where."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from earshot.kernel import dead_letters as letters
from earshot.kernel.codec import Record
from earshot.kernel.errors import EarshotError, Misconfigured, Permanent
from earshot.kernel.topics import DEAD_LETTER_SUFFIX
from earshot.streams.sender import Sender

MAX_ERROR_CHARS = 2000


class DeadLetters:
    """The dead-letter topics of one stage's sources.

    Args:
        stage: its name.
        sender: publishes.
        limit: so many in a row, without a success between, stop the worker.
        clock: when it failed.
    """

    def __init__(
        self, stage: str, sender: Sender, limit: int, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._stage = stage
        self._sender = sender
        self._limit = limit
        self._clock = clock
        self._in_a_row = 0

    async def put(self, record: Record, error: EarshotError, trace_id: str) -> None:
        """Publish a record to the dead-letter topic of its topic; returns when the broker has acknowledged it.

        Raises:
            Unavailable: the broker does not answer.
            Misconfigured: too many in a row, or the dead-letter topic refuses the record.
        """
        if self._in_a_row >= self._limit:
            raise Misconfigured(
                f"{self._limit} events in a row could not be processed by {self._stage}; the last reason: {error}",
                next_step="Correct the cause and start the worker again; nothing more was dead-lettered.",
            )
        letter = dead_letter(record, self._stage, error, trace_id, self._clock())
        try:
            await self._sender.send(letter)
        except Permanent as refused:
            raise Misconfigured(
                f"{letter.topic} refuses a dead letter: {refused.detail}",
                next_step="Raise the topic's max.message.bytes above that of the topic it belongs to.",
            ) from refused
        self._in_a_row += 1

    def succeeded(self) -> None:
        """Something was processed: the row is broken."""
        self._in_a_row = 0


def dead_letter(record: Record, stage: str, error: EarshotError, trace_id: str, failed_at: datetime) -> Record:
    """The dead letter of a record: same key, bytes and headers, with ``earshot-*`` headers after them."""
    why = {
        letters.STAGE: stage,
        letters.CODE: error.code,
        letters.ERROR: str(error)[:MAX_ERROR_CHARS],
        letters.SOURCE: f"{record.topic}/{record.partition}/{record.offset}",
        letters.TRACE_ID: trace_id,
        letters.FAILED_AT: failed_at.isoformat(timespec="milliseconds"),
    }
    headers = record.headers + tuple((name, text.encode()) for name, text in why.items())
    return Record(record.topic + DEAD_LETTER_SUFFIX, record.key, record.value, headers)
