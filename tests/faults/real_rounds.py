"""Rounds of uploads in which stages die and recordings are withdrawn, and all that must be true after them."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from earshot.kernel.ports import IndexedPassage
from tests.faults import real_finds as finds
from tests.faults.guarantees import Outcome
from tests.faults.real import Flow, Speech
from tests.faults.real_oracle import complaints

ENDED = {"completed", "failed", "cancelled"}


@dataclass(frozen=True)
class Fate:
    """What happens to a recording on its way.

    Attributes:
        what: ``kept``, ``erased``, ``cancelled`` (and stays so), ``retried`` (after a cancellation).
        stage: the moment is when this stage has done so many segments; empty: at once.
        segments: how many.
        erased_after: whether it is erased at last, at a moment of its own.
    """

    what: str
    stage: str
    segments: int
    erased_after: bool = False


def fates(chance: random.Random, number: int) -> list[Fate]:
    """So many fates: every kind as often, at random moments."""
    kinds = ["kept", "erased", "cancelled", "retried"]
    moments = ["", "transcriber", "transcriber", "embedder", "indexer"]
    return [
        Fate(
            kinds[at % len(kinds)],
            chance.choice(moments),
            chance.randint(1, 2),
            erased_after=at >= len(kinds) and kinds[at % len(kinds)] in ("cancelled", "retried"),
        )
        for at in range(number)
    ]


class Rounds:
    """Uploads to a flow, with an account of what must have become of each."""

    def __init__(self, flow: Flow, chance: random.Random) -> None:
        self.flow, self.chance = flow, chance
        self.kept: dict[str, Speech] = {}
        self.erased: set[str] = set()
        self.cancelled: dict[str, int] = {}
        self.met: Counter[str] = Counter()
        self._added = 0

    async def upload(self, speech: Speech) -> str:
        """Upload into a collection of its own, so that it is a new recording."""
        self._added += 1
        accepted = await self.flow.add(speech, f"c{self.chance.randrange(2**32)}-{self._added}")
        self.kept[accepted["recording_id"]] = speech
        return str(accepted["recording_id"])

    async def erase(self, recording_id: str) -> None:
        """Erase a recording."""
        answer = await self.flow.http.delete(f"/recordings/{recording_id}")
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text
        self.kept.pop(recording_id, None)
        self.erased.add(recording_id)
        self.met["erased"] += 1

    # --- dying --------------------------------------------------------------------------------------------------------

    async def all_die(self, points: dict[str, str], new: Sequence[Speech], outcome: Outcome) -> None:
        """Let each stage die once at its point while recordings pass, with work in flight."""
        died_before = len(self.flow.deaths)
        for stage, point in points.items():
            self.flow.arm(stage, point, self.chance.randint(1, 4 if point == "in_work" else 2))
        await asyncio.gather(*[self.upload(speech) for speech in new])
        for _ in range(6):
            await self.erase(self.chance.choice(sorted(self.kept)))
            await self.flow.drained()
            if all(self.flow.obeyed(stage) for stage in points):
                break
            await self.upload(self.chance.choice(new))  # what comes in one batch passes a point once: more work
        deaths = self.flow.deaths[died_before:]
        assert sorted(death.name for death in deaths) == sorted(points), (deaths, self.flow.last_words())
        for death in deaths:
            assert death.code == -signal.SIGKILL, death
            outcome.hit(death.behind)

    # --- withdrawing --------------------------------------------------------------------------------------------------

    async def withdraw(self, what: Sequence[Fate], new: Sequence[Speech]) -> None:
        """Upload a recording for each fate, all at once; several have the same sound, and share its transcripts."""
        await asyncio.gather(*[self._meet(fate, new[at % len(new)]) for at, fate in enumerate(what)])

    async def _meet(self, fate: Fate, speech: Speech) -> None:
        recording_id = await self.upload(speech)
        await self._moment(recording_id, fate)
        if fate.what == "erased":
            await self.erase(recording_id)
        elif fate.what in ("cancelled", "retried") and await self._cancel(recording_id) and fate.what == "retried":
            await self._retry(recording_id, speech)
        if fate.erased_after:
            if fate.what == "retried":
                await self._moment(recording_id, fate)
            await self.erase(recording_id)

    async def _moment(self, recording_id: str, fate: Fate) -> None:
        """Return when the recording is as far as the fate says, or at its end."""

        async def there() -> bool:
            job = await self.flow.job(recording_id)
            done = job["stages"].get(fate.stage, {"done": 0})["done"]
            return not fate.stage or done >= fate.segments or job["state"] in ENDED

        await self.flow.sure(there, every=0.02)

    async def _cancel(self, recording_id: str) -> bool:
        """Cancel the first attempt; ``False`` when it had ended already."""
        answer = await self.flow.http.delete(f"/jobs/{recording_id}")
        if answer.status_code == httpx.codes.CONFLICT:
            self.met["too late"] += 1
            return False
        assert answer.status_code == httpx.codes.OK, answer.text
        self.met["cancelled"] += 1
        self.cancelled[recording_id] = answer.json()["revision"]
        del self.kept[recording_id]
        return True

    async def _retry(self, recording_id: str, speech: Speech) -> None:
        answer = await self.flow.http.post(f"/jobs/{recording_id}/retry")
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        self.met["retried"] += 1
        self.kept[recording_id] = speech

    # --- what must be true at the end ---------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when nothing is on its way and nothing is wrong."""
        await self.flow.drained()
        found = await self.complaints()
        assert not found, f"{found}\n{self.flow.last_words()}"

    async def account(self, outcome: Outcome) -> None:
        """Tell an outcome what was kept of the uploads, what is wrong, and what the log holds twice."""
        published = sum(len(speech.texts) for speech in self.kept.values())
        twice = await finds.doubled_in_the_log(self.flow, self.kept)
        outcome.count(published=published, complaints=await self.complaints(), duplicates=twice)

    async def complaints(self) -> list[str]:
        """What is wrong with anything that was ever uploaded."""
        seen = await finds.see(self.flow, self.kept)
        found = [f"{each}: {what}" for each in self.kept for what in complaints(self.kept[each].texts, seen[each])]
        for each in self.kept:
            found += [f"{each}: {what}" for what in await finds.not_told(self.flow, each)]
        for each in self.erased:
            found += [f"{each} was erased: {what}" for what in await finds.left_of_erased(self.flow, each)]
        for each, revision in self.cancelled.items():
            found += [
                f"{each} was cancelled: {what}" for what in await finds.left_of_cancelled(self.flow, each, revision)
            ]
            if each not in self.erased and not await finds.source_is_kept(self.flow, each):
                found.append(f"{each} was cancelled: its source is gone")
        found += [f"ended by itself: {death}" for death in self.flow.deaths if death.code != -signal.SIGKILL]
        return found + await finds.unused_transcripts(self.flow) + await finds.dead_letters(self.flow)

    # --- planted, to see the oracle see it ----------------------------------------------------------------------------

    async def plant_loss(self, recording_id: str, segment: int) -> None:
        """Take the passages of a segment out of the vector store."""
        for name in await self.flow.kit.vectors.indexes():
            await self.flow.kit.vectors.delete(name, finds.TENANT, recording_id, segment_index=segment)

    async def plant_double(self, recording_id: str, segment: int) -> None:
        """Give a segment a passage that nobody made."""
        (name,) = [name for name in await self.flow.kit.vectors.indexes() if name.startswith("Passages_wordllama")]
        vector = (1.0, *[0.0] * (int(name.rpartition("_")[2]) - 1))
        strange = IndexedPassage(
            id="00000000-0000-4000-8000-000000000077",
            recording_id=recording_id,
            revision=1,
            segment_index=segment,
            ordinal=77,
            start_ms=0,
            end_ms=1,
            text="strange",
            collection="default",
            language="en",
            speakers=(),
            recorded_at=None,
            degraded=False,
            vector=vector,
        )
        await self.flow.kit.vectors.replace(name, finds.TENANT, recording_id, 1, segment, [strange])
