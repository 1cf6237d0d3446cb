"""Keys as the catalog knows them, remembered for a moment, so that a burst of requests asks it once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from earshot.kernel.access import hash_of, is_key
from earshot.kernel.ports.access import ApiKey, ApiKeys

REMEMBERED_S = 1.0
"""So long a key that was revoked elsewhere may still be let in by this process."""
MOST = 10_000
"""Keys remembered at once; the one that was not used for longest is forgotten first."""


class KeyRing:
    """Finds keys.

    Args:
        keys: gives the catalog; called when it is needed.
        clock: seconds that never go back.
    """

    def __init__(self, keys: Callable[[], ApiKeys], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()

    async def find(self, text: str) -> ApiKey | None:
        """The key of this text, while it is valid. Raises ``Unavailable``."""
        if not is_key(text):
            return None
        digest = hash_of(text)
        key = self._remembered(digest) or await self._look(digest)
        return key if key is not None and key.valid(datetime.now(UTC)) else None

    def forget(self) -> None:
        """Ask the catalog again, for every key: one was changed."""
        self._known.clear()

    def _remembered(self, digest: str) -> ApiKey | None:
        until, key = self._known.get(digest, (0.0, None))
        return key if self._clock() < until else None

    async def _look(self, digest: str) -> ApiKey | None:
        key = await self._keys().key_of(digest)
        if key is not None:
            self._known[digest] = (self._clock() + REMEMBERED_S, key)
            self._known.move_to_end(digest)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return key
