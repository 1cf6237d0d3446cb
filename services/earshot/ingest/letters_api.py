"""Dead letters over HTTP: what could not be processed and why, to be sent again or dropped."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi import Path as PathParameter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from earshot.adapters.problems import Refused, documented
from earshot.adapters.web import DEFAULT_TENANT, KitOf, Tenant
from earshot.ingest.letters import AT_ONCE, Found, Letters, State, Wanted, age
from earshot.kernel.dead_letters import ERROR, SOURCE, TRACE_ID
from earshot.kernel.topics import BY_NAME

MOST_BYTES = 64 * 1024
"""Of a record's value in an answer."""
MOST_CHARS = 500
"""Of a header's value in an answer."""
router = APIRouter(prefix="/dead-letters", tags=["dead letters"])


class Letter(BaseModel):
    """One record that a stage gave up."""

    id: str = Field(description="Topic, partition and offset of the letter.", examples=["audio.segments:3:17"])
    stage: str = Field(description="Who gave it up.", examples=["transcriber"])
    code: str = Field(description="Of the error, as in the table of errors.", examples=["blob_missing"])
    error: str = Field(description="The error as a sentence, with what to do next.")
    topic: str = Field(description="Where the record came from.", examples=["audio.segments"])
    recording_id: str | None = Field(description="null: the record cannot be decoded.")
    source: str = Field(description="Topic, partition and offset of the record.")
    failed_at: datetime | None
    trace_id: str
    state: State


class LetterInFull(Letter):
    """The same with what the record carries."""

    headers: dict[str, str]
    event: dict[str, Any] | None = Field(description="null: it cannot be decoded.")
    value: str = Field(description=f"Base64 of the record's first {MOST_BYTES} bytes.")
    size_bytes: int


class LetterList(BaseModel):
    """Newest first."""

    items: list[Letter]
    next: str | None = Field(description="Pass it as `cursor` for those before; null: there are no more.")


class Which(BaseModel):
    """Letters by name, or all open ones that match."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Annotated[str, Field(max_length=100)]] = Field(default=[], max_length=AT_ONCE)
    all: bool = Field(default=False, description="Every open letter that matches the fields below.")
    stage: str = Field(default="", max_length=100)
    code: str = Field(default="", max_length=100)
    topic: Literal["", *BY_NAME] = ""  # type: ignore[valid-type]
    recording_id: str = Field(default="", max_length=100)
    failed_from: AwareDatetime | None = None
    failed_to: AwareDatetime | None = None


class Answered(BaseModel):
    """The letters this was done with."""

    items: list[str]
    more: bool = Field(description=f"There are more that match: at most {AT_ONCE} are taken at once.")


def letters_of(kit: KitOf) -> Letters:
    """The letters behind this app."""
    prefix = kit.settings.topic_prefix
    return Letters(kit.log, kit.codec, kit.catalog, prefix, keeper=DEFAULT_TENANT, standings=kit.catalog)


LettersOf = Annotated[Letters, Depends(letters_of)]


@router.get("", responses=documented(422))
async def list_letters(
    tenant: Tenant,
    letters: LettersOf,
    stage: Annotated[str, Query(max_length=100)] = "",
    code: Annotated[str, Query(max_length=100)] = "",
    topic: Annotated[str, Query(max_length=100)] = "",
    recording_id: Annotated[str, Query(max_length=100)] = "",
    state: Annotated[Literal["open", "replayed", "dropped", "all"], Query()] = "open",
    since: Annotated[AwareDatetime | None, Query(description="Failed at this moment or later.")] = None,
    to: Annotated[AwareDatetime | None, Query(description="Failed before this moment.")] = None,
    cursor: Annotated[str, Query(max_length=200, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=AT_ONCE)] = 50,
) -> LetterList:
    """What could not be processed."""
    seen = _read_cursor(cursor) if cursor else None
    wanted = Wanted(stage, code, topic, recording_id, None if state == "all" else state, since, to, seen)
    found = await letters.find(tenant, wanted, limit + 1)
    shown = found[:limit]
    more = len(found) > limit
    return LetterList(items=[_view(each) for each in shown], next=_cursor(shown[-1]) if more else None)


@router.get("/{id}", responses=documented(404))
async def show_letter(
    id: Annotated[str, PathParameter(max_length=100)],  # noqa: A002 - the name in the path
    tenant: Tenant,
    letters: LettersOf,
) -> LetterInFull:
    """One of them, with what the record carries."""
    [found] = await letters.named(tenant, [id])
    record, event = found.letter.record, found.letter.event
    value = record.value or b""
    return LetterInFull(
        **_view(found).model_dump(),
        headers={name: raw.decode("utf-8", "replace")[:MOST_CHARS] for name, raw in record.headers},
        event=event.model_dump(mode="json") if event is not None else None,
        value=base64.b64encode(value[:MOST_BYTES]).decode(),
        size_bytes=len(value),
    )


@router.post("/replay", responses=documented(404, 422))
async def replay_letters(which: Which, tenant: Tenant, letters: LettersOf) -> Answered:
    """Send records through once more. What was erased or overtaken meanwhile changes nothing."""
    found, more = await _meant(which, tenant, letters)
    if found:
        await letters.replay([each.letter for each in found])
    return Answered(items=[each.letter.id for each in found], more=more)


@router.post("/drop", responses=documented(404, 422))
async def drop_letters(which: Which, tenant: Tenant, letters: LettersOf) -> Answered:
    """Put letters out of sight. The broker keeps the bytes until their time is over."""
    found, more = await _meant(which, tenant, letters)
    if found:
        await letters.drop([each.letter for each in found])
    return Answered(items=[each.letter.id for each in found], more=more)


async def _meant(which: Which, tenant: str, letters: Letters) -> tuple[list[Found], bool]:
    """The letters named, whatever was done with them; or the open ones that match, when all are meant."""
    if not which.all:
        return await letters.named(tenant, which.ids), False
    wanted = Wanted(
        which.stage, which.code, which.topic, which.recording_id, "open", which.failed_from, which.failed_to
    )
    found = await letters.find(tenant, wanted, AT_ONCE + 1)
    return found[:AT_ONCE], len(found) > AT_ONCE


def _cursor(found: Found) -> str:
    at, letter_id = age(found.letter)
    return f"{at!r}~{letter_id}"


def _read_cursor(cursor: str) -> tuple[float, str]:
    at, _, letter_id = cursor.partition("~")
    try:
        return float(at), letter_id
    except ValueError:
        raise Refused(
            422, "invalid_request", "This is no cursor.", next_step="Take `next` of the page before."
        ) from None


def _view(found: Found) -> Letter:
    letter = found.letter
    return Letter(
        id=letter.id,
        stage=letter.stage,
        code=letter.code,
        error=letter.record.header(ERROR) or "",
        topic=letter.topic.name,
        recording_id=letter.event.recording_id if letter.event is not None else None,
        source=letter.record.header(SOURCE) or "",
        failed_at=letter.failed_at,
        trace_id=letter.record.header(TRACE_ID) or "",
        state=found.state,
    )
