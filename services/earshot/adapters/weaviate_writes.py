"""Writing to Weaviate, where a batch may succeed in part: what became of each object is read one by one.

The answer to a batch says of a failed object only a sentence. The answer to the same object alone has a status, which
tells what can never succeed (422) from what may later.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from earshot.adapters import weaviate_rows as rows
from earshot.adapters.weaviate_client import WRITE_S, WeaviateConnection
from earshot.kernel.errors import Permanent
from earshot.kernel.ports import IndexedPassage

OBJECTS_A_WRITE = 256
"""About 1 MB of vectors of 1024 dimensions."""
MOST_DELETED = 10_000
"""Weaviate's own limit of one deletion (QUERY_MAXIMUM_RESULTS)."""
REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
SAID = 200
"""Characters of the server's sentence that are repeated."""


async def insert(connection: WeaviateConnection, held: Any, passages: Sequence[IndexedPassage]) -> None:
    """Upsert passages; every one has succeeded on return.

    Those that fail in a batch are tried alone. What the server refuses for its own content does not keep the others
    from being written.

    Raises:
        Permanent: the server refuses some for what they are; all others are written.
        Unavailable: it has not confirmed all others.
    """
    refused: list[str] = []
    for start in range(0, len(passages), OBJECTS_A_WRITE):
        for passage in await _failed(connection, held, passages[start : start + OBJECTS_A_WRITE]):
            reason = await _refusal(connection, held, passage)
            refused += [f"passage {passage.ordinal} of segment {passage.segment_index}: {reason}"] if reason else []
    if refused:
        raise Permanent(
            f"Weaviate refuses {len(refused)} of {len(passages)} passages; {refused[0]}",
            code="bad_passages",
            next_step="Correct the producer of audio.embeddings.",
        )


async def _failed(
    connection: WeaviateConnection, held: Any, passages: Sequence[IndexedPassage]
) -> Sequence[IndexedPassage]:
    """Write a batch; what of it has failed."""
    from weaviate.exceptions import WeaviateInsertManyAllFailedError

    async with connection.answering(WRITE_S):
        try:
            done = await held.data.insert_many([rows.data(passage) for passage in passages])
        except WeaviateInsertManyAllFailedError:
            return passages
    return [passages[at] for at in sorted(done.errors)]


async def _refusal(connection: WeaviateConnection, held: Any, passage: IndexedPassage) -> str:
    """Write a passage alone; why the server refuses it for what it is, empty when it is written."""
    from weaviate.exceptions import UnexpectedStatusCodeError

    async with connection.answering(WRITE_S):
        try:
            await _upsert(held, passage)
        except UnexpectedStatusCodeError as error:
            said = _said(error)
            # Of a tenant that cannot be written to now it says 422 as well.
            if error.status_code in REFUSED and "tenan" not in said.lower():
                return said
            raise
        except ValueError as error:  # no JSON: a number that is none
            return str(error)
    return ""


async def _upsert(held: Any, passage: IndexedPassage) -> None:
    from weaviate.exceptions import UnexpectedStatusCodeError

    made = rows.data(passage)
    it = {"uuid": made.uuid, "properties": made.properties, "vector": made.vector}
    try:
        await held.data.insert(**it)
    except UnexpectedStatusCodeError as error:
        if "already exists" not in _said(error):
            raise
        await held.data.replace(**it)


def _said(error: Any) -> str:
    """The server's own sentence, or what the client makes of it."""
    try:
        said = str(error.error["error"][0]["message"])
    except (KeyError, IndexError, TypeError):
        said = str(error)
    return said[:SAID]


async def delete_where(connection: WeaviateConnection, held: Any, where: Any) -> None:
    """Delete what meets a filter; the server takes a bounded number at a time."""
    while True:
        async with connection.answering(WRITE_S):
            done = await held.data.delete_many(where)
        if done.failed:
            raise connection.unavailable(f"could not delete {done.failed} of {done.matches} passages.")
        if done.matches < MOST_DELETED:
            return
