"""Dead letters, read and answered: what failed where and why, and the record as it was before it failed.

A letter is named by its place in the log, ``audio.segments:3:17``: topic without prefix, partition and offset of the
letter itself. What was done with it is kept beside the log, under that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from earshot.kernel.codec import Codec, Record
from earshot.kernel.errors import Permanent, Undecodable
from earshot.kernel.events import Event
from earshot.kernel.topics import BY_NAME, DEAD_LETTER_SUFFIX, Topic

ORIGIN = "earshot-origin"
"""On a replayed record: where it lay at first. Ids that are derived from a place are derived from that one."""
STAGE, CODE, ERROR = "earshot-stage", "earshot-error-code", "earshot-error"
SOURCE, TRACE_ID, FAILED_AT = "earshot-source", "earshot-trace-id", "earshot-failed-at"
WHY = frozenset({STAGE, CODE, ERROR, SOURCE, TRACE_ID, FAILED_AT})
"""Headers that a stage adds to a record it gives up; the rest are the record's own."""
Outcome = Literal["replayed", "dropped"]
_NAME = re.compile(r"([a-z.]+):(\d{1,6}):(\d{1,18})")


class NoDeadLetter(Permanent):
    """There is no letter with this id, or no longer."""

    code = "no_dead_letter"
    title = "There is no such dead letter"
    status = 404


@dataclass(frozen=True)
class DeadLetter:
    """One record that could never succeed, and why.

    Attributes:
        id: topic without prefix, partition and offset of the letter.
        topic: where the record came from.
        record: the letter as it lies in the log.
        event: decoded; ``None`` for what cannot be.
        failed_at: when the stage gave it up; ``None`` when the letter does not say.
    """

    id: str
    topic: Topic
    record: Record
    event: Event | None
    failed_at: datetime | None

    @property
    def stage(self) -> str:
        """The stage that gave it up."""
        return self.record.header(STAGE) or ""

    @property
    def code(self) -> str:
        """The stable code of the error."""
        return self.record.header(CODE) or ""

    @property
    def tenant(self) -> str | None:
        """Whose it is; ``None`` when nobody can tell."""
        return self.event.tenant if self.event is not None else None


def place(letter_id: str) -> tuple[Topic, int, int]:
    """Source topic, partition and offset of a letter's id. Raises ``NoDeadLetter`` for what is no such id."""
    found = _NAME.fullmatch(letter_id)
    if found is None or found[1] not in BY_NAME:
        raise NoDeadLetter("This is no id of a dead letter.", next_step="Take an id from the list of them.")
    return BY_NAME[found[1]], int(found[2]), int(found[3])


def read(record: Record, prefix: str, codec: Codec) -> DeadLetter:
    """A record of a dead-letter topic, understood as far as it can be. Raises ``Unavailable`` of the registry."""
    name = record.topic.removeprefix(prefix).removesuffix(DEAD_LETTER_SUFFIX)
    topic = BY_NAME[name]
    event = None
    if record.value is not None:
        try:
            event = codec.decode(topic, record.value)
        except Undecodable:
            event = None  # that may be why it is here
    return DeadLetter(f"{name}:{record.partition}:{record.offset}", topic, record, event, _moment(record))


def restored(letter: DeadLetter, prefix: str, partition: int) -> Record:
    """The record as it was before it failed: same key, bytes and headers, to be published once more.

    Args:
        letter: what to send again.
        prefix: of topic names.
        partition: how many partitions its topic has; it goes back to the one it came from while that exists.
    """
    origin = letter.record.header(ORIGIN) or letter.record.header(SOURCE) or ""
    own = tuple((name, value) for name, value in letter.record.headers if name not in WHY and name != ORIGIN)
    came_from = origin_of(letter.record, SOURCE)
    where = came_from[1] % partition if came_from else None
    headers = (*own, (ORIGIN, origin.encode()))
    return Record(prefix + letter.topic.name, letter.record.key, letter.record.value, headers, where)


def origin_of(record: Record, header: str = ORIGIN) -> tuple[str, int, int] | None:
    """Topic, partition and offset that a header names as ``topic/partition/offset``; ``None`` without one."""
    parts = (record.header(header) or "").rsplit("/", 2)
    if len(parts) != 3 or not all(part.isdecimal() and part.isascii() for part in parts[1:]):
        return None
    return parts[0], int(parts[1]), int(parts[2])


def _moment(record: Record) -> datetime | None:
    try:
        moment = datetime.fromisoformat(record.header(FAILED_AT) or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
