"""The catalog: which indexes there are, and which of them answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

IndexState = Literal["building", "serving", "leaving", "kept", "dropped"]
"""What becomes of an index, in this order.

``building``: a second group fills it from the start of ``audio.transcripts``. ``serving``: the alias points at it;
there is one at most. ``leaving``: the alias has moved on, and its group still takes in what was published until then.
``kept``: nothing new comes into it, erasures do. ``dropped``: the store no longer has it.
"""
Ends = Mapping[int, int]
"""The offset after the last record, by partition."""


@dataclass(frozen=True)
class NewIndex:
    """An index that is wished for.

    Attributes:
        name: as ``ids.index_name`` makes it of the model.
        encoder: what the settings call the encoder: ``wordllama``, ``bge-m3``, a folder.
        model: what the encoder calls itself.
        dimensions: of its vectors.
    """

    name: str
    encoder: str
    model: str
    dimensions: int


@dataclass(frozen=True)
class Index(NewIndex):
    """An index as the catalog knows it.

    Attributes:
        generation: 1 for the first; each reindexing counts one further, also into an index that was there before.
        state: where it is on its way.
        barrier: the ends of ``audio.transcripts`` when building began, to measure progress by.
        until: the ends of ``audio.transcripts`` up to which its group takes in what came; ``None``: not yet known.
        created_at: when this generation was asked for.
        served_at: when the alias moved to it.
    """

    generation: int
    state: IndexState
    created_at: datetime
    barrier: Ends = field(default_factory=dict)
    until: Ends | None = None
    served_at: datetime | None = None

    @property
    def group(self) -> str:
        """The consumer group that fills it. Its commits say what is in the index, so no other index ever has it."""
        return "embedder" if self.generation == 1 else f"embedder-{self.generation}"


class Indexes(Protocol):
    """The authority on the alias. Raises ``Unavailable("catalog", …)``."""

    async def indexes(self) -> list[Index]:
        """Every index there ever was, by generation."""

    async def first_index(self, new: NewIndex) -> Index:
        """The index that serves; where none ever did, this one from now on."""

    async def build_index(self, new: NewIndex, barrier: Ends) -> Index:
        """Begin to build an index, or find it being built, or serving already.

        Raises ``Permanent`` (``reindexing``) while another is being built or takes over.
        """

    async def move_alias(self, name: str) -> None:
        """In one transaction: an index that is being built serves, and the one that served leaves.

        Changes nothing when it is not being built.
        """

    async def set_until(self, name: str, ends: Ends) -> None:
        """What an index that leaves still takes in; the first to say so decides."""

    async def change_index(self, name: str, before: Collection[IndexState], after: IndexState) -> bool:
        """Change the state of an index; ``False`` when it is in none of those states."""


def serving(indexes: Sequence[Index]) -> Index | None:
    """The index that the alias points at."""
    return next((index for index in indexes if index.state == "serving"), None)


def in_state(indexes: Sequence[Index], *states: IndexState) -> list[Index]:
    """The indexes that are in one of these states."""
    return [index for index in indexes if index.state in states]
