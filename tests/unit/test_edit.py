"""Corrections while others correct."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from earshot.kernel.errors import Permanent
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.ports import Accepted, Job
from earshot.kernel.revising import Correction, revision_changed
from earshot.query.edit import TRIES, edit
from tests.fakes_catalog import TRACE, transcribed

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Books:
    """A recording of two segments; ``others`` corrections of the second come in just before each of ours."""

    def __init__(self, others: int = 0) -> None:
        self.said = [transcribed("t", "r", index) for index in range(2)]
        self.revision = 1
        self.others = others

    async def editable_revision(self, tenant: str, recording_id: str) -> int:
        return self.revision

    async def words(
        self, tenant: str, recording_id: str, revision: int, among: Collection[int]
    ) -> list[SegmentTranscribed]:
        return [segment for segment in self.said if segment.index in among]

    async def edit(
        self,
        tenant: str,
        recording_id: str,
        changed: Sequence[SegmentTranscribed],
        base: int,
        trace: Mapping[str, str],
    ) -> Accepted:
        if self.others:
            self.others -= 1
            self.revision += 1
            self.said[1] = transcribed(tenant, recording_id, 1, text=f"by another, revision {self.revision}")
        if base != self.revision:
            raise revision_changed(self.revision)
        self.revision += 1
        for segment in changed:
            self.said[segment.index] = segment
        job = Job("j", "r", "t", self.revision, "pending", None, (), None, "", 1, NOW, NOW)
        return Accepted(job, created=True)


async def correct(books: Books, expected: Collection[int] | None = None) -> Accepted | None:
    return await edit("t", "r", {0: Correction(text="ours")}, expected, books, TRACE)  # type: ignore[arg-type]


async def test_without_a_precondition_it_is_laid_over_what_others_say_by_now() -> None:
    books = Books(others=TRIES - 1)
    accepted = await correct(books)
    assert accepted is not None
    assert accepted.job.revision == TRIES + 1
    assert [segment.text for segment in books.said] == ["ours", f"by another, revision {TRIES}"]


async def test_it_gives_up_where_somebody_is_always_faster() -> None:
    with pytest.raises(Permanent) as refused:
        await correct(Books(others=TRIES))
    assert (refused.value.code, refused.value.status) == ("revision_changed", 412)


@pytest.mark.parametrize(("books", "expected"), [(Books(), {2}), (Books(others=1), {1}), (Books(), ())])
async def test_with_one_whoever_saw_other_words_changes_nothing(books: Books, expected: Collection[int]) -> None:
    with pytest.raises(Permanent) as refused:
        await correct(books, expected)
    assert refused.value.code == "revision_changed"
    assert books.said[0].text == "segment 0 revision 1"


async def test_what_says_so_already_makes_no_revision() -> None:
    books = Books()
    await correct(books)
    assert await correct(books) is None
    assert books.revision == 2
