"""Fakes of the media ports: blobs in memory, a decoder that plays a script."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from earshot.kernel.errors import BlobMissing, ForeignUri
from earshot.kernel.ports import CutEnd, CutSegment, Probe


class FakeBlobs:
    """A :class:`~earshot.kernel.ports.BlobStore` in memory. ``failure``, when set, is raised by every method."""

    base = "memory:///blobs"

    def __init__(self) -> None:
        self.stored: dict[str, tuple[bytes, datetime]] = {}
        self.failure: Exception | None = None

    def uri(self, key: str) -> str:
        return f"{self.base}/{self._checked(key)}"

    def key(self, tenant: str, uri: str) -> str:
        key = uri.removeprefix(self.base + "/")
        if key == uri or not key.startswith(tenant + "/"):
            raise ForeignUri(f"{uri} is not {tenant}'s")
        return self._checked(key)

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool = False) -> bool:
        self._up(key)
        whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
        if create_only and key in self.stored:
            return False
        self.stored[key] = (whole, datetime.now(UTC))
        return True

    async def get(self, key: str) -> bytes:
        self._up(key)
        if key not in self.stored:
            raise BlobMissing(f"no {key}")
        return self.stored[key][0]

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = (await self.get(key))[start:end]
        for offset in range(0, len(data), 1000):
            yield data[offset : offset + 1000]

    async def size(self, key: str) -> int:
        return len(await self.get(key))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        data = await self.get(key)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield Path(file.name)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._up(key)
            self.stored.pop(key, None)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        if not prefix.endswith("/"):
            raise ForeignUri(f"{prefix} is no prefix")
        self._up(prefix + "x/x")
        for key, (_, written) in list(self.stored.items()):
            if key.startswith(prefix):
                yield key, written

    async def sweep(self, _before: datetime) -> int:
        return 0

    def _up(self, key: str) -> None:
        if self.failure is not None:
            raise self.failure
        self._checked(key)

    @staticmethod
    def _checked(key: str) -> str:
        steps = key.split("/")
        plain = all(step and not step.startswith(".") and not set(step) & set("%\\? \n\x00#:") for step in steps)
        if len(steps) < 2 or not plain or not steps[0].islower() or not key.isascii():
            raise ForeignUri(f"{key!r} is no key")
        return key


class FakeDecoder:
    """A :class:`~earshot.kernel.ports.Decoder` that yields what it was given; an exception among it is raised."""

    def __init__(self, script: Sequence[CutSegment | CutEnd | Exception] = (), probe: Probe | None = None) -> None:
        self.script = list(script)
        self.found = probe or Probe("wav", "pcm_s16le", 1000)
        self.paths: list[Path] = []

    async def probe(self, path: Path) -> Probe:
        self.paths.append(path)
        return self.found

    async def cut(self, path: Path) -> AsyncIterator[CutSegment | CutEnd]:
        self.paths.append(path)
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            yield step
