"""Who goes next: classes of priority, tenants in turns, milliseconds of audio as the measure.

Plain arithmetic on whole numbers, without a clock or a store: the catalog keeps the numbers, the relay asks, and the
transcriber's lanes follow the same rule of precedence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from earshot.kernel.events import Priority

CLASSES: tuple[Priority, ...] = ("high", "normal", "low")
"""The classes of priority, the one that goes first in front; rows and lanes name them by their place here."""
PARTS = 10
"""A lower class that waits keeps one part in so many."""
QUANTUM_MS = 60_000
"""What a tenant's turn brings: small beside a window, so that a newcomer waits for little of every other tenant."""
UNKNOWN_MS = 600_000
"""What a recording counts for that does not say how long it is, until it has been cut."""
LEAST_MS = 1_000
"""What the shortest recording, or an event without audio, counts for."""


def weight_ms(known_ms: int | None) -> int:
    """What a recording counts for that is, or claims to be, so long; ``None``: it does not say."""
    return UNKNOWN_MS if known_ms is None else max(LEAST_MS, known_ms)


class Precedence:
    """Which class goes next: the highest that waits, while every lower one that waits keeps its part.

    Args:
        credit: of each class, as it was left; nothing by default.

    Attributes:
        credit: ``PARTS`` times what a class has to its credit, in ms; 0 while none above it waits.
    """

    def __init__(self, credit: Iterable[int] = (0,) * len(CLASSES)) -> None:
        self.credit = list(credit)

    def choose(self, weights: Sequence[int | None]) -> int | None:
        """The class to be served next.

        Args:
            weights: of the first that waits in each class, in ms; ``None`` where nothing does.

        Returns:
            Its place; ``None`` when nothing waits.
        """
        waiting = [at for at, weight in enumerate(weights) if weight is not None]
        owed = [at for at in waiting[1:] if self.credit[at] >= PARTS * (weights[at] or 0)]
        if owed:
            return owed[-1]
        return waiting[0] if waiting else None

    def served(self, chosen: int, weights: Sequence[int | None]) -> None:
        """The first of a class was served; ``weights`` are those that the choice was made by."""
        done = weights[chosen] or 0
        top = next(at for at, weight in enumerate(weights) if weight is not None)
        for at, weight in enumerate(weights):
            self.credit[at] = 0 if weight is None or at == top else self.credit[at] + done
        if chosen != top:
            self.credit[chosen] -= PARTS * done


@dataclass
class Turn:
    """A tenant's place in the round of a class: what it may still send before the next tenant's turn, in ms."""

    tenant: str
    deficit_ms: int = QUANTUM_MS


