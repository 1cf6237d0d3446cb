"""What a tenant wishes for the recordings of a collection, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from earshot.adapters.access import check_collection
from earshot.adapters.problems import Refused, documented
from earshot.adapters.web import Caller, KitOf
from earshot.ingest.details import Collection, Line
from earshot.kernel.events import MAX_HINT, Task
from earshot.kernel.ports import CollectionSettings

router = APIRouter(tags=["collections"])
Name = Annotated[Collection, PathParameter(description="A collection, also one without recordings yet.")]
MOST_DAYS = 36_500
"""A hundred years."""
Hint = Annotated[Line, Field(max_length=MAX_HINT)]


class Wishes(BaseModel):
    """How the recordings of a collection are transcribed, and how long they are kept; null: not said here."""

    model_config = ConfigDict(extra="forbid")

    hotwords: Hint | None = Field(None, description="Words and names that may be said.", examples=["Dashwood, Ferrars"])
    prompt: Hint | None = Field(
        None,
        description="A text as it might stand before what is said, for its words and its style.",
        examples=["A lecture on cell biology."],
    )
    task: Task | None = Field(None, description="translate: into English, unless an upload says otherwise.")
    retain_days: int | None = Field(
        None,
        ge=1,
        le=MOST_DAYS,
        description="Days after which a recording is erased, from when it came in; null: as the tenant says. It holds "
        "for recordings that are there already, and changing it needs the scope erase.",
    )
    segment_audio_days: int | None = Field(
        None,
        ge=0,
        le=MOST_DAYS,
        description="Days that the audio of segments is kept after their job ended; null: as the eraser is set. "
        "The original stays, and segments are cut again when they are needed.",
    )


@router.get("/collections/{collection}", responses=documented(422))
async def get_collection(collection: Name, caller: Caller, kit: KitOf) -> Wishes:
    """What is wished for the recordings of a collection."""
    check_collection(caller, collection)
    return _view(await kit.catalog.collection_settings(caller.tenant, collection))


@router.patch("/collections/{collection}", responses=documented(403, 422))
async def change_collection(collection: Name, wishes: Wishes, caller: Caller, kit: KitOf) -> Wishes:
    """Change what is wished; what is left out stays. Holds for what is uploaded from then on."""
    check_collection(caller, collection)
    if "retain_days" in wishes.model_fields_set and "erase" not in caller.scopes:
        raise Refused(
            403, "scope_missing", "Changing retain_days needs the scope erase.", next_step="Use a key that has it."
        )
    tenant = caller.tenant
    before = await kit.catalog.collection_settings(tenant, collection)
    after = replace(before, **wishes.model_dump(exclude_unset=True))
    await kit.catalog.configure_collection(tenant, collection, after)
    return _view(after)


def _view(settings: CollectionSettings) -> Wishes:
    return Wishes(**{name: getattr(settings, name) for name in Wishes.model_fields})
