"""What a tenant wishes for the recordings of a collection, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from earshot.adapters.access import check_collection
from earshot.adapters.problems import documented
from earshot.adapters.web import Caller, KitOf
from earshot.ingest.details import Collection, Line
from earshot.kernel.events import MAX_HINT, Task
from earshot.kernel.ports import CollectionSettings

router = APIRouter(tags=["collections"])
Name = Annotated[Collection, PathParameter(description="A collection, also one without recordings yet.")]
Hint = Annotated[Line, Field(max_length=MAX_HINT)]


class Wishes(BaseModel):
    """How the recordings of a collection are to be transcribed; null: as the transcriber does by itself."""

    model_config = ConfigDict(extra="forbid")

    hotwords: Hint | None = Field(None, description="Words and names that may be said.", examples=["Dashwood, Ferrars"])
    prompt: Hint | None = Field(
        None,
        description="A text as it might stand before what is said, for its words and its style.",
        examples=["A lecture on cell biology."],
    )
    task: Task | None = Field(None, description="translate: into English, unless an upload says otherwise.")


@router.get("/collections/{collection}", responses=documented(422))
async def get_collection(collection: Name, caller: Caller, kit: KitOf) -> Wishes:
    """What is wished for the recordings of a collection."""
    check_collection(caller, collection)
    return _view(await kit.catalog.collection_settings(caller.tenant, collection))


@router.patch("/collections/{collection}", responses=documented(422))
async def change_collection(collection: Name, wishes: Wishes, caller: Caller, kit: KitOf) -> Wishes:
    """Change what is wished; what is left out stays. Holds for what is uploaded from then on."""
    check_collection(caller, collection)
    tenant = caller.tenant
    before = await kit.catalog.collection_settings(tenant, collection)
    after = replace(before, **wishes.model_dump(exclude_unset=True))
    await kit.catalog.configure_collection(tenant, collection, after)
    return _view(after)


def _view(settings: CollectionSettings) -> Wishes:
    return Wishes(hotwords=settings.hotwords, prompt=settings.prompt, task=settings.task)