class Round:
    """Deficit round robin: tenants in a ring; who cannot pay for what it sends next gets a quantum and waits a round.

    Args:
        turns: in the order of the ring.
    """

    def __init__(self, turns: Iterable[Turn] = ()) -> None:
        self._ring = {turn.tenant: turn for turn in turns}

    @property
    def turns(self) -> list[Turn]:
        """The ring from the tenant whose turn it is."""
        return list(self._ring.values())

    def join(self, tenant: str) -> None:
        """A tenant has something to send; newcomers go to the end of the ring."""
        self._ring.setdefault(tenant, Turn(tenant))

    def leave(self, tenant: str) -> None:
        """A tenant has nothing more to send, and saves nothing up."""
        self._ring.pop(tenant, None)

    def choose(self, weights: Mapping[str, int]) -> str | None:
        """Whose turn it is, of the tenants in ``weights`` (what each sends next, in ms); the others are passed over.

        Asked again before :meth:`served`, it answers the same.
        """
        if not weights.keys() & self._ring.keys():
            return None
        self._skip_rounds(weights)
        while True:
            for turn in self.turns:
                if turn.tenant not in weights:
                    continue
                if weights[turn.tenant] <= turn.deficit_ms:
                    return turn.tenant
                turn.deficit_ms += QUANTUM_MS
                self._to_the_end(turn)

    def served(self, tenant: str, weight_ms: int) -> None:
        """The tenant has sent so much."""
        self._ring[tenant].deficit_ms -= weight_ms

    def _skip_rounds(self, weights: Mapping[str, int]) -> None:
        """Pass at once the rounds in which nobody could send; a day of audio is 1,440 quanta."""
        turns = [turn for turn in self.turns if turn.tenant in weights]
        rounds = min(-(-(weights[turn.tenant] - turn.deficit_ms) // QUANTUM_MS) for turn in turns) - 1
        for turn in turns if rounds > 0 else ():
            turn.deficit_ms += rounds * QUANTUM_MS

    def _to_the_end(self, turn: Turn) -> None:
        self._ring[turn.tenant] = self._ring.pop(turn.tenant)


@dataclass(frozen=True)
class Window:
    """How much work may be in flight, in ms of audio.

    A tenant may always have one recording in flight, and more while it is below its share and all together are below
    the total, to which a tenant counts no more than its share, however long its recording is.

    Attributes:
        total_ms: of all tenants.
        tenant_ms: of one tenant.
    """

    total_ms: int
    tenant_ms: int


class Flight:
    """The work in flight, by tenant.

    Args:
        window: how much there may be.
        by_tenant: how much there is, in ms.
    """

    def __init__(self, window: Window, by_tenant: Mapping[str, int]) -> None:
        self._window = window
        self.by_tenant = dict(by_tenant)
        self._counted = sum(min(each, window.tenant_ms) for each in by_tenant.values())

    def has_room(self, tenant: str) -> bool:
        """Whether the tenant may send one more recording."""
        mine = self.by_tenant.get(tenant, 0)
        return not mine or (mine < self._window.tenant_ms and self._counted < self._window.total_ms)

    def add(self, tenant: str, weight_ms: int) -> None:
        """A recording of the tenant is in flight."""
        before = self.by_tenant.get(tenant, 0)
        self.by_tenant[tenant] = before + weight_ms
        most = self._window.tenant_ms
        self._counted += min(before + weight_ms, most) - min(before, most)


@dataclass(frozen=True)
class Waiting:
    """An upload that waits for its turn.

    Attributes:
        id: its place in the outbox.
        tenant: whose it is.
        lane: place of its priority in ``CLASSES``.
        audio_ms: what it counts for.
    """

    id: int
    tenant: str
    lane: int
    audio_ms: int


class Schedule:
    """Chooses among what waits: first the class, then the tenant, each tenant's own in order.

    Args:
        precedence: of the classes, as it was left.
        rounds: one for each class, as they were left.
        flight: what is in flight.
        heads: the first that waits of each tenant in each class.
        after: finds the next of the same tenant and class; ``None`` when there is none.
    """

    def __init__(
        self,
        precedence: Precedence,
        rounds: Sequence[Round],
        flight: Flight,
        heads: Iterable[Waiting],
        after: Callable[[Waiting], Waiting | None],
    ) -> None:
        self.precedence = precedence
        self.rounds = list(rounds)
        self.flight = flight
        self._after = after
        self._heads: list[dict[str, Waiting]] = [{} for _ in CLASSES]
        for head in sorted(heads, key=lambda each: each.id):
            self._heads[head.lane][head.tenant] = head
            self.rounds[head.lane].join(head.tenant)
        for ring, mine in zip(self.rounds, self._heads, strict=True):
            for turn in ring.turns:
                if turn.tenant not in mine:
                    ring.leave(turn.tenant)

    def next(self) -> Waiting | None:
        """Take the upload that goes next; ``None`` when nothing waits, or nothing has room."""
        firsts = [self._first(lane) for lane in range(len(CLASSES))]
        weights = [None if first is None else first.audio_ms for first in firsts]
        lane = self.precedence.choose(weights)
        chosen = None if lane is None else firsts[lane]
        if lane is None or chosen is None:
            return None
        self.precedence.served(lane, weights)
        self.rounds[lane].served(chosen.tenant, chosen.audio_ms)
        self.flight.add(chosen.tenant, chosen.audio_ms)
        self._advance(chosen)
        return chosen

    def _first(self, lane: int) -> Waiting | None:
        mine = self._heads[lane]
        weights = {tenant: head.audio_ms for tenant, head in mine.items() if self.flight.has_room(tenant)}
        tenant = self.rounds[lane].choose(weights)
        return None if tenant is None else mine[tenant]

    def _advance(self, taken: Waiting) -> None:
        following = self._after(taken)
        if following is None:
            del self._heads[taken.lane][taken.tenant]
            self.rounds[taken.lane].leave(taken.tenant)
        else:
            self._heads[taken.lane][taken.tenant] = following
