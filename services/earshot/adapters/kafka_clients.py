"""How clients of Kafka are started, asked and let go, and what their errors mean to the port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)

from earshot.kernel.errors import LimitExceeded, Misconfigured, Unavailable

REQUEST_S = 15.0
TRIES = 4
"""Of a question that any broker can answer."""

log = structlog.get_logger()


def missing(topic: str) -> Misconfigured:
    """The error of a topic that was never created."""
    return Misconfigured(f"The topic {topic} does not exist.", next_step="Run `earshot topics create`.")


async def start(client: Any) -> None:
    """Start a client; close what it has opened when that fails."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise


async def abandon(producer: AIOKafkaProducer) -> None:
    """Close a producer without delivering what it still holds, which its own ``stop`` would wait for without end."""
    sender, held = producer._sender, producer._message_accumulator  # noqa: SLF001 - it has no public way
    await producer.client.close()
    while sender.sender_task is not None and not sender.sender_task.done():
        sender.sender_task.cancel()  # again, because it waits for requests that nobody answers any more
        await asyncio.wait([sender.sender_task], timeout=0.1)
    held.fail_all(KafkaError("given up"))
    await let_go(producer.stop(), REQUEST_S)


async def let_go(closing: Coroutine[Any, Any, None], seconds: float) -> None:
    """Close a client in bounded time. With the broker away aiokafka hangs, or ends in a cancellation of its own."""
    task = asyncio.ensure_future(closing)
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        task.cancel()
        log.warning("a Kafka client did not close in time", seconds=seconds)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a Kafka client did not close cleanly", error=str(error))


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat what a broker refuses for a moment: the first question to a new cluster makes its group coordinator.

    The caller sets the deadline.
    """
    while True:
        try:
            return await call()
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(0.1)


async def of_any(call: Callable[[], Awaitable[Any]]) -> Any:
    """Ask what any broker can answer: the client picks one, which may be the one of several that has just died."""
    for _ in range(TRIES - 1):
        try:
            return await call()
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(0.1)
    return await call()


@contextmanager
def reported() -> Iterator[None]:
    """Turn aiokafka's errors into those of the port."""
    try:
        yield
    except MessageSizeTooLargeError as error:
        raise LimitExceeded(f"The record is larger than Kafka takes: {error}.") from error
    except UnknownTopicOrPartitionError as error:
        raise Misconfigured(
            f"The topic or partition does not exist: {error}.", next_step="Run `earshot topics create`."
        ) from error
    except InvalidTimestampError as error:
        raise Unavailable(
            "broker",
            "Kafka refuses a record for its time.",
            next_step="Set the clocks of this machine and of the broker, or run: earshot topics create --repair",
        ) from error
    except (KafkaError, TimeoutError, OSError) as error:
        cause = str(error) or type(error).__name__
        raise Unavailable(
            "broker", f"Kafka does not answer: {cause}.", next_step="Check EARSHOT_BROKER_URL and the broker."
        ) from error
