"""What a path names: a job, or a recording, by either one's id."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as PathParameter

from earshot.adapters.access import about_recordings
from earshot.adapters.web import Caller, KitOf
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.ports import Job, Recording
from earshot.query.views import PREFIX

Id = Annotated[str, PathParameter(max_length=100, description="A job's id or a recording's.")]


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


async def find_job(id: Id, request: Request, caller: Caller, kit: KitOf) -> Job:  # noqa: A002 - the name in the path
    """The job of either id, if its recording is among those the caller may see. Raises ``UnknownRecording``."""
    job = await kit.catalog.job(caller.tenant, id) if _plain(id) else None
    if job is not None and caller.collections is not None:
        recording = await kit.catalog.recording(caller.tenant, job.recording_id)
        job = job if recording is not None and caller.sees(recording.collection) else None
    if job is None:
        raise _unknown()
    about_recordings(request, job.recording_id)
    return job


async def find_recording(id: Id, request: Request, caller: Caller, kit: KitOf) -> Recording:  # noqa: A002 - the name in the path
    """The recording of either id, if the caller may see it. Raises ``UnknownRecording``."""
    tenant = caller.tenant
    recording = await kit.catalog.recording(tenant, id) if _plain(id) else None
    if recording is None and _plain(id) and (job := await kit.catalog.job(tenant, id)) is not None:
        recording = await kit.catalog.recording(tenant, job.recording_id)
    if recording is None or not caller.sees(recording.collection):
        raise _unknown()
    about_recordings(request, recording.id)
    return recording


def _unknown() -> UnknownRecording:
    """The same for what never was, what was erased, and what is somebody else's."""
    return UnknownRecording("There is no job or recording with this id.", next_step=f"See GET {PREFIX}/recordings.")


FoundJob = Annotated[Job, Depends(find_job)]
FoundRecording = Annotated[Recording, Depends(find_recording)]
