"""Waiting for tasks, and ending them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger()


async def first(*awaitables: asyncio.Task[Any] | Coroutine[Any, Any, Any]) -> None:
    """Return when the first is done; the coroutines among the others are cancelled, the tasks go on."""
    tasks = {item if isinstance(item, asyncio.Task) else asyncio.create_task(item) for item in awaitables}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled([task for task in tasks if task not in awaitables])


def raise_first(tasks: list[asyncio.Task[None]]) -> None:
    """Raise what the first failed task raised; say what others did."""
    errors = [error for task in tasks if task.done() and (error := task.exception()) is not None]
    for error in errors[1:]:
        log.error("worker_failed", exc_info=error)
    if errors:
        raise errors[0]


async def cancelled(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when they have ended."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):  # its error, if any, was raised where it was awaited
            await task
