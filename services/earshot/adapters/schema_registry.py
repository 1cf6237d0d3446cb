"""A Confluent-compatible schema registry over HTTP. Only read: a person registers schemas."""

from __future__ import annotations

import json
from typing import Any

import httpx

from earshot.kernel.errors import Misconfigured, Unavailable, Undecodable

TIMEOUT_S = 5.0
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND = 404
_NO_SUCH_ID = (400, _NOT_FOUND, 422)
"""Answers to an id that the registry has not, or that cannot be one: registries differ."""


class HttpRegistry:
    """Implements the codec's ``SchemaRegistry``. Answers never change, so each is asked for once.

    Args:
        url: ``http(s)://[user:password@]host[:port]``.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers={"Accept": _CONTENT_TYPE})
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, dict[str, Any]] = {}

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        """The id under which a schema is registered.

        Raises:
            Misconfigured: it is not registered under that subject.
            Unavailable: the registry does not answer.
        """
        text = json.dumps(schema)
        if (subject, text) not in self._ids:
            answer = self._ask("POST", f"/subjects/{subject}", {"schema": text, "schemaType": "AVRO"})
            if answer.status_code in _NO_SUCH_ID:
                raise Misconfigured(
                    f"The schema of {subject} is not registered.",
                    next_step=f"Register its file in schemas/: POST /subjects/{subject}/versions at the registry.",
                )
            self._ids[subject, text] = int(_content(answer)["id"])
        return self._ids[subject, text]

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The schema of an id.

        Raises:
            Undecodable: the registry has no such id, or it is no Avro schema.
            Unavailable: the registry does not answer.
        """
        if schema_id not in self._schemas:
            answer = self._ask("GET", f"/schemas/ids/{schema_id}", None)
            if answer.status_code in _NO_SUCH_ID:
                raise Undecodable(f"The registry has no schema {schema_id}.")
            content = _content(answer)
            if content.get("schemaType", "AVRO") != "AVRO":
                raise Undecodable(f"Schema {schema_id} is {content['schemaType']}, not Avro.")
            self._schemas[schema_id] = json.loads(content["schema"])
        return self._schemas[schema_id]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, method: str, path: str, body: dict[str, str] | None) -> httpx.Response:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                "schema registry",
                f"The schema registry does not answer: {type(error).__name__}.",
                next_step="Check EARSHOT_SCHEMA_REGISTRY_URL.",
            ) from error
        if answer.status_code in (401, 403):
            raise Misconfigured(
                f"The schema registry refuses us with {answer.status_code}.",
                next_step="Check the credentials in EARSHOT_SCHEMA_REGISTRY_URL.",
            )
        if answer.is_success or answer.status_code in _NO_SUCH_ID:
            return answer
        raise Unavailable("schema registry", f"The schema registry answers {answer.status_code}.")


def _content(answer: httpx.Response) -> dict[str, Any]:
    try:
        content: dict[str, Any] = answer.json()
    except ValueError as error:
        raise Unavailable("schema registry", "The schema registry's answer is no JSON.") from error
    return content
