"""Every error as a problem document (RFC 9457): a stable code, the trace id, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from traceback import format_exception
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from earshot.kernel.errors import EarshotError, Misconfigured, Permanent, Transient
from earshot.kernel.telemetry import trace_id_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_SHOWN_ERRORS = 8
_CODES = {400: "bad_request", 401: "not_authenticated", 404: "not_found", 405: "method_not_allowed"}


class Problem(BaseModel):
    """What went wrong, why, and what to do next (RFC 9457)."""

    type: str = Field(description="Identifies the kind of problem.", examples=["urn:earshot:problem:not_audio"])
    title: str = Field(description="The kind of problem, for a person.")
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="The cause, for a person.")
    code: str = Field(description="The kind of problem, for a program; never changes.", examples=["not_audio"])
    trace_id: str = Field(description="Finds this request in traces and logs.")
    next_step: str = Field(description="What to do about it.")


class Refused(Permanent):
    """A request that is refused at the door.

    Args:
        status: HTTP status.
        code: stable identifier.
        detail: the cause, as a sentence for a person.
        next_step: what that person can do about it.
        headers: added to the answer.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, next_step: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail, next_step=next_step, code=code)
        self.status = status
        self.title = HTTPStatus(status).phrase
        self.headers = dict(headers or {})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer with these problem statuses."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({401, 403, 429, 431, 503, *statuses})
    }


def too_large(detail: str, setting: str) -> Refused:
    """The answer to what is above a limit (413)."""
    return Refused(413, "too_large", detail, next_step=f"Send less, or raise {setting}.")


def problem(error: EarshotError) -> Response:
    """The answer to an error."""
    body = {
        "type": f"urn:earshot:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "trace_id": trace_id_of(trace.get_current_span()),
        "next_step": error.next_step,
    }
    headers: dict[str, str] = dict(getattr(error, "headers", {}))
    if (after_s := getattr(error, "after_s", None)) is not None:
        headers.setdefault("Retry-After", str(max(1, ceil(after_s))))
    if error.status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    # ASCII: text that came in may hold lone surrogates, which have no UTF-8
    return Response(json.dumps(body, ensure_ascii=True), error.status, headers, MEDIA_TYPE)


def internal_problem(error: Exception) -> Response:
    """The answer to a bug: nothing of its insides is shown, all of it is logged."""
    # no exc_info: a renderer that shows local variables would log secrets
    log.error("request_failed", error=type(error).__name__, traceback="".join(format_exception(error)))
    hidden = Refused(
        500,
        "internal_error",
        "The server made a mistake while answering.",
        next_step="Report it with the trace_id; the server's log has the cause under the same id.",
    )
    return problem(hidden)


def invalid(errors: Sequence[Mapping[str, Any]]) -> Refused:
    """Values that do not fit: names the fields and the reasons, never repeats the values."""
    lines = [
        f"{'.'.join(str(part)[:60] for part in error['loc'] if part != 'body') or 'body'}: {error['msg']}"
        for error in errors[:_SHOWN_ERRORS]
    ]
    more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
    return Refused(422, "invalid_request", "; ".join(lines) + more, next_step="Correct these fields; see /docs.")


def install(app: FastAPI) -> None:
    """Make an app answer every error as a problem."""
    app.add_exception_handler(EarshotError, _on_earshot)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


async def _on_earshot(_request: Request, error: Exception) -> Response:
    assert isinstance(error, EarshotError)
    if isinstance(error, Transient | Misconfigured):
        log.warning("request_not_possible", code=error.code, detail=error.detail)
    return problem(error)


async def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(invalid(error.errors()))


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, EarshotError):  # raised while the framework read the body
        return problem(error.__cause__)
    code = _CODES.get(error.status_code, "http_error")
    return problem(Refused(error.status_code, code, str(error.detail), next_step="See /docs.", headers=error.headers))


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return problem(Refused(400, "client_went_away", "The connection ended before the request did."))
