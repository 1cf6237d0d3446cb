"""A Confluent-compatible schema registry over HTTP, as a running process asks it: it reads, and never registers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

import httpx

from earshot.adapters.guard import REGISTRY, Figures, Guard
from earshot.kernel.errors import Misconfigured, Unavailable, Undecodable

TIMEOUT_S = 5.0
UNKNOWN_S = 60.0
"""How long an id is believed to be unknown: whoever registers its schema late need not wait longer for us to see it."""
MAX_UNKNOWN = 1000
"""So many unknown ids are remembered, the latest: whoever invents them cannot fill the memory."""
_DEPENDENCY = "schema registry"
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_MAX_ID = 2**31 - 1
"""Ids are signed on the wire, and positive."""


class RegistryHttp:
    """The registry's HTTP, and what its answers mean.

    Args:
        url: ``http(s)://[user:password@]host[:port][/path]``.
    """

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        self._client = httpx.Client(
            base_url=parsed.copy_with(username=None, password=None),  # an address may be logged, what opens it may not
            auth=(parsed.username, parsed.password) if parsed.username else None,
            timeout=TIMEOUT_S,
            headers={"Accept": _CONTENT_TYPE},
        )

    def ask(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        """The answer, whatever it says of what was asked.

        Raises:
            Misconfigured: we are not let in.
            Unavailable: no answer, or one that says nothing of what was asked.
        """
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                _DEPENDENCY,
                f"The schema registry does not answer: {type(error).__name__}.",
                next_step="Check EARSHOT_SCHEMA_REGISTRY_URL.",
            ) from error
        if answer.status_code in (401, 403):
            raise Misconfigured(
                f"The schema registry refuses us with {answer.status_code}.",
                next_step="Check the credentials in EARSHOT_SCHEMA_REGISTRY_URL.",
            )
        if answer.is_redirect or answer.is_server_error or answer.status_code in (408, 429):
            raise Unavailable(_DEPENDENCY, f"The schema registry answers {answer.status_code}.")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class HttpRegistry:
    """Implements the codec's ``SchemaRegistry``. May be shared by threads.

    What it says never changes and is kept by the codec, but that an id is unknown: that is believed for ``UNKNOWN_S``.

    Args:
        url: ``http(s)://[user:password@]host[:port][/path]``.
        figures: after so many failures in a row the registry is left alone, for so long.
        clock: seconds that only rise.
    """

    def __init__(self, url: str, figures: Figures = REGISTRY, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = RegistryHttp(url)
        self._guard = Guard(_DEPENDENCY, figures)
        self._unknown = _Unknown(clock)

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        """The id under which a schema is registered.

        Raises:
            Misconfigured: it is not registered under that subject.
            Unavailable: the registry does not answer.
        """
        with self._guard.asking():
            answer = self._http.ask(
                "POST", f"/subjects/{subject}", {"schema": json.dumps(schema), "schemaType": "AVRO"}
            )
            if refused(answer):
                raise Misconfigured(
                    f"The schema of {subject} is not registered.", next_step="Run: earshot schemas register"
                )
            return int(content(answer)["id"])

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The schema of an id.

        Raises:
            Undecodable: the registry has no such id, or it is no Avro schema.
            Unavailable: the registry does not answer.
        """
        if schema_id in self._unknown or not 0 < schema_id <= _MAX_ID:
            raise _no_schema(schema_id)
        with self._guard.asking():
            answer = self._http.ask("GET", f"/schemas/ids/{schema_id}")
            if refused(answer):
                self._unknown.add(schema_id)
                raise _no_schema(schema_id)
            found = content(answer)
            if found.get("schemaType", "AVRO") != "AVRO":
                raise Undecodable(f"Schema {schema_id} is {found['schemaType']}, not Avro.")
            schema: dict[str, Any] = json.loads(found["schema"])
            return schema

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class _Unknown:
    """Ids that the registry did not have a moment ago; the latest of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}
        self._lock = Lock()

    def __contains__(self, schema_id: int) -> bool:
        return self._clock() < self._until.get(schema_id, float("-inf"))

    def add(self, schema_id: int) -> None:
        """It was asked for, and not there."""
        with self._lock:
            self._until.pop(schema_id, None)
            if len(self._until) >= MAX_UNKNOWN:
                del self._until[next(iter(self._until))]
            self._until[schema_id] = self._clock() + UNKNOWN_S


def _no_schema(schema_id: int) -> Undecodable:
    return Undecodable(f"The registry has no schema {schema_id}.")


def refused(answer: httpx.Response) -> bool:
    """Whether a registry says no to what was asked, and not a server on the way, or a wrong path, to the asking.

    The registry's own error codes are its HTTP status and two more digits: 40403, 42201.
    """
    try:
        code = answer.json()["error_code"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(code, int) and code // 100 == answer.status_code


def content(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer. Raises ``Unavailable`` for what is none, as a wrong path gives it."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not answer.is_success or not isinstance(found, dict):
        raise Unavailable(
            _DEPENDENCY,
            f"{answer.status_code} is no answer of a schema registry.",
            next_step="Check EARSHOT_SCHEMA_REGISTRY_URL, its path too.",
        )
    return found
