"""Fixtures that every test folder shares: real servers, and the account of what was skipped for want of one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import pytest

from tests.servers import (
    CannotHave,
    KafkaServer,
    PostgresServer,
    RedisServer,
    RegistryServer,
    S3Server,
    Server,
    WeaviateServer,
)

with suppress(ImportError):  # it reads HF_HUB_OFFLINE when it is imported, and an engine in this process would set that
    import huggingface_hub.constants  # noqa: F401

S = TypeVar("S")
_HUB = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")}


@pytest.fixture(autouse=True)
def _hub_as_it_was() -> None:
    """What an engine in the process of the tests said to the hub's library is forgotten before the next test."""
    for name, value in _HUB.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _have(make: Callable[[], S]) -> S:
    """A server, not started; skips the test (in CI: fails it) where it cannot be had."""
    try:
        return make()
    except CannotHave as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have every server. {error}")
        pytest.skip(str(error))


def _shared_url(kind: type[Server], variable: str) -> Iterator[str]:
    """The URL of the server that a variable names, else of one that lives as long as the session."""
    given = os.environ.get(variable)
    if given:
        yield given
        return
    with _have(kind) as server:
        yield server.url


@pytest.fixture(scope="session")
def have() -> Callable[[Callable[[], S]], S]:
    """Calls what makes a server; skips the test (in CI: fails it) where it cannot be had."""
    return _have


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    """``kafka://127.0.0.1:PORT``, one broker for the session; tests keep apart by topic prefix."""
    yield from _shared_url(KafkaServer, "EARSHOT_TEST_KAFKA")


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """``http://127.0.0.1:PORT/…``, one schema registry for the session; tests keep apart by topic prefix."""
    yield from _shared_url(RegistryServer, "EARSHOT_TEST_REGISTRY")


@pytest.fixture(scope="session")
def weaviate_url() -> Iterator[str]:
    """``weaviate://127.0.0.1:PORT?grpc=PORT``, one node for the session; tests keep apart by collection or tenant."""
    yield from _shared_url(WeaviateServer, "EARSHOT_TEST_WEAVIATE")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """``postgresql+psycopg://…``, one server for the session; tests keep apart by schema or database."""
    yield from _shared_url(PostgresServer, "EARSHOT_TEST_POSTGRES")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """``redis://127.0.0.1:PORT/0``, one server for the session; tests keep apart by key."""
    yield from _shared_url(RedisServer, "EARSHOT_TEST_REDIS")


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own, running, to be stopped, killed and started again."""
    with _have(RedisServer) as server:
        assert isinstance(server, RedisServer)
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A bucket for the session; tests keep apart by prefix."""
    with _have(S3Server) as server:
        assert isinstance(server, S3Server)
        yield server


@pytest.fixture
def kafka_server() -> Iterator[KafkaServer]:
    """A broker of the test's own, running, to be stopped, killed and started again."""
    with _have(KafkaServer) as server:
        assert isinstance(server, KafkaServer)
        yield server


@pytest.fixture
def registry_server() -> Iterator[RegistryServer]:
    """A schema registry of the test's own, running, to be stopped, killed and started again."""
    with _have(RegistryServer) as server:
        assert isinstance(server, RegistryServer)
        yield server


@pytest.fixture
def weaviate_server() -> Iterator[WeaviateServer]:
    """A Weaviate node of the test's own, running, to be stopped, killed and started again."""
    with _have(WeaviateServer) as server:
        assert isinstance(server, WeaviateServer)
        yield server


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, running, to be stopped, killed and started again."""
    with _have(PostgresServer) as server:
        assert isinstance(server, PostgresServer)
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what did not run, and what would make it run."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if not reasons:
        return
    terminalreporter.section("not run, and what enables it")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:4d} tests: {reason}")
