"""Errors, named after who acts.

.. code-block:: text

    EarshotError                the cause, a stable code and the next step
    ├── Permanent               can never succeed: dead-letter it, or answer 4xx
    │   ├── Undecodable         bytes that are no event of the topic's schema
    │   ├── UnknownRecording    the catalog has never heard of it
    │   ├── BlobMissing         the claim check points at nothing
    │   ├── BlobMismatch        the blob's hash is not the one announced
    │   ├── ForeignUri          a URI outside the event's tenant or the configured store
    │   ├── NotAudio            nothing in it decodes to sound
    │   ├── LimitExceeded       larger, longer or slower than the configured limit
    │   ├── QuotaExceeded       more than its tenant may use now
    │   └── EngineRejected      the engine cannot handle this input, and says so
    ├── Transient               may succeed later: wait, retry, show the reason
    │   ├── Unavailable         a dependency does not answer
    │   ├── UnitCrashed         the process doing the work died or overran: counted, dead-lettered on the third
    │   └── OutOfMemory         the device has no memory for so much at once: less of it may fit
    └── Misconfigured           stop the worker: a person must act

Anything else is a bug: the worker stops, loudly, with the offset uncommitted.
"""

from __future__ import annotations


class EarshotError(Exception):
    """The base of every error Earshot raises on purpose.

    Args:
        detail: the cause, as a sentence for a person.
        next_step: what that person can do about it.
        code: a stable identifier; by default the class's own.
    """

    code = "internal_error"
    title = "Something went wrong"
    status = 500

    def __init__(self, detail: str, *, next_step: str = "", code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.detail} {self.next_step}".strip()


class Permanent(EarshotError):
    """Can never succeed as it is: dead-letter it, go on with the next."""

    code = "rejected"
    title = "This input cannot be processed"
    status = 422


class Undecodable(Permanent):
    """Bytes that are no event of the topic's schema."""

    code = "undecodable_event"
    title = "The event does not decode"


class UnknownRecording(Permanent):
    """An event names a recording or a revision that the catalog has never heard of."""

    code = "unknown_recording"
    title = "The recording is unknown"
    status = 404


class BlobMissing(Permanent):
    """The URI of an event or a recording points at nothing."""

    code = "blob_missing"
    title = "The stored object is missing"


class BlobMismatch(Permanent):
    """A blob's content is not what the event announced."""

    code = "blob_mismatch"
    title = "The stored object has another hash than announced"


class ForeignUri(Permanent):
    """A URI outside the configured store, or outside the folder of the event's tenant."""

    code = "foreign_uri"
    title = "The URI is outside the tenant's storage"


class NotAudio(Permanent):
    """Nothing in the file decodes to sound."""

    code = "not_audio"
    title = "This is not audio that can be decoded"


class LimitExceeded(Permanent):
    """Larger, longer, or more expensive than the configured limit."""

    code = "limit_exceeded"
    title = "A configured limit was exceeded"
    status = 413


class QuotaExceeded(Permanent):
    """More than its tenant may use now: it can be sent again when something is free.

    Args:
        detail: what is used and what is allowed, as a sentence for a person.
        code: which quota.
        next_step: what that person can do about it.
        after_s: sooner than after so many seconds it makes no sense; ``None``: nobody knows.
    """

    title = "A quota is used up"
    status = 429

    def __init__(self, detail: str, *, code: str, next_step: str, after_s: float | None = None) -> None:
        super().__init__(detail, next_step=next_step, code=code)
        self.after_s = after_s


class EngineRejected(Permanent):
    """The engine looked at the input and cannot handle it."""

    code = "engine_rejected"
    title = "The engine cannot handle this input"


class Transient(EarshotError):
    """May succeed later: wait with backoff, keep the offset, show the reason.

    ``after_s``: a try before so many seconds makes no sense; ``None``: nobody knows.
    """

    code = "try_again"
    title = "Temporarily not possible"
    status = 503
    after_s: float | None = None


class Unavailable(Transient):
    """A dependency does not answer.

    Args:
        dependency: its short name: ``broker``, ``catalog``, ``blobs``, ``vectors``, ``engine``.
        detail: the cause, as a sentence for a person.
        next_step: what that person can do about it.
        after_s: it is left alone for so many seconds.
    """

    code = "dependency_unavailable"
    title = "A dependency does not answer"

    def __init__(self, dependency: str, detail: str, *, next_step: str = "", after_s: float | None = None) -> None:
        super().__init__(detail, next_step=next_step)
        self.dependency = dependency
        self.after_s = after_s


class UnitCrashed(Transient):
    """The process doing a costly unit of work died, or ran past its deadline."""

    code = "unit_crashed"
    title = "The process doing the work crashed"


class OutOfMemory(Transient):
    """The device that does the work has no memory for so much at once; less of it may fit."""

    code = "out_of_memory"
    title = "The device ran out of memory"


class Misconfigured(EarshotError):
    """The worker cannot run as configured: it stops and a person must act."""

    code = "misconfigured"
    title = "The configuration cannot work"
