"""Read a multipart request within limits: parts beyond 1 MB are spooled to disk, never held in memory."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from earshot.adapters.problems import Refused, invalid
from earshot.ingest.accept import Offer
from earshot.ingest.details import Details
from earshot.ingest.settings import MIB, IngestSettings

_CHUNK = 1 * MIB
_FORM = re.compile(r"^multipart/form-data(?!.*charset=(?!\"?utf-8\"?(;|$)))", re.IGNORECASE | re.DOTALL)
"""No other charset: the parser would decode fields with any codec that Python has."""
_MAX_FIELDS = 12
_FILES = ("file", "transcript")


@dataclass
class Budget:
    """How many bytes of a request may still come."""

    left: int

    def spend(self, count: int) -> None:
        """Count bytes that came. Raises ``Refused`` (413) when they were too many."""
        self.left -= count
        if self.left < 0:
            raise too_large()


class _Parser(MultiPartParser):
    """Knows whether the form came to its end: the base class takes one that was cut short for a smaller one."""

    complete = False

    def on_end(self) -> None:
        """The closing boundary came."""
        self.complete = True

    def check_complete(self) -> None:
        """Raise ``MultiPartException`` for a form that was cut short, and delete what came of it."""
        if not self.complete:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("The form ends before its closing boundary.")


def too_large() -> Refused:
    """The answer to a request above the limit."""
    return Refused(
        413,
        "too_large",
        "The request is larger than this server accepts.",
        next_step="Send a compressed format or shorter parts, or raise EARSHOT_INGEST__MAX_BYTES.",
    )


@asynccontextmanager
async def offered(
    request: Request, tenant: str, settings: IngestSettings, idempotency_key: str | None
) -> AsyncIterator[Offer]:
    """The offer in a request; its temporary files live as long as the context.

    Raises:
        Refused: 400, 413, 415 or 422, naming what is wrong.
    """
    form = await _parse(request, settings)
    try:
        yield Offer(
            tenant=tenant,
            details=_details(form),
            audio=_audio(form),
            transcript=await _transcript(form, settings),
            idempotency_key=idempotency_key,
        )
    finally:
        await form.close()


async def _parse(request: Request, settings: IngestSettings) -> FormData:
    if not _FORM.match(request.headers.get("content-type", "")):
        raise Refused(
            415, "not_multipart", "The body is not multipart/form-data in UTF-8.", next_step="Send a form; see /docs."
        )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > settings.max_bytes:
        raise too_large()
    budget = Budget(settings.max_bytes)
    parser = _Parser(
        request.headers,
        _bounded(request, budget, settings.max_idle_s),
        max_files=len(_FILES),
        max_fields=_MAX_FIELDS,
        max_part_size=MIB,
    )
    try:
        form = await parser.parse()
        parser.check_complete()
    except (MultiPartException, ValueError, LookupError) as error:  # the parser meets hostile bytes and charsets
        detail = error.message if isinstance(error, MultiPartException) else "The multipart body is malformed."
        raise Refused(400, "bad_multipart", detail, next_step="Send a well-formed form; see /docs.") from error
    try:
        return _checked(form)
    except Refused:
        await form.close()
        raise


async def _bounded(request: Request, budget: Budget, max_idle_s: float) -> AsyncGenerator[bytes, None]:
    """The body, as long as it keeps coming and stays within its budget."""
    stream = aiter(request.stream())
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), max_idle_s)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Refused(
                408, "upload_stalled", f"Nothing came for {max_idle_s:g} s.", next_step="Send it again."
            ) from error
        budget.spend(len(chunk))
        yield chunk


def _checked(form: FormData) -> FormData:
    names = [name for name, _ in form.multi_items()]
    twice = sorted({name[:60] for name in names if names.count(name) > 1})
    if twice:
        raise Refused(422, "invalid_request", f"Sent twice: {', '.join(twice)}.", next_step="Send each field once.")
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name not in _FILES:
            raise Refused(422, "invalid_request", f"{name[:60]} may not be a file.", next_step="See /docs.")
        if name == "file" and not isinstance(value, UploadFile):
            raise Refused(422, "invalid_request", "`file` is not a file part.", next_step="Give the part a filename.")
    return form


def _details(form: FormData) -> Details:
    said: dict[str, Any] = {name: value for name, value in form.items() if name not in _FILES and value != ""}
    try:
        if "metadata" in said:
            said["metadata"] = json.loads(said["metadata"])
        return Details.model_validate(said)
    except ValidationError as error:
        raise invalid(error.errors()) from error
    except (ValueError, RecursionError) as error:
        raise Refused(422, "invalid_request", "metadata: is not JSON", next_step='Send {"name": "value"}.') from error


def _audio(form: FormData) -> AsyncIterator[bytes] | None:
    file = form.get("file")
    return _chunks(file) if isinstance(file, UploadFile) else None


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK):
        yield chunk


async def _transcript(form: FormData, settings: IngestSettings) -> bytes | None:
    sent = form.get("transcript")
    if sent is None or sent == "":
        return None
    if isinstance(sent, str):
        return sent.encode("utf-8", "replace")
    if (sent.size or 0) > settings.max_transcript_bytes:
        raise Refused(
            413,
            "too_large",
            f"The transcript is larger than {settings.max_transcript_bytes} bytes.",
            next_step="Raise EARSHOT_INGEST__MAX_TRANSCRIPT_BYTES.",
        )
    return await sent.read()
