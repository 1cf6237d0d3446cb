"""Times in questions: what they come to, what is left of the question, and what is no time at all."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from earshot.query.answering.dates import find

NOW = datetime(2026, 11, 21, 18, 0, tzinfo=ZoneInfo("Europe/Berlin"))
"""A Saturday."""


def found(question: str) -> tuple[str, str, str] | None:
    period, _ = find(question, NOW)
    if period is None:
        return None
    return period.text, *(at.date().isoformat() if at else "" for at in (period.start, period.end))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What did Ada say last Tuesday?", ("last Tuesday", "2026-11-17", "2026-11-18")),
        ("what was decided last Saturday", ("last Saturday", "2026-11-14", "2026-11-15")),
        ("what was said this Monday", ("this Monday", "2026-11-16", "2026-11-17")),
        ("what was decided yesterday about it", ("yesterday", "2026-11-20", "2026-11-21")),
        ("Since the day before yesterday, who spoke?", ("Since the day before yesterday", "2026-11-19", "")),
        ("What was said in March about ships?", ("in March", "2026-03-01", "2026-04-01")),
        ("What was said last November?", ("last November", "2025-11-01", "2025-12-01")),
        ("what was said in December", ("in December", "2025-12-01", "2026-01-01")),
        ("in May 2024 said who", ("in May 2024", "2024-05-01", "2024-06-01")),
        ("recordings since 3 May", ("since 3 May", "2026-05-03", "")),
        ("since May 3rd, 2025 what was said", ("since May 3rd, 2025", "2025-05-03", "")),
        ("meetings until 24 December", ("until 24 December", "", "2025-12-25")),
        ("meetings before 2026-05-03", ("before 2026-05-03", "", "2026-05-03")),
        ("calls after 29 February", ("after 29 February", "2024-03-01", "")),
        ("meetings between 1 March and 15 April", ("between 1 March and 15 April", "2026-03-01", "2026-04-16")),
        ("all from 2026-05-03 to 2026-05-04", ("from 2026-05-03 to 2026-05-04", "2026-05-03", "2026-05-05")),
        ("How many calls in the last 3 weeks?", ("in the last 3 weeks", "2026-10-31", "2026-11-22")),
        ("over the past month what came up", ("over the past month", "2026-10-21", "2026-11-22")),
        ("list all recordings from last month", ("from last month", "2026-10-01", "2026-11-01")),
        ("what did we decide last week", ("last week", "2026-11-09", "2026-11-16")),
        ("Who spoke two weeks ago?", ("two weeks ago", "2026-11-02", "2026-11-09")),
        ("Who spoke 3 days ago?", ("3 days ago", "2026-11-18", "2026-11-19")),
        ("meetings in 2025", ("in 2025", "2025-01-01", "2026-01-01")),
    ],
)
def test_a_time_becomes_its_days(question, expected):
    assert found(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "Do we ship on Friday?",
        "What happens in March?",
        "what may happen",
        "the March release was discussed",
        "version 2024 release?",
        "what did we march about",
        "what was decided 31 February 2025?",
        "did they say 3000000000 weeks ago",
        "",
    ],
)
def test_what_may_be_the_matter_itself_or_does_not_exist_is_no_time(question):
    assert found(question) is None
    assert find(question, NOW)[1] == question


def test_the_question_goes_on_without_its_time_and_days_begin_at_midnight_there():
    period, rest = find("What was decided last Tuesday, about the budget?", NOW)
    assert rest == "What was decided, about the budget?"
    assert period is not None
    assert period.start is not None
    assert period.start.isoformat() == "2026-11-17T00:00:00+01:00"
    summer, _ = find("what was said on 3 May", NOW)
    assert summer is not None
    assert summer.start is not None
    assert summer.start.isoformat() == "2026-05-03T00:00:00+02:00"
