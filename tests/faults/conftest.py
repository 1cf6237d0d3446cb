"""One suite, both transports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.system import System


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a broker: a new file, or the session's Kafka."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/log.sqlite"
    return str(request.getfixturevalue("kafka_url"))


@pytest.fixture
async def system(broker: str, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline with its topics; its workers do not outlive the test."""
    made = System(broker, tmp_path)
    await made.prepare()
    yield made
    await made.close()


EITHER = pytest.mark.parametrize(
    "broker", ["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.full])], indirect=True
)
"""For what hardly depends on the transport: the embedded one in the quick cut, both in the full matrix."""
