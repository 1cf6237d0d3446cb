"""What was delivered, what was acknowledged, and therefore what may be committed. Pure bookkeeping, no Faust."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


@dataclass
class _Partition:
    """One assigned partition.

    Attributes:
        generation: of the assignment under which its records were delivered.
        in_flight: delivered, not acknowledged.
        end: one past the highest delivered offset.
        committed: the last commit that the broker confirmed; ``None`` when not known.
        rewound: the position went back; the next delivery starts the bookkeeping anew.
        again: what comes was delivered before the position went back, and some of it may be committed by now.
    """

    generation: int = 0
    in_flight: set[int] = field(default_factory=set)
    end: int | None = None
    committed: int | None = None
    rewound: bool = False
    again: bool = False

    def restart(self, generation: int) -> None:
        """Forget deliveries, keep the commit."""
        self.generation = generation
        self.in_flight.clear()
        self.end = None
        self.again, self.rewound = self.rewound, False


class Offsets(Generic[P]):
    """The offsets of one consumer: commit the lowest delivered but unacknowledged one, else the last delivered + 1.

    Offsets need not be consecutive: compaction and transaction markers leave gaps, which nothing waits for.
    Not thread-safe; all calls come from the consumer's event loop.
    """

    def __init__(self) -> None:
        self._partitions: dict[P, _Partition] = {}

    def delivered(self, partition: P, offset: int, generation: int) -> int | None:
        """A record is on its way to the stage. Records of another generation replace those before.

        A record before the commit shows that the log ended before that, so that the position was reset: commits begin
        anew. Not so after the position went back, when the first copies may have been acknowledged meanwhile.

        Returns:
            the offset that was to be expected; ``None`` where none can be told.
        """
        known = self._partitions.setdefault(partition, _Partition(generation))
        if known.rewound or known.generation != generation:
            known.restart(generation)
        expected = known.committed if known.end is None else known.end
        if known.committed is None or offset >= known.committed:
            known.again = False
        elif known.again:
            expected = known.end
        else:
            known.restart(generation)
            known.committed = None
        known.in_flight.add(offset)
        known.end = offset + 1 if known.end is None else max(known.end, offset + 1)
        return expected

    def acked(self, partition: P, offset: int, generation: int) -> bool:
        """The stage is done with a record; ``False`` when it is of a revoked partition or an older generation."""
        known = self._partitions.get(partition)
        if known is None or known.generation != generation:
            return False
        known.in_flight.discard(offset)
        return True

    def next_commit(self, partition: P) -> int | None:
        """The offset to commit now, or ``None`` when there is nothing new to commit."""
        known = self._partitions.get(partition)
        if known is None or known.end is None:
            return None
        offset = min(known.in_flight, default=known.end)
        return offset if offset > (known.committed or 0) else None

    def committed(self, partition: P, offset: int | None) -> None:
        """The broker holds this commit; ``None`` when it holds none. Also called with what it held at the start."""
        self._partitions.setdefault(partition, _Partition()).committed = offset

    def rewind(self, partitions: Iterable[P] | None = None) -> None:
        """The position went back to the commit (all partitions when ``None``): records in flight will come again.

        Until they do, acknowledgements of the first copies still count.
        """
        for partition in list(self._partitions) if partitions is None else partitions:
            if partition in self._partitions:
                self._partitions[partition].rewound = True

    def forget(self, partitions: Iterable[P]) -> None:
        """The partitions were revoked."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def partitions(self) -> list[P]:
        """The partitions known."""
        return list(self._partitions)
