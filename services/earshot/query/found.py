"""What a path names: a job, or a recording, by either one's id."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi import Path as PathParameter

from earshot.adapters.web import KitOf, Tenant
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.ports import Job, Recording
from earshot.query.views import PREFIX

Id = Annotated[str, PathParameter(max_length=100, description="A job's id or a recording's.")]


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


async def find_job(id: Id, tenant: Tenant, kit: KitOf) -> Job:  # noqa: A002 - the name in the path
    """The job of either id. Raises ``UnknownRecording``."""
    job = await kit.catalog.job(tenant, id) if _plain(id) else None
    if job is None:
        raise UnknownRecording("There is no job or recording with this id.", next_step=f"See GET {PREFIX}/recordings.")
    return job


async def find_recording(id: Id, tenant: Tenant, kit: KitOf) -> Recording:  # noqa: A002 - the name in the path
    """The recording of either id. Raises ``UnknownRecording``."""
    recording = await kit.catalog.recording(tenant, id) if _plain(id) else None
    if recording is None:
        job = await find_job(id, tenant, kit)
        recording = await kit.catalog.recording(tenant, job.recording_id)
    if recording is None:
        raise UnknownRecording("The recording was erased.", next_step=f"See GET {PREFIX}/recordings.")
    return recording


FoundJob = Annotated[Job, Depends(find_job)]
FoundRecording = Annotated[Recording, Depends(find_recording)]
