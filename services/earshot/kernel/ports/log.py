"""The log outside of stream processors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from earshot.kernel.codec import Record


class EventLog(Protocol):
    """The log outside of stream processors: for the relay, the CLI, the checks. Topic names are full, with prefix.

    Every method raises ``Unavailable("broker", …)`` when the broker does not answer.
    """

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when the broker has acknowledged every record. ``Record.partition`` is obeyed when given."""

    def tail(self, topics: Sequence[str], *, from_start: bool, follow: bool) -> AsyncIterator[Record]:
        """Records in order of each partition; without ``follow``, up to the ends found at the start."""

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises ``Misconfigured`` when it does not exist."""

    async def create(self, topics: Mapping[str, Mapping[str, str]], partitions: int) -> list[str]:
        """Create the topics (name to broker configuration) that are missing; return their names."""

    async def configurations(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """How topics are kept: values by name of the setting, as far as this broker has them, by topic.

        Topics that do not exist are left out.
        """

    async def configure(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        """Set these values of topics that exist; the others stay. A setting this broker does not have is ignored.

        Raises ``Misconfigured`` for what the broker refuses.
        """

    async def lag(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """Committed offset (0 when none) and end offset by topic and partition."""

    async def ping(self) -> None:
        """Return when the broker answers."""

    async def close(self) -> None:
        """Let go of connections and files."""
