"""One suite, both transports; and the account of what it saw."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.guarantees import ROWS, Outcome, transport_of, write
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


# --- the account of the matrix ----------------------------------------------------------------------------------------

_OUTCOMES: list[Outcome] = []
_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave word whether the test itself passed, for the fixture that ends after it."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """What the test saw of its row of the matrix."""
    mark = request.node.get_closest_marker("row")
    assert mark is not None, "mark the test with the row of the matrix that it shows"
    number, injected = mark.args
    assert number in ROWS
    marks = {each.name for each in request.node.iter_markers()}
    spec = getattr(request.node, "callspec", None)
    parameters, case = (spec.params, spec.id) if spec else ({}, "")
    name = f"{request.path.name}::{request.node.originalname}"
    made = Outcome(number, injected, name, transport_of(parameters, marks), case=case)
    yield made
    made.passed = request.node.stash.get(_PASSED, False)
    _OUTCOMES.append(made)
    if made.passed:
        assert made.faults > 0, "the test has not said what the fault hit: outcome.hit(…)"
        assert (made.lost, made.wrong) == (0, 0), made


def pytest_sessionfinish() -> None:
    """Write what was seen, where that is wished."""
    where = os.environ.get("EARSHOT_GUARANTEES")
    if where and _OUTCOMES:
        write(Path(where), _OUTCOMES)
