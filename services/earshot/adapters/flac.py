"""Segments as samples: 16 kHz mono 16-bit FLAC, and nothing else, decoded within a limit."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from earshot.kernel.errors import BlobMismatch, LimitExceeded, NotAudio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
MAX_SECONDS = 60  # a segment has at most 30 s; the rest is room for another cutter's segments


def samples(flac: bytes) -> NDArray[np.int16]:
    """The samples of a segment, shape ``(n,)``.

    Raises:
        NotAudio: no FLAC, or a broken one.
        BlobMismatch: FLAC of another rate, width or number of channels.
        LimitExceeded: longer than ``MAX_SECONDS``.
    """
    import soundfile

    if not flac.startswith(b"fLaC"):  # keeps the library's many other parsers away from hostile bytes
        raise NotAudio("The segment is no FLAC file.")
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as file:
            if (file.samplerate, file.channels, file.subtype) != (SAMPLE_RATE, 1, "PCM_16"):
                found = f"{file.samplerate} Hz, {file.channels} channels, {file.subtype}"
                raise BlobMismatch(f"A segment must be 16 kHz, mono, 16 bit; this one is {found}.")
            decoded: NDArray[np.int16] = file.read(MAX_SECONDS * SAMPLE_RATE + 1, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise NotAudio(f"The segment does not decode: {error.error_string}") from None
    if len(decoded) > MAX_SECONDS * SAMPLE_RATE:
        raise LimitExceeded(f"The segment is longer than {MAX_SECONDS} s.")
    return decoded


def digest(flac: bytes) -> str:
    """Hex SHA-256 of the decoded samples, as 16-bit little-endian PCM. Raises what :func:`samples` raises."""
    return hashlib.sha256(samples(flac).astype("<i2", copy=False).tobytes()).hexdigest()


def silence(seconds: float) -> bytes:
    """A FLAC file of nothing, to warm an engine up."""
    import numpy as np
    import soundfile

    buffer, nothing = io.BytesIO(), np.zeros(int(seconds * SAMPLE_RATE), np.int16)
    soundfile.write(buffer, nothing, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
