"""Which adapter serves which URL. The only place that chooses; everything is made on first use and kept."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from earshot.adapters.guard import BreakerSettings, Figures, Guard
from earshot.adapters.nearest import NearestSettings
from earshot.adapters.quotas import QuotaSettings
from earshot.kernel.codec import Codec
from earshot.kernel.errors import BlobMissing, Misconfigured
from earshot.kernel.settings import Settings, load
from earshot.kernel.telemetry import CatalogExporter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from earshot.adapters.catalog import Catalog
    from earshot.kernel.ports import BlobStore, EventLog, VectorStore


class Kit:
    """The adapters of one process, as its settings say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def codec(self) -> Codec:
        """Confluent framing when a registry is set, single-object encoding when not."""
        if not self.settings.schema_registry_url:
            return Codec()
        from earshot.adapters.schema_registry import HttpRegistry

        registry = HttpRegistry(self.settings.schema_registry_url, self._figures("registry"))
        return Codec(registry, self.settings.topic_prefix)

    @cached_property
    def catalog(self) -> Catalog:
        """SQLite or PostgreSQL."""
        from earshot.adapters.catalog import Catalog

        return Catalog(self.settings.catalog, self.codec, self._figures("catalog"), load(QuotaSettings).limits)

    @cached_property
    def blobs(self) -> BlobStore:
        """A folder or a bucket."""
        from earshot.adapters.blobs import ObstoreBlobs

        return ObstoreBlobs(self.settings.blobs, figures=self._figures("blobs"))

    @cached_property
    def vectors(self) -> VectorStore:
        """LanceDB or Weaviate."""
        url = self.settings.vectors
        if url.startswith("lancedb://"):
            from earshot.adapters.lancedb import LanceStore

            return LanceStore(url.removeprefix("lancedb://"), load(NearestSettings), self._figures("vectors"))
        if url.startswith(("weaviate://", "weaviates://")):
            from earshot.adapters.weaviate import WeaviateStore

            return WeaviateStore(url, load(NearestSettings), self._figures("vectors"))
        raise Misconfigured(f"EARSHOT_VECTORS_URL is neither lancedb:// nor weaviate://: {url.split(':')[0]}")

    @cached_property
    def log(self) -> EventLog:
        """Kafka or the SQLite log."""
        url = self.settings.broker
        if url.startswith("sqlite:///"):
            from earshot.adapters.sqlite_log import SqliteLog

            return SqliteLog(url.removeprefix("sqlite://"), self._figures("broker"))
        if url.startswith("kafka://"):
            from earshot.adapters.kafka_log import KafkaLog

            return KafkaLog(url, self.settings.replication, figures=self._figures("broker"))
        raise Misconfigured(f"EARSHOT_BROKER_URL is neither kafka:// nor sqlite:///: {url.split(':')[0]}")

    def guard(self, dependency: str) -> Guard:
        """A breaker of its own for another way to a dependency than the adapter's."""
        return Guard(dependency, self._figures(dependency))

    async def ask_blobs(self) -> None:
        """Return when the blob store answers; that there is nothing at a key is an answer. Raises ``Unavailable``."""
        with suppress(BlobMissing):
            await self.blobs.size("earshot/ping")

    @staticmethod
    def _figures(dependency: str) -> Figures:
        return load(BreakerSettings).of(dependency)

    def span_exporter(self) -> SpanExporter:
        """OTLP when an endpoint is set, else the catalog.

        Raises:
            Misconfigured: an endpoint is set, but the exporter is not installed.
        """
        if not self.settings.otlp_endpoint:
            return CatalogExporter(self.catalog)
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise Misconfigured(
                "EARSHOT_OTLP_ENDPOINT is set, but the OTLP exporter is not installed.",
                next_step="Install it: pip install 'earshot[otlp]'.",
            ) from error
        return OTLPSpanExporter(f"{self.settings.otlp_endpoint.rstrip('/')}/v1/traces")
