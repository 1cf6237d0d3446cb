"""Faust's producer behind our port: the broker's refusals named after who acts, and none of them left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Protocol

import faust
import structlog
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from earshot.kernel.codec import Record
from earshot.kernel.errors import EarshotError, Misconfigured, Permanent, Unavailable

STOP_S = 10.0
"""How long a replaced producer may take to let go."""
log = structlog.get_logger()


class Guard(Protocol):
    """A breaker: what failed again and again is not asked again for a while."""

    def check(self) -> None:
        """Raise ``Unavailable`` while the broker is left alone."""

    def failed(self, error: Unavailable) -> None:
        """A record was not acknowledged."""

    def succeeded(self) -> None:
        """A record was acknowledged."""


class FaustProducer:
    """The producer of an app. One record is handed over at a time.

    Args:
        app: whose producer.
        guard: of the broker; ``None``: it is asked however often it fails.
    """

    def __init__(self, app: faust.App, guard: Guard | None = None) -> None:
        self._app = app
        self._guard = guard
        self._broken = False
        self._turn = asyncio.Lock()

    async def send(self, record: Record) -> Awaitable[None]:
        """Hand a record to the transport; the result resolves when the broker has acknowledged it."""
        if self._guard is not None:
            self._guard.check()
        try:
            async with self._turn:
                future = await self._hand_over(record)
        except Exception as error:  # whatever the driver raises is named after who acts
            raise self._noted(refusal(record.topic, error)) from error
        return self._confirmed(record.topic, future)

    async def _hand_over(self, record: Record) -> Awaitable[Any]:
        producer = await self._app.maybe_start_producer()
        if self._broken:
            await _renew(producer)
            self._broken = False
        handed: Awaitable[Any] = await producer.send(
            record.topic, record.key, record.value, record.partition, time.time(), list(record.headers)
        )
        return handed

    async def _confirmed(self, topic: str, future: Awaitable[Any]) -> None:
        try:
            await future
        except Exception as error:  # whatever the driver raises is named after who acts
            self._broken = self._broken or isinstance(error, KafkaError)
            raise self._noted(refusal(topic, error)) from error
        if self._guard is not None:
            self._guard.succeeded()

    def _noted(self, error: Exception) -> Exception:
        if self._guard is not None and isinstance(error, Unavailable):
            self._guard.failed(error)
        return error


async def _renew(producer: Any) -> None:
    """Go on with a new Kafka producer.

    A refused batch leaves a gap in the sequence of an idempotent producer. aiokafka never closes it, and the broker
    refuses everything that comes after it on that partition (OutOfOrderSequenceNumber).
    """
    old, fresh = producer._producer, producer._new_producer()  # noqa: SLF001 - as the driver's own on_start does
    try:
        await fresh.start()
    except Exception:
        await fresh.stop()
        raise
    producer._producer = fresh  # noqa: SLF001
    try:
        await asyncio.wait_for(old.stop(), STOP_S)
    except (TimeoutError, KafkaError) as error:
        log.warning("producer_replaced_without_an_answer", error=repr(error))


def refusal(topic: str, error: Exception) -> Exception:
    """The error of a send as ours; one that is nobody's known fault stays as it is."""
    cause = error.__cause__ if isinstance(error.__cause__, KafkaError) else error
    if isinstance(cause, EarshotError):
        return cause
    if isinstance(cause, (MessageSizeTooLargeError, RecordListTooLargeError)):
        return Permanent(
            f"{topic} refuses an output as too large: {cause}",
            next_step="Raise max.message.bytes of the topic, or send less in one event.",
            code="output_too_large",
        )
    if isinstance(cause, TopicAuthorizationFailedError):
        return Misconfigured(f"The broker does not let us write to {topic}.", next_step="Grant the worker access.")
    if isinstance(cause, InvalidTimestampError):
        return Unavailable(
            "broker",
            f"{topic} refuses a record for its time.",
            next_step="Set the clocks of this machine and of the broker, or run: earshot topics create --repair",
        )
    if isinstance(cause, (KafkaError, OSError, TimeoutError)):
        return Unavailable(
            "broker",
            f"A record for {topic} was not accepted: {type(cause).__name__}: {cause}",
            next_step="Check the broker and its disk.",
        )
    return error
