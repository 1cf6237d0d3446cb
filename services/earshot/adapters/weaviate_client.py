"""The connection to Weaviate: its client made on first use, its errors in our words, an end to every wait."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from earshot.kernel.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient

CONNECT_S, QUERY_S, WRITE_S = 5, 15, 60
"""Of the client's own calls; together they bound what we wait for, its repetitions included."""
RECONNECT_MS = 5_000
"""Longest pause of gRPC between two tries to connect; by itself it waits two minutes after a long outage."""
KEEPS_OUT = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
NEXT_STEP = "Check that the server runs and that its HTTP and gRPC ports are the configured ones."


class WeaviateConnection:
    """A client that connects when it is needed.

    Args:
        url: ``weaviate://[api-key@]host[:8080][?grpc=50051&replicas=1]``, or ``weaviates://`` for TLS.

    Attributes:
        replicas: of each new collection.

    Raises:
        Misconfigured: the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            self._host, self._port = parts.hostname or "localhost", parts.port or 8080
            self._grpc, self.replicas = int(options.get("grpc", 50051)), int(options.get("replicas", 1))
            if self._grpc == self._port:
                raise ValueError("one port for two protocols")
        except ValueError as error:
            raise Misconfigured(
                "EARSHOT_VECTORS_URL names no usable ports.", next_step="Write weaviate://host:8080?grpc=50051."
            ) from error
        _import_quietly()
        self._secure = parts.scheme == "weaviates"
        self._key = unquote(parts.password or parts.username or "")
        self._client: WeaviateAsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def client(self) -> WeaviateAsyncClient:
        """The client, connected. Raises ``Unavailable``."""
        async with self._connecting:
            if self._client is None:
                client = self._new_client()
                try:
                    async with self.answering(CONNECT_S):
                        await client.connect()
                except Unavailable:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def tenant(self, index: str, tenant: str) -> Any:
        """A tenant's part of a collection; a quorum of its replicas must answer."""
        from weaviate.classes.config import ConsistencyLevel

        client = await self.client()
        return client.collections.get(index).with_tenant(tenant).with_consistency_level(ConsistencyLevel.QUORUM)

    async def exists(self, index: str, tenant: str) -> bool:
        """Whether anything was ever written for the tenant."""
        client = await self.client()
        async with self.answering():
            return await client.collections.exists(index) and await client.collections.get(index).tenants.exists(tenant)

    async def read(self, index: str, tenant: str, method: str, **how: Any) -> list[Any]:
        """Query the tenant; nothing when it, or the index, was never written to."""
        held = await self.tenant(index, tenant)
        try:
            async with self.answering():
                return list((await getattr(held.query, method)(**how)).objects)
        except Unavailable:
            if await self.exists(index, tenant):
                raise
            return []

    async def ping(self) -> None:
        """Return when the server is ready to answer. Not by the client, which prints what goes wrong to stdout."""
        import httpx

        url = f"{'https' if self._secure else 'http'}://{self._place}/v1/.well-known/ready"
        async with self.answering(), httpx.AsyncClient(timeout=CONNECT_S, trust_env=False) as http:
            answer = await http.get(url)
        if answer.status_code != HTTPStatus.OK:
            raise self.unavailable(f"is not ready (it answers {answer.status_code})")

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    @asynccontextmanager
    async def answering(self, within_s: float = QUERY_S) -> AsyncIterator[None]:
        """Turn what the client raises into ``Unavailable`` or ``Misconfigured``, and wait no longer than that."""
        from httpx import HTTPError, TimeoutException
        from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateBaseError, WeaviateTimeoutError

        try:
            async with asyncio.timeout(within_s):
                yield
        except (TimeoutError, TimeoutException, WeaviateTimeoutError):
            raise self.unavailable("did not answer in time") from None
        except (WeaviateBaseError, HTTPError, OSError) as error:
            if isinstance(error, UnexpectedStatusCodeError) and error.status_code in KEEPS_OUT:
                raise Misconfigured(
                    f"Weaviate at {self._place} refuses us with {error.status_code}.",
                    next_step="Check the key in EARSHOT_VECTORS_URL.",
                ) from error
            raise self.unavailable(f"failed: {str(error) or type(error).__name__}") from error

    def unavailable(self, what: str) -> Unavailable:
        """The error that says what the server did."""
        return Unavailable("vectors", f"Weaviate at {self._place} {what.rstrip('.')}.", next_step=NEXT_STEP)

    @property
    def _place(self) -> str:
        return f"{self._host}:{self._port}"

    def _new_client(self) -> WeaviateAsyncClient:
        import weaviate
        from weaviate.classes.init import AdditionalConfig, Auth, Timeout
        from weaviate.config import GrpcConfig

        return weaviate.use_async_with_custom(
            http_host=self._host,
            http_port=self._port,
            http_secure=self._secure,
            grpc_host=self._host,
            grpc_port=self._grpc,
            grpc_secure=self._secure,
            auth_credentials=Auth.api_key(self._key) if self._key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(init=CONNECT_S, query=QUERY_S, insert=WRITE_S),
                grpc_config=GrpcConfig(channel_options=[("grpc.max_reconnect_backoff_ms", RECONNECT_MS)]),
            ),
            skip_init_checks=True,  # they ask a package index for the newest client
        )


def _import_quietly() -> None:
    """Import the client: its authentication library warns of what it imports itself, whatever the filters say.

    Its own log repeats every object that the server has refused, with all that was said in it.
    """
    with warnings.catch_warnings(record=True):
        import weaviate  # noqa: F401 - for its effect
    logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)
