"""Errors below ``/v1``, in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from earshot.adapters.problems import problem
from earshot.kernel.errors import EarshotError

PREFIX = "/v1/"
_TYPES = dict(
    zip(
        (401, 403, 404, 429),
        ("authentication_error", "permission_error", "not_found_error", "rate_limit_error"),
        strict=True,
    )
)
_SERVER_ERROR = 500
SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "trace_id": {"type": "string"},
            },
        }
    },
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route below ``/v1`` that may answer with these statuses."""
    content = {"application/json": {"schema": SCHEMA}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({401, 403, 429, 431, 503, *statuses})
    }


def openai_error(error: EarshotError) -> dict[str, Any]:
    """An error as OpenAI's servers say it."""
    return _shaped(json.loads(bytes(problem(error).body)))


def install(app: FastAPI) -> None:
    """Make an app that answers errors as problems answer those below ``/v1`` in OpenAI's shape. After ``problems``."""
    for kind, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(kind, _reshaping(handler))


def _reshaping(handler: Callable[..., Any]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        made = handler(request, error)
        answer: Response = await made if isinstance(made, Awaitable) else made
        if not request.url.path.startswith(PREFIX) or "problem" not in answer.headers.get("content-type", ""):
            return answer
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        shaped = _shaped(json.loads(bytes(answer.body)))
        return Response(json.dumps(shaped), answer.status_code, kept, "application/json")

    return handle


def _shaped(said: dict[str, Any]) -> dict[str, Any]:
    status = int(said["status"])
    kind = _TYPES.get(status, "server_error" if status >= _SERVER_ERROR else "invalid_request_error")
    message = f"{said['detail']} {said['next_step']}".strip()
    told = {"message": message, "type": kind, "param": None, "code": said["code"], "trace_id": said["trace_id"]}
    return {"error": told}
