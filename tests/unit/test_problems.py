"""Every error of the kernel as a problem document."""

from __future__ import annotations

import json

import pytest

from earshot.adapters.problems import internal_problem, invalid, problem
from earshot.kernel import errors


def every_error() -> list[type[errors.EarshotError]]:
    """All that have a code of their own: a quota names which one, something unavailable what."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EarshotError)]
    return [kind for kind in kinds if kind not in (errors.Unavailable, errors.QuotaExceeded)]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_the_shape_of_a_problem(kind):
    answer = problem(kind("The cause.", next_step="Do this."))
    said = json.loads(answer.body)
    assert set(said) == {"type", "title", "status", "detail", "code", "trace_id", "next_step"}
    assert (said["code"], said["status"], said["detail"], said["next_step"]) == (
        kind.code,
        kind.status,
        "The cause.",
        "Do this.",
    )
    assert answer.media_type == "application/problem+json"


def test_codes_are_unique():
    codes = [kind.code for kind in every_error()]
    assert sorted(set(codes)) == sorted(codes)


def test_what_may_succeed_later_says_when_to_come_back():
    answer = problem(errors.Unavailable("catalog", "The catalog does not answer."))
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
    assert "retry-after" not in problem(errors.NotAudio("no")).headers


def test_a_quota_says_which_and_when_to_come_back():
    answer = problem(errors.QuotaExceeded("60 of 60 minutes.", code="minutes_used_up", next_step="Wait.", after_s=90.2))
    assert (answer.status_code, answer.headers["retry-after"], json.loads(answer.body)["code"]) == (
        429,
        "91",
        "minutes_used_up",
    )


def test_a_bug_shows_nothing_of_its_insides():
    assert b"password" not in internal_problem(RuntimeError("password in a message")).body


def test_values_that_do_not_fit_are_never_repeated_and_hostile_names_do_not_break_the_answer():
    found = [{"loc": ("body", "\ud800" * 500), "msg": "is wrong", "input": "secret"}] * 20
    answer = problem(invalid(found))
    assert b"secret" not in answer.body
    assert len(json.loads(answer.body)["detail"]) < 1000
