"""The account of the fault matrix: what each test injected, what the oracle then counted; for ``docs/guarantees.md``.

A test that shows a row of the matrix is marked ``@pytest.mark.row(number, "what was injected")`` and takes the fixture
``outcome``, which it tells what it saw. The run writes the account where ``EARSHOT_GUARANTEES`` says.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROWS = {
    1: "A stage is killed in the middle of its work",
    2: "A stage raises an error",
    3: "The first message is slow, those behind it fast",
    4: "Workers join, leave and die while events flow",
    5: "A worker joins during a long unit",
    6: "A worker freezes, is replaced, and wakes up",
    7: "The broker restarts",
    8: "One of three brokers fails, then two",
    9: "The acknowledgement of a send is lost",
    10: "The broker refuses an output",
    11: "Poison",
    12: "A stage is slow",
    13: "Events are published more than once; a topic is replayed",
    14: "Events arrive out of order",
    15: "The vector store is down, slow or refuses objects",
    16: "A disk is full",
    17: "Schemas change; the registry is down",
    18: "Clocks are wrong",
    19: "A worker is asked to end",
    20: "A message is huge",
    21: "A stage catches up",
    22: "Traffic after a long silence",
    23: "A stage stalls in silence",
    24: "The group's coordinator or its offsets are lost",
    25: "A commit fails",
    26: "A topic gets more partitions",
    27: "All of it at random",
    28: "The embedded log: power cut, second process",
}
"""The matrix, by number."""


@dataclass
class Outcome:
    """What a test saw of its row.

    Attributes:
        row: its number.
        injected: the fault, in words.
        test: the test's name, without its parameters.
        transport: ``embedded``, ``Kafka``, or both words where the test has neither as a parameter.
        faults: how often the fault was injected.
        in_flight: units not yet committed when it hit, summed over the faults.
        published: units acknowledged to a producer, all of which must arrive.
        lost: of those, how many did not.
        duplicates: how many more records of the same key and revision the log holds.
        wrong: what else is not as it must be: strange or doubled passages, dead letters without cause, offsets short.
        recovery_s: seconds from each fault until work went on, or until all was done where the test cannot tell.
        seen: the day on which all this was seen.
        case: the test's parameters.
        passed: whether the test did.
    """

    row: int
    injected: str
    test: str
    transport: str
    faults: int = 0
    in_flight: int = 0
    published: int = 0
    lost: int = 0
    duplicates: int = 0
    wrong: int = 0
    recovery_s: list[float] = field(default_factory=list)
    seen: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    case: str = ""
    passed: bool = True

    def hit(self, in_flight: int, faults: int = 1) -> None:
        """The fault was injected while so many units were in flight; an idle stage proves nothing."""
        assert in_flight > 0, "the fault hit an idle stage"
        self.faults += faults
        self.in_flight += in_flight

    def count(self, *, published: int, complaints: list[str], duplicates: int = 0) -> None:
        """What the oracle counted at the end: complaints of something lost, or not indexed, and of all else."""
        lost = sum("lost:" in what or "not indexed:" in what for what in complaints)
        self.published += published
        self.duplicates += duplicates
        self.lost += lost
        self.wrong += len(complaints) - lost

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Around what waits for the end of a fault: its seconds are noted."""
        began = time.monotonic()
        yield
        self.recovery_s.append(round(time.monotonic() - began, 2))


def transport_of(parameters: dict[str, Any], marks: set[str]) -> str:
    """The transport of a test, from its parameters, else from its marks."""
    for value in map(str, parameters.values()):
        if value in ("sqlite", "embedded"):
            return "embedded"
        if value == "kafka":
            return "Kafka"
    return "Kafka" if "kafka" in marks else "embedded"


def table(path: Path) -> str:
    """The account as the table of ``docs/guarantees.md``; the cases of a test are added up."""
    head = ["row", "injected", "transport", "times", "in flight", "published", "lost", "twice in the log", "wrong"]
    head += ["recovered in s (median, longest)", "shown by", "seen"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    seen = _by_test(_read(path))
    for row, title in ROWS.items():
        name = f'<a id="row-{row}"></a>**{row}** {title}'
        shown = [_line(each) for each in seen if each.row == row] or [["not shown yet", *[""] * (len(head) - 2)]]
        lines += ["| " + " | ".join([name if at == 0 else "", *cells]) + " |" for at, cells in enumerate(shown)]
    return "\n".join(lines)


def _line(each: Outcome) -> list[str]:
    took = f"{statistics.median(each.recovery_s):.1f}, {max(each.recovery_s):.1f}" if each.recovery_s else ""
    counts = (each.faults, each.in_flight, each.published, each.lost, each.duplicates, each.wrong)
    test = f"`{each.test}`" if each.passed else f"`{each.test}` **failed**"
    return [each.injected, each.transport, *map(str, counts), took, test, each.seen]


def write(path: Path, outcomes: list[Outcome]) -> None:
    """Put outcomes in the account; those of the same test and parameters are replaced."""
    account = {_place(each): each for each in [*(_read(path) if path.exists() else []), *outcomes]}
    path.write_text(json.dumps([asdict(account[place]) for place in sorted(account)], indent=1) + "\n")


def _read(path: Path) -> list[Outcome]:
    return [Outcome(**item) for item in json.loads(path.read_text())]


def _place(outcome: Outcome) -> tuple[int, str, str, str]:
    return (outcome.row, outcome.test, outcome.transport, outcome.case)


def _by_test(outcomes: list[Outcome]) -> list[Outcome]:
    tests: dict[tuple[int, str, str], Outcome] = {}
    for each in outcomes:
        key = (each.row, each.test, each.transport)
        tests[key] = _sum(tests[key], each) if key in tests else each
    return list(tests.values())


def _sum(one: Outcome, other: Outcome) -> Outcome:
    names = ("faults", "in_flight", "published", "lost", "duplicates", "wrong", "recovery_s")
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    passed, seen = one.passed and other.passed, min(one.seen, other.seen)
    return Outcome(**{**asdict(one), **sums, "passed": passed, "seen": seen})
