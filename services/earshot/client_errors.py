"""What the client raises: the problem documents of the HTTP interface as exceptions."""

from __future__ import annotations

from typing import Any

import httpx

from earshot.kernel.errors import EarshotError, Permanent, Transient

_FIRST_WAIT_S = 0.5


class Rejected(Permanent):
    """The request was refused.

    Args:
        status: of HTTP.
        detail: the cause, as a sentence for a person.
        next_step: what that person can do about it.
        code: stable; ``docs/errors.md`` explains each.
        trace_id: finds the request in traces and logs.
        after_s: sooner than after so many seconds it makes no sense to send it again; ``None``: nobody knows.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        next_step: str = "",
        code: str | None = None,
        trace_id: str = "",
        after_s: float | None = None,
    ) -> None:
        super().__init__(detail, next_step=next_step, code=code)
        self.status, self.trace_id, self.after_s = status, trace_id, after_s


class NotAuthenticated(Rejected):
    """401: the key is missing, or opens nothing."""


class Forbidden(Rejected):
    """403: the key does not open this."""


class NotFound(Rejected):
    """404: there is none, or it is another tenant's."""


class TooMany(Rejected):
    """429: too often, or more than may be used now."""

    status = 429


class Busy(Transient):
    """503: it cannot be done for now. Attributes as of ``Rejected``."""

    def __init__(self, detail: str, *, next_step: str, code: str | None, trace_id: str, after_s: float | None) -> None:
        super().__init__(detail, next_step=next_step, code=code)
        self.trace_id, self.after_s = trace_id, after_s


_BY_STATUS = {401: NotAuthenticated, 403: Forbidden, 404: NotFound, TooMany.status: TooMany}


def problem(answer: httpx.Response) -> EarshotError:
    """The exception for an answer that was read and is an error."""
    said: dict[str, Any] = {
        "next_step": _text(answer, "next_step"),
        "code": _text(answer, "code") or None,
        "trace_id": _text(answer, "trace_id"),
        "after_s": _retry_after_s(answer),
    }
    detail = _text(answer, "detail") or _text(answer, "title")
    detail = detail or f"HTTP {answer.status_code} from {answer.request.url}: {answer.text[:200]}"
    if answer.status_code == Busy.status:
        return Busy(detail, **said)
    return _BY_STATUS.get(answer.status_code, Rejected)(answer.status_code, detail, **said)


def wait_s(answer: httpx.Response, turn: int) -> float:
    """How long to wait before sending the same again: as the answer says, else longer from turn to turn."""
    said = _retry_after_s(answer)
    return float(_FIRST_WAIT_S * 2**turn) if said is None else said


def _retry_after_s(answer: httpx.Response) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _text(answer: httpx.Response, field: str) -> str:
    """A field of the problem document; empty where there is none, as from a proxy that answers in HTML."""
    try:
        body = answer.json()
    except ValueError:
        return ""
    return str(body.get(field) or "") if isinstance(body, dict) else ""
