"""Where bytes are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """A folder or a bucket. Every key begins with its tenant: ``tenant/recordings/<id>/…``.

    All methods raise ``Unavailable("blobs", …)`` when the store does not answer.
    """

    def uri(self, key: str) -> str:
        """The URI that events carry for a key."""

    def key(self, tenant: str, uri: str) -> str:
        """The key of a URI. Raises ``ForeignUri`` outside the store or outside the tenant's folder."""

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool = False) -> bool:
        """Write a blob whole or not at all; ``False`` when ``create_only`` and it was there already."""

    async def get(self, key: str) -> bytes:
        """Read a blob. Raises ``BlobMissing``."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream a blob or the range ``[start, end)`` of it. Raises ``BlobMissing``."""

    async def size(self, key: str) -> int:
        """Size in bytes. Raises ``BlobMissing``."""

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The blob as a file for a decoder: the file itself where the store is a folder, else a temporary copy."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; those that are gone already are no error."""

    def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Keys below a prefix that ends in ``/``, with when they were written."""

    async def sweep(self, before: datetime) -> int:
        """Delete what writers that died before a moment left half-written, under no key; how much there was."""
