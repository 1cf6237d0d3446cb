"""From the broker's URL to a Faust transport, and the settings under which Faust loses nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from faust.transport.drivers import TRANSPORTS

from earshot.kernel.errors import Misconfigured

KAFKA, SQLITE = "earshotkafka", "earshotsqlite"
_SCHEMES = {KAFKA: "earshot.streams.kafka:Transport", SQLITE: "earshot.streams.sqlite:Transport"}

SAFE_SETTINGS: dict[str, Any] = {
    "broker_commit_interval": 1.0,
    "broker_commit_every": None,
    "broker_session_timeout": 30.0,
    "broker_rebalance_timeout": 90.0,
    "broker_max_poll_records": 100,
    "consumer_auto_offset_reset": "earliest",
    "producer_acks": -1,
    "producer_request_timeout": 30.0,  # request.timeout.ms of Kafka's own producer; Faust would wait 20 minutes
    "processing_guarantee": "at_least_once",
    "table_standby_replicas": 0,
    "topic_disable_leader": True,
    "topic_allow_declare": False,
    "stream_recovery_delay": 0.0,
    "web_enabled": False,
}
"""Arguments of ``faust.App`` for every stage; buffers, waits and long units are the stage's own."""


def register() -> None:
    """Make both transports known to Faust by their URL schemes."""
    TRANSPORTS.aliases.update(_SCHEMES)


def faust_broker_url(url: str) -> str:
    """The URL to give to Faust for ``kafka://host:port[,host:port]`` or ``sqlite:///path``.

    Raises:
        Misconfigured: another scheme, or no host or path.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "kafka" and rest:
        return f"{KAFKA}://{rest.rstrip('/')}"
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return f"{SQLITE}://{quote(rest)}"
    raise Misconfigured(
        f"The broker URL is neither kafka://host:port nor sqlite:///path: {scheme}://…",
        next_step="Correct EARSHOT_BROKER_URL.",
    )


def assert_cython() -> None:
    """Check that Faust's compiled stream class is loaded.

    The pure Python one acknowledges records of an older generation that nobody has worked on.

    Raises:
        Misconfigured: it is not.
    """
    from faust import streams

    if getattr(streams, "_CStreamIterator", None) is None:
        raise Misconfigured(
            "Faust runs without its compiled stream class, and would lose records.",
            next_step="Unset NO_CYTHON and install faust-streaming from a wheel of this platform.",
        )
