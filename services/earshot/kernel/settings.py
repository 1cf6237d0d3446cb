"""Settings: environment variables with the prefix ``EARSHOT_``, one ``.env``, secrets from files, checked at start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from earshot.kernel.errors import Misconfigured

S = TypeVar("S", bound=BaseSettings)
SECRETS = Path("/run/secrets")


def config(prefix: str) -> SettingsConfigDict:
    """How every settings class reads its values; ``prefix`` without the leading ``EARSHOT_``."""
    return SettingsConfigDict(
        env_prefix=f"EARSHOT_{prefix}",
        env_file=".env",
        env_file_encoding="utf-8",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        extra="ignore",
        frozen=True,
    )


class Settings(BaseSettings):
    """Where things are: shared by every process. Empty URLs mean the embedded default below ``data``."""

    model_config = config("")

    data: Path = Field(Path("data"), description="Folder of the embedded log, catalog, blobs and vectors.")
    broker_url: str = Field("", description="kafka://host:9092[,host:9092] or sqlite:///path; empty: data/log.sqlite.")
    catalog_url: str = Field("", description="SQLAlchemy URL; empty: data/catalog.sqlite.")
    blobs_url: str = Field("", description="file:///path, s3://bucket/prefix, gs://, az://; empty: data/blobs.")
    vectors_url: str = Field("", description="weaviate://host:8080?grpc=50051 or lancedb:///path; empty: data/vectors.")
    schema_registry_url: str = Field("", description="Confluent-compatible registry; empty: single-object encoding.")
    otlp_endpoint: str = Field("", description="OTLP/HTTP endpoint; empty: traces are kept in the catalog.")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic and group name.")
    partitions: int = Field(0, ge=0, le=1024, description="Of each topic at creation; 0: 48 on Kafka, 4 embedded.")
    replication: int = Field(1, ge=1, description="Replicas of each topic at creation, on Kafka.")
    api_key: SecretStr = Field(SecretStr(""), description="Required on any address but loopback. Tenant: default.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Of our own loggers.")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal.")

    @property
    def embedded(self) -> bool:
        """Whether the log is the SQLite transport."""
        return self.broker.startswith("sqlite:")

    @property
    def broker(self) -> str:
        """The broker's URL."""
        return self.broker_url or f"sqlite:///{self.data.resolve()}/log.sqlite"

    @property
    def catalog(self) -> str:
        """The catalog's URL."""
        return self.catalog_url or f"sqlite:///{self.data.resolve()}/catalog.sqlite"

    @property
    def blobs(self) -> str:
        """The blob store's URL."""
        return self.blobs_url or (self.data.resolve() / "blobs").as_uri()

    @property
    def vectors(self) -> str:
        """The vector store's URL."""
        return self.vectors_url or f"lancedb://{self.data.resolve()}/vectors"

    @property
    def topic_partitions(self) -> int:
        """Partitions of each topic at creation."""
        return self.partitions or (4 if self.embedded else 48)

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.topic_prefix + name


def load(kind: type[S]) -> S:
    """Read and check settings. Raises ``Misconfigured`` with every error at once."""
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix") or "")
        lines = [f"{prefix}{'__'.join(map(str, e['loc']))}".upper() + f": {e['msg']}" for e in error.errors()]
        raise Misconfigured(
            "These settings cannot be used:\n  " + "\n  ".join(lines),
            next_step="Correct them in the environment or in .env.",
        ) from None


def load_or_exit(kind: type[S]) -> S:
    """Like :func:`load`, for entry points: prints the errors and exits with 78 (EX_CONFIG of sysexits.h)."""
    try:
        return load(kind)
    except Misconfigured as error:
        print(error, file=sys.stderr)
        raise SystemExit(78) from None
