"""Claim checks: events carry a URI and a hash, and both are looked at before anything is done with the bytes."""

from __future__ import annotations

import hashlib

from earshot.kernel.errors import BlobMismatch, LimitExceeded
from earshot.kernel.events import AudioUploaded
from earshot.kernel.ports import BlobStore


def segments_folder(tenant: str, recording_id: str, revision: int) -> str:
    """Where the audio of the segments of one attempt at a recording lies."""
    return f"{tenant}/recordings/{recording_id}/{revision}/segments/"


def segment_key(tenant: str, recording_id: str, revision: int, index: int) -> str:
    """The blob of one segment."""
    return f"{segments_folder(tenant, recording_id, revision)}{index:06d}.flac"


async def check(upload: AudioUploaded, key: str, blobs: BlobStore, max_bytes: int) -> None:
    """Refuse what is too large to touch, and what is not what was announced.

    Raises:
        LimitExceeded: it has more than ``max_bytes``.
        BlobMissing, BlobMismatch: it is not there, or something else.
        Unavailable: the store does not answer.
    """
    if (size := await blobs.size(key)) > max_bytes:
        raise LimitExceeded(f"The recording has {size:,} bytes; the limit is {max_bytes:,}.")
    if not upload.sha256:
        return
    digest = hashlib.sha256()
    async for chunk in blobs.read(key):
        digest.update(chunk)
    if digest.hexdigest() != upload.sha256.lower():
        raise BlobMismatch(
            f"The audio at {upload.uri} has the SHA-256 {digest.hexdigest()}, announced was {upload.sha256[:64]}.",
            next_step="Upload it again and announce the hash of what was stored.",
        )
