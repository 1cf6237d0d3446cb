"""Audio by byte ranges (RFC 9110, section 14), streamed from the blob store."""

from __future__ import annotations

import re

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from earshot.adapters.problems import Refused
from earshot.kernel.ports import BlobStore, Recording

_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$", re.ASCII)
_PLAYABLE = re.compile(r"^(audio|video)/[a-z0-9.+-]{1,40}$")


async def serve(request: Request, recording: Recording, blobs: BlobStore) -> Response:
    """The audio or the range of it that was asked for.

    Raises:
        Refused: 404 for a transcript without audio, 416 for a range outside.
        BlobMissing: the audio is gone.
    """
    if recording.source_key is None:
        raise Refused(404, "no_audio", "This recording is a transcript without audio.")
    size = await blobs.size(recording.source_key)
    etag = f'"{recording.id}"'  # a recording's audio never changes, and its hash is what a producer claims
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": "inline",
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    wanted = byte_range(request.headers.get("range"), size) if _fresh(request, etag) else None
    start, end = wanted or (0, size)
    headers["Content-Length"] = str(end - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if wanted else 200
    media_type = recording.media_type if _PLAYABLE.match(recording.media_type) else "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(blobs.read(recording.source_key, start, end), status, headers, media_type)


def _fresh(request: Request, etag: str) -> bool:
    return request.headers.get("if-range", etag) == etag


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """``[start, end)`` of a Range header; ``None`` when the whole is to be sent.

    Several ranges and other units are answered with the whole, as RFC 9110 allows.

    Raises:
        Refused: 416 when nothing of the range is there.
    """
    match = _RANGE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or start >= end:
        raise Refused(
            416,
            "range_not_satisfiable",
            f"The audio has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
