"""Counts and lists over a whole library: every recording that matches, not the best ten passages.

What is counted is what was said: a passage mentions a matter when it has all the words that carry it, whatever their
endings; of words in quotation marks, these words in this order. The keyword index proposes, this decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from earshot.kernel.gate import visible
from earshot.kernel.ports import Encoder, IndexedPassage, ScoredPassage, SearchFilters, VectorStore
from earshot.kernel.ports.answers import Census, Library, Listed
from earshot.kernel.question import words_in
from earshot.query.answering.intent import Intent
from earshot.query.answering.stems import carrying, variants
from earshot.query.search import Library as Searched

MOST_PASSAGES = 10_000
"""Passages looked at for one count: what Weaviate gives at most. Beyond, the answer says "at least"."""


@dataclass(frozen=True)
class Matter:
    """What is counted: stems that a passage must have, or words in a row."""

    stems: tuple[str, ...] = ()
    row: tuple[str, ...] = ()

    def mentions(self, text: str) -> int:
        """How often a passage mentions it; without any words, once."""
        words = words_in(text)
        if self.row:
            length = len(self.row)
            return sum(tuple(words[at : at + length]) == self.row for at in range(len(words) - length + 1))
        if not self.stems:
            return 1
        found = carrying(text)
        return min((found.count(one) for one in self.stems), default=0)

    def keywords(self) -> str:
        """What the keyword index is asked for: any of these, in all their endings."""
        return " ".join(dict.fromkeys(form for word in self.row or self.stems for form in variants(word)))


@dataclass
class Speaking:
    """How often somebody mentions it, and the first passage in which they do."""

    first: IndexedPassage
    mentions: int = 0


@dataclass
class Tally:
    """What one recording has: mentions by the label of who speaks, and the first passage that mentions it."""

    first: IndexedPassage
    mentions: int = 0
    speakers: dict[str, Speaking] = field(default_factory=dict)


@dataclass(frozen=True)
class Counted:
    """A library, counted.

    Attributes:
        census: the recordings that match, newest first.
        tallies: by recording; empty when nothing had to be mentioned.
        exact: whether every passage that can match was looked at.
    """

    census: Census
    tallies: Mapping[str, Tally]
    exact: bool

    @property
    def mentions(self) -> int:
        """In all recordings together."""
        return sum(tally.mentions for tally in self.tallies.values())


def matter(intent: Intent) -> Matter:
    """What a count is about."""
    if intent.quoted:
        return Matter(row=tuple(words_in(intent.topic)))
    return Matter(stems=tuple(dict.fromkeys(carrying(intent.topic)))) if intent.topic else Matter()


async def count(
    about: Matter,
    filters: SearchFilters,
    tenant: str,
    index: str,
    encoder: Encoder,
    vectors: VectorStore,
    library: Searched,
    census: Library,
    shown: int,
    *,
    by_passages: bool,
) -> Counted:
    """Count the recordings that mention a matter and satisfy the filters.

    Args:
        about: without words, all recordings.
        filters: every one of them holds for every passage counted.
        tenant: whose.
        index: of the passages.
        encoder: for lists that have no words to look for.
        vectors: where the passages are.
        library: the gate.
        census: what the catalog knows of recordings.
        shown: so many recordings are named.
        by_passages: whether passages must be looked at even without a matter: for speakers.
    """
    where: dict[str, Any] = {
        "collection": filters.collection,
        "among": filters.collections,
        "language": filters.language,
        "recorded_from": filters.recorded_from,
        "recorded_to": filters.recorded_to,
    }
    if not (about.stems or about.row or filters.speaker or by_passages):
        wanted = filters.recording_ids or None
        return Counted(await census.census(tenant, recording_ids=wanted, limit=shown, **where), {}, exact=True)
    keyword = bool(about.stems or about.row)
    found = await vectors.search(
        index,
        tenant,
        text=about.keywords(),
        vector=None if keyword else await encoder.encode_query("speech"),
        mode="keyword" if keyword else "vector",
        filters=filters,
        limit=MOST_PASSAGES,
    )
    tallies = _tallied(await _visible(found, tenant, library), about)
    undated = await census.census(tenant, recording_ids=filters.recording_ids or None, limit=0, **where)
    listed = await census.census(tenant, recording_ids=set(tallies), limit=shown)
    return Counted(replace(listed, undated=undated.undated), tallies, exact=len(found) < MOST_PASSAGES)


async def _visible(found: Sequence[ScoredPassage], tenant: str, library: Searched) -> list[IndexedPassage]:
    passages = [hit.passage for hit in found]
    standings = await library.standings({(tenant, passage.recording_id) for passage in passages})
    seen = [each for each in passages if visible(standings.get((tenant, each.recording_id)), each.revision)]
    latest: dict[tuple[str, int], int] = {}
    for each in seen:
        key = (each.recording_id, each.segment_index)
        latest[key] = max(latest.get(key, 0), each.revision)
    return [each for each in seen if each.revision == latest[each.recording_id, each.segment_index]]


def _tallied(passages: Sequence[IndexedPassage], about: Matter) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for passage in sorted(passages, key=lambda each: (each.recording_id, each.start_ms)):
        times = about.mentions(passage.text)
        if not times:
            continue
        tally = tallies.setdefault(passage.recording_id, Tally(passage))
        tally.mentions += times
        for speaker in passage.speakers:
            tally.speakers.setdefault(speaker, Speaking(passage)).mentions += times
    return tallies


def named(listed: Listed) -> str:
    """A recording as a person would name it."""
    day = f" ({listed.recorded_at.date().isoformat()})" if listed.recorded_at else ""
    return f"{listed.title or 'Untitled'}{day}"
