"""A worker for ``contract/test_transport.py``: copies a topic to another, and acknowledges what it is allowed to.

Usage: ``python -m tests.transport_app BROKER_URL GROUP SOURCE TARGET [setting=value …]``. A value that begins with
``hold`` is copied and never acknowledged, unless ``release=true``; ``pause`` pauses its partition for a moment.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from typing import Any

import faust

from earshot.streams.transports import SAFE_SETTINGS, assert_cython, faust_broker_url, register


def make_app(url: str, group: str, source: str, target: str, *, release: bool = False, **settings: Any) -> faust.App:
    """The app, with one agent."""
    register()
    assert_cython()
    arguments = SAFE_SETTINGS | {"broker_commit_interval": 0.1, "datadir": tempfile.mkdtemp()} | settings
    app = faust.App(group, broker=faust_broker_url(url), **arguments)
    topics = [app.topic(name, key_serializer="raw", value_serializer="raw") for name in (source, target)]

    @app.agent(topics[0], concurrency=1)
    async def copy(stream: Any) -> None:
        async for event in stream.noack().events():
            if event.value == b"pause":
                app.consumer.pause_partitions({event.message.tp})
                asyncio.get_running_loop().call_later(0.3, app.consumer.resume_partitions, {event.message.tp})
            sent = await topics[1].send(
                key=event.key,
                value=event.value,
                partition=event.message.partition,
                headers={**event.headers, "offset": str(event.message.offset).encode()},
            )
            await sent
            if release or event.value is None or not event.value.startswith(b"hold"):
                await stream.ack(event)

    return app


if __name__ == "__main__":
    options: dict[str, Any] = {}
    for option in sys.argv[5:]:
        name, _, value = option.partition("=")
        options[name] = json.loads(value)
    faust.Worker(make_app(*sys.argv[1:5], **options), loglevel="WARNING").execute_from_commandline()
