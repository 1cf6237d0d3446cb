"""Time zones, by the names that clients give them."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(available_timezones()) | {"UTC"}


def zone(name: str) -> str:
    """A name that is known. Raises ``ValueError``."""
    if name not in _known():
        raise ValueError("no such time zone; use an IANA name such as Europe/Berlin")
    return name


def zone_info(name: str) -> ZoneInfo:
    """The zone of a known name."""
    return ZoneInfo(name)
