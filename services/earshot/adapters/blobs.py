"""Blobs in a folder or a bucket, through obstore.

Buckets take their credentials and endpoint from the usual variables (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``).
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from earshot.adapters import scratch
from earshot.adapters.guard import BLOBS, Figures, Guards, reads, writes
from earshot.kernel.errors import BlobMissing, ForeignUri, Misconfigured, Unavailable
from earshot.kernel.events import TENANT_PATTERN

BUCKETS = ("s3", "gs", "az")
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")  # plain HTTP when one of them says so
CHUNK = 4 * 1024 * 1024  # of a streamed read: one request each, so a slow reader never meets a request's timeout
PART = 8 * 1024 * 1024  # of a multipart upload; S3 allows 10,000 parts: 80 GB
DELETE_BATCH = 500
TIMEOUT_S = 60.0  # of a request with at most PART bytes: 140 KB/s is still enough
CONNECT_S = 5.0
MAX_KEY = 1024  # bytes, the limit of S3
_TENANT = re.compile(TENANT_PATTERN)
_STAGED = re.compile(r"^[^#]+#[0-9]+$")
_STEP = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._=-]*$")


class ObstoreBlobs:
    """A :class:`~earshot.kernel.ports.BlobStore` at a URL.

    Args:
        url: ``file:///folder`` (made when missing), ``s3://bucket/prefix``, ``gs://…`` or ``az://…``.
        timeout_s: for each request to a bucket.
        figures: of the breakers.

    Raises:
        Misconfigured: the URL is none of these, or its store cannot be set up.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, figures: Figures = BLOBS) -> None:
        self.guards = Guards("blobs", figures)
        self._base = url.rstrip("/")
        self._timeout_s = timeout_s
        self._folder = _folder(url)
        try:
            self._store: ObjectStore = _bucket(url, timeout_s) if self._folder is None else _local(self._folder)
        except (BaseError, OSError, ValueError) as error:
            raise Misconfigured(
                f"The blob store {_shown(url)} cannot be set up: {_brief(error)}.",
                next_step="Check EARSHOT_BLOBS_URL and the credentials in the environment.",
            ) from error

    def uri(self, key: str) -> str:
        """The URI that events carry for a key."""
        return f"{self._base}/{_checked(key)}"

    def key(self, tenant: str, uri: str) -> str:
        """The key of a URI. Raises ``ForeignUri`` outside the store or outside the tenant's folder."""
        base, key = uri[: len(self._base) + 1], uri[len(self._base) + 1 :]
        if base != self._base + "/" or not key.startswith(f"{tenant}/") or not _valid(key):
            raise ForeignUri(
                f"{uri[:200]!r} does not lie in the folder of tenant {tenant!r} in this blob store.",
                next_step=f"Put the audio below {_shown(self._base)}/{tenant}/; in names only A-Za-z0-9._=-",
            )
        return key

    @writes
    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool = False) -> bool:
        """Write a blob whole or not at all; ``False`` when ``create_only`` and it was there already.

        What the iterator of ``data`` raises is passed on, and nothing is written.
        """
        _checked(key)
        if isinstance(data, bytes):
            return await self._put_bytes(key, data, create_only)
        source = _Source(data, self._timeout_s)
        try:
            if create_only:
                return await self._put_new(key, source)
            await self._upload(key, source)
        except Exception:
            if source.error is not None:  # the caller's own, however it came back through the library
                raise source.error from None
            raise
        return True

    @reads
    async def get(self, key: str) -> bytes:
        """Read a blob. Raises ``BlobMissing``."""
        with _errors(key):
            async with asyncio.timeout(self._timeout_s):
                return bytes(await (await obstore.get_async(self._store, _checked(key))).bytes_async())

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream a blob or the range ``[start, end)`` of it. Raises ``BlobMissing``."""
        size = await self.size(key)
        stop = size if end is None else min(end, size)
        for offset in range(max(start, 0), stop, CHUNK):
            yield await self._chunk(key, offset, min(offset + CHUNK, stop))

    @reads
    async def size(self, key: str) -> int:
        """Size in bytes. Raises ``BlobMissing``."""
        with _errors(key):
            async with asyncio.timeout(self._timeout_s):
                return int((await obstore.head_async(self._store, _checked(key)))["size"])

    @reads
    async def _chunk(self, key: str, start: int, end: int) -> bytes:
        with _errors(key):
            async with asyncio.timeout(self._timeout_s):
                return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """The blob as a file: the file itself where the store is a folder, else a temporary copy."""
        if self._folder is not None:
            await self.size(key)
            yield self._folder / key
            return
        copy = scratch.folder() / f"blob-{uuid.uuid4()}"
        try:
            with await asyncio.to_thread(copy.open, "wb") as file:
                async for chunk in self.read(key):
                    await asyncio.to_thread(file.write, chunk)
            yield copy
        finally:
            await asyncio.to_thread(copy.unlink, missing_ok=True)

    @writes
    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; those that are gone already are no error."""
        checked = [_checked(key) for key in keys]
        for start in range(0, len(checked), DELETE_BATCH):
            batch = checked[start : start + DELETE_BATCH]
            try:
                await self._delete(batch)
            except BlobMissing:  # a folder stops at the first that is gone: go on one by one
                for key in batch:
                    await self._delete_one(key)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Keys below a prefix that ends in ``/``, with when they were written."""
        if not prefix.endswith("/") or not all(map(_STEP.match, prefix[:-1].split("/"))):
            raise ForeignUri(f"{prefix[:200]!r} is not a prefix of this store's keys.")
        pages = obstore.list(self._store, prefix)
        while (page := await self._page(pages, prefix)) is not None:
            for entry in page:
                yield entry["path"], entry["last_modified"]

    @writes
    async def sweep(self, before: datetime) -> int:
        """Delete what writers that died left half-written in a folder; buckets have rules for that."""
        return 0 if self._folder is None else await asyncio.to_thread(_sweep, self._folder, before.timestamp())

    @reads
    async def _page(self, pages: Any, prefix: str) -> Any:
        with _errors(prefix):
            async with asyncio.timeout(self._timeout_s):
                return await anext(pages, None)

    async def _put_bytes(self, key: str, data: bytes, create_only: bool) -> bool:
        mode: Any = "create" if create_only else "overwrite"
        try:
            with _errors(key, reading=False):
                async with asyncio.timeout(self._timeout_s):
                    await obstore.put_async(self._store, key, data, mode=mode, use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    async def _put_new(self, key: str, source: _Source) -> bool:
        """Streamed and create-only: uploaded beside the key, then linked or copied to it, which one writer wins."""
        part = f"{key}.{uuid.uuid4()}.part"
        await self._upload(part, source)
        try:
            with _errors(key, reading=False):
                async with asyncio.timeout(self._timeout_s):
                    await obstore.copy_async(self._store, part, key, overwrite=False)
        except AlreadyExistsError:
            return False
        finally:
            await self._delete_one(part)
        return True

    async def _upload(self, key: str, source: _Source) -> None:
        """As long as its source takes; but what was given must be written in time."""
        with _errors(key, reading=False):
            async with asyncio.timeout(self._timeout_s) as source.limit:
                await obstore.put_async(self._store, key, source, chunk_size=PART, max_concurrency=2)

    async def _delete(self, keys: Sequence[str]) -> None:
        with _errors(", ".join(keys[:3])):
            async with asyncio.timeout(self._timeout_s):
                await obstore.delete_async(self._store, list(keys))

    async def _delete_one(self, key: str) -> None:
        try:
            await self._delete([key])
        except BlobMissing:
            return


def _sweep(folder: Path, before: float) -> int:
    """Delete files that the library writes to until they are whole: named after a key, ``#`` and a number."""
    gone = 0
    for path in folder.rglob("*#*"):
        if _STAGED.match(path.name) and path.is_file() and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            gone += 1
    return gone


class _Source:
    """What is uploaded. Time counts against the limit only while the store has something to write.

    Args:
        pieces: what is uploaded.
        timeout_s: from one piece to the demand for the next.

    Attributes:
        error: what the iterator raised: the library wraps it on some paths.
        limit: of the upload.
    """

    def __init__(self, pieces: AsyncIterator[bytes], timeout_s: float) -> None:
        self._pieces = pieces
        self._timeout_s = timeout_s
        self.error: Exception | None = None
        self.limit: asyncio.Timeout | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._within(None)
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        finally:
            self._within(self._timeout_s)

    def _within(self, seconds: float | None) -> None:
        if self.limit is not None:
            with suppress(RuntimeError):  # the upload is over already
                self.limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


@contextmanager
def _errors(key: str, *, reading: bool = True) -> Iterator[None]:
    """Say in the kernel's words what the library or the system reports. ``AlreadyExistsError`` passes."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        if not reading:
            raise _unavailable(f"The blob store cannot be written to: {_brief(error)}.") from error
        raise BlobMissing(f"There is nothing in the blob store at {key}.") from None
    except TimeoutError:
        raise _unavailable("The blob store did not answer in time.") from None
    except (BaseError, OSError) as error:
        raise _unavailable(f"The blob store does not answer: {_brief(error)}.") from error


def _unavailable(detail: str) -> Unavailable:
    return Unavailable("blobs", detail, next_step="Check EARSHOT_BLOBS_URL, its disk or server, and the rights there.")


def _valid(key: str) -> bool:
    steps = key.split("/")
    return (
        len(key.encode()) <= MAX_KEY and len(steps) > 1 and _TENANT.match(steps[0]) is not None
        and all(_STEP.fullmatch(step) for step in steps) and not key.endswith("\n")
    )  # fmt: skip


def _checked(key: str) -> str:
    """The key, if it is one. Raises ``ForeignUri``."""
    if not _valid(key):
        raise ForeignUri(f"{key[:200]!r} is not a key of this store: tenant/name[/name…] of letters, digits, ._=-.")
    return key


def _folder(url: str) -> Path | None:
    """The folder of a ``file:`` URL, ``None`` for a bucket's. Raises ``Misconfigured`` for anything else."""
    parts = urlsplit(url)
    if parts.scheme in BUCKETS and parts.netloc:
        return None
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return Path(unquote(parts.path))
    raise Misconfigured(
        f"EARSHOT_BLOBS_URL cannot be {_shown(url)!r}.",
        next_step="Give file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.",
    )


def _local(folder: Path) -> ObjectStore:
    return LocalStore(folder, mkdir=True, automatic_cleanup=True)


def _bucket(url: str, timeout_s: float) -> ObjectStore:
    """A bucket's store: bounded requests, a few retries within them."""
    extra: dict[str, Any] = {"copy_if_not_exists": "multipart"} if url.startswith("s3://") else {}
    return from_url(
        url,
        client_options={
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "allow_http": any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=timeout_s)},
        **extra,
    )


def _shown(url: str) -> str:
    """A URL without what may be a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _brief(error: Exception) -> str:
    """The first line of an error: the library adds pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
