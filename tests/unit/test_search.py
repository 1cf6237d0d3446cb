"""The search verb: from a question to hits with their surroundings, through the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from earshot.kernel import ids
from earshot.kernel.errors import Permanent, Unavailable
from earshot.kernel.events import Engine, SegmentTranscribed, Word
from earshot.kernel.gate import RecordingKey, Standing
from earshot.kernel.ports import IndexedPassage, Recording
from earshot.kernel.ports.excerpts import Excerpt
from earshot.kernel.speakers import Voices
from earshot.query.locate import locate
from earshot.query.messages import SearchAnswer, SearchRequest
from earshot.query.search import MOST_NAMESAKES, Judge, search
from tests.fakes_speakers import FakeSpeakers, found, turn
from tests.fakes_vectors import FakeEncoder, FakeReranker, FakeVectors

AT = datetime(2024, 5, 1, tzinfo=UTC)
ENCODER = FakeEncoder()
INDEX = ids.index_name(ENCODER.model, ENCODER.dimensions)


class FakeLibrary:
    """What a search reads of the catalog."""

    def __init__(self) -> None:
        self.rows: dict[RecordingKey, Recording] = {}
        self.said: dict[RecordingKey, dict[int, SegmentTranscribed]] = {}
        self.stands: dict[RecordingKey, Standing] = {}
        self.speakers = FakeSpeakers()
        self.looks = 0

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        return {key: self.stands[key] for key in keys if key in self.stands}

    async def excerpts(self, tenant: str, wanted: Mapping[str, Collection[int]]) -> Mapping[str, Excerpt]:
        self.looks += 1
        return {
            key: Excerpt(
                self.rows[tenant, key],
                {at: segment for at, segment in self.said.get((tenant, key), {}).items() if at in indexes},
                {at: segment.text for at, segment in self.said.get((tenant, key), {}).items()},
            )
            for key, indexes in wanted.items()
            if (tenant, key) in self.rows
        }

    async def voices(self, tenant: str, recording_ids: Collection[str]) -> Mapping[str, Voices]:
        return await self.speakers.voices(tenant, recording_ids)

    async def speakers_named(self, tenant: str, name: str, limit: int) -> list[tuple[str, str]]:
        return await self.speakers.speakers_named(tenant, name, limit)


class System:
    """A store and a catalog that hold the same recordings."""

    def __init__(self) -> None:
        self.vectors, self.library = FakeVectors(), FakeLibrary()
        self.vectors.passages[INDEX] = {}

    def know(self, recording: str, tenant: str = "default", *, audio: bool = True, **stands: object) -> None:
        key = (tenant, recording)
        source_key = "key" if audio else None
        self.library.rows[key] = Recording(
            recording,
            tenant,
            "default",
            f"Title of {recording}",
            "live",
            1,
            1,
            source_key,
            "",
            "",
            0,
            "",
            None,
            AT,
            AT,
            {},
        )
        self.library.stands[key] = Standing("live", 1, **stands)  # type: ignore[arg-type]

    async def say(
        self,
        recording: str,
        *texts: str,
        segment: int = 0,
        revision: int = 1,
        tenant: str = "default",
        timed: bool = True,
        passages: list[tuple[int, int]] | None = None,
    ) -> None:
        """One word a second from 100 s times the segment on; each text a passage, or ranges of words of all texts."""
        if (tenant, recording) not in self.library.rows:
            self.know(recording, tenant)
        start = segment * 100_000
        spoken = " ".join(texts).split()
        words = [
            Word(text=word, start_ms=start + at * 1000, end_ms=start + at * 1000 + 900)
            for at, word in enumerate(spoken)
        ]
        self.library.said.setdefault((tenant, recording), {})[segment] = SegmentTranscribed(
            tenant=tenant, recording_id=recording, revision=revision, index=segment, start_ms=start,
            end_ms=start + len(words) * 1000, text=" ".join(texts), words=words if timed else [],
            engine=Engine(name="test"),
        )  # fmt: skip
        ranges = passages
        if ranges is None:
            lengths = [len(text.split()) for text in texts]
            ranges = [(sum(lengths[:at]), sum(lengths[: at + 1])) for at in range(len(lengths))]
        made = [
            IndexedPassage(
                id=ids.passage_id(ids.segment_id(recording, revision, segment), "fake", ordinal),
                recording_id=recording, revision=revision, segment_index=segment, ordinal=ordinal,
                start_ms=words[first].start_ms, end_ms=words[last - 1].end_ms, text=" ".join(spoken[first:last]),
                collection="default", language="en", speakers=("A",), recorded_at=AT, degraded=True,
                vector=tuple(await ENCODER.encode_query(" ".join(spoken[first:last]))),
            )
            for ordinal, (first, last) in enumerate(ranges)
        ]  # fmt: skip
        held = self.vectors.passages[INDEX].setdefault(tenant, {})
        held.update({passage.id: passage for passage in made})

    async def ask(self, query: str, tenant: str = "default", **request: object) -> SearchAnswer:
        asked = SearchRequest.model_validate({"query": query} | request)
        return await search(asked, tenant, ENCODER, self.vectors, self.library)


async def test_a_hit_says_what_was_said_where_and_around_it() -> None:
    """Words with times, what came before and after across segments, and the audio at that second."""
    system = System()
    await system.say("r", "long long ago")
    await system.say("r", "there was a", "green apple tree", "in the garden", segment=1)
    await system.say("r", "and so on", segment=2)
    hit = (await system.ask("green apple")).hits[0]
    assert (hit.recording_id, hit.title, hit.recorded_at, hit.text) == ("r", "Title of r", AT, "green apple tree")
    assert (hit.start_ms, hit.end_ms, hit.speakers, hit.degraded) == (103_000, 105_900, ["A"], True)
    assert [word.text for word in hit.words] == ["green", "apple", "tree"]
    assert (hit.context_before, hit.context_after) == ("long long ago there was a", "in the garden and so on")
    assert hit.media_url == "/api/v1/recordings/r/audio#t=103.0,105.9"


async def test_a_hit_begins_where_the_wording_of_the_question_does() -> None:
    """Within its passage, whose text stays whole; a question in other words leaves the passage's own beginning."""
    system = System()
    said = "ask not what your country can do for you ask what you can do for your country"
    await system.say("r", said)
    hit = (await system.ask("Ask what you can do, for your country!")).hits[0]
    assert (hit.start_ms, hit.text, hit.media_url) == (9000, said, "/api/v1/recordings/r/audio#t=9.0,16.9")
    assert (await system.ask("a nation and what one may do for it")).hits[0].start_ms == 0


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("what your country can do for you", 8),
        ("ask what you can do for your country", 17),  # heard as: when you can do for your lovely
        ("my fellow americans", 2),
        ("country", 10),
        ("your lovely", 21),
        ("bananas", None),
        ("is there any country where they all sing", None),
        ("?!", None),
    ],
)
def test_wording_is_located_also_where_it_was_misheard(query: str, place: int | None) -> None:
    """In what an engine really heard of a clip."""
    heard = "and all my fellow america and not so what your country can do for you and when you can do for your lovely"
    words = [Word(text=text, start_ms=at, end_ms=at + 1) for at, text in enumerate(heard.split())]
    assert locate(query, words) == place


async def test_a_transcript_without_word_times_or_audio_still_has_its_context() -> None:
    system = System()
    system.know("r", audio=False)
    await system.say("r", "there was a", "green apple tree", "in the garden", timed=False)
    hit = (await system.ask("green apple")).hits[0]
    assert (hit.words, hit.context_before, hit.context_after) == ([], "there was a", "in the garden")
    assert hit.media_url is None


@pytest.mark.parametrize(
    "standing", [None, Standing("erased", 1), Standing("cancelled", 1), Standing("live", 2, visible_from=2)]
)
async def test_what_the_gate_refuses_is_not_found(standing: Standing | None) -> None:
    """Whatever the index still holds; the others take its place."""
    system = System()
    await system.say("gone", "green apple tree")
    await system.say("there", "green pear")
    del system.library.stands["default", "gone"]
    if standing is not None:
        system.library.stands["default", "gone"] = standing
    for mode in ("hybrid", "keyword", "vector"):
        assert [hit.recording_id for hit in (await system.ask("green apple", mode=mode)).hits] == ["there"]


async def test_the_forbidden_never_crowd_out_the_allowed() -> None:
    """Many better passages of an erased recording do not shorten the answer."""
    system = System()
    for segment in range(60):
        await system.say("gone", "apple apple", segment=segment)
    await system.say("there", "one apple in a long tale of pears")
    system.library.stands["default", "gone"] = Standing("erased", 1)
    assert [hit.recording_id for hit in (await system.ask("apple", top_k=1)).hits] == ["there"]


async def test_a_recording_erased_while_looking_is_left_out() -> None:
    system = System()
    await system.say("r", "green apple")
    del system.library.rows["default", "r"]
    assert (await system.ask("apple")).hits == []


async def test_passages_that_share_words_are_one_hit() -> None:
    system = System()
    await system.say("r", "one two apple four five six seven", passages=[(0, 4), (2, 7)])
    assert len((await system.ask("apple")).hits) == 1


async def test_of_two_revisions_the_higher_is_shown() -> None:
    """While a new attempt is under way both are indexed and visible."""
    system = System()
    await system.say("r", "apple apple apple", revision=1)
    await system.say("r", "apple pear plum", revision=2)
    system.library.stands["default", "r"] = Standing("live", 2)
    assert [hit.text for hit in (await system.ask("apple")).hits] == ["apple pear plum"]


async def test_a_tenant_finds_only_its_own() -> None:
    system = System()
    await system.say("r", "green apple of one", tenant="one")
    await system.say("r", "green apple of two", tenant="two")
    assert [hit.text for hit in (await system.ask("apple", "one")).hits] == ["green apple of one"]
    assert (await system.ask("apple", "three")).hits == []


async def test_an_answer_has_at_most_top_k_hits_best_first() -> None:
    system = System()
    for segment in range(20):
        await system.say("r", "apple " + "pear " * segment, segment=segment)
    hits = (await system.ask("apple", top_k=5, mode="vector")).hits
    assert [hit.start_ms // 100_000 for hit in hits] == [0, 1, 2, 3, 4]


async def test_filters_reach_the_store() -> None:
    system = System()
    await system.say("one", "green apple")
    await system.say("two", "green apple")
    for given in ("two", ["two", "three"]):
        shown = (await system.ask("apple", filters={"recording_id": given})).hits
        assert [hit.recording_id for hit in shown] == ["two"]
    assert (await system.ask("apple", filters={"speaker": "B"})).hits == []
    assert len((await system.ask("apple", filters={"from": "2024-05-01T00:00:00Z", "to": AT.isoformat()})).hits) == 2
    assert (await system.ask("apple", filters={"from": "2024-05-02T00:00:00Z"})).hits == []


async def test_a_speaker_is_searched_for_by_label_or_by_name_and_shown_by_name() -> None:
    """The name counts in the recordings where it was given; words say who spoke each of them."""
    system = System()
    for recording in ("one", "two"):
        await system.say(recording, "green apple")
    speakers = system.library.speakers
    await speakers.store_turns(found("one", turn("A", 0, 950), turn("B", 950, 5000)))
    await speakers.name_speakers("default", "one", {"A": "Ada", "B": "Bob"})
    (hit,) = (await system.ask("apple", filters={"speaker": "Ada"})).hits
    assert (hit.recording_id, hit.speakers, [word.speaker for word in hit.words]) == ("one", ["Ada"], ["Ada", "Bob"])
    by_label = (await system.ask("apple", filters={"speaker": "A"})).hits
    assert {(hit.recording_id, *hit.speakers) for hit in by_label} == {("one", "Ada"), ("two", "A")}
    assert (await system.ask("apple", filters={"speaker": "Bob"})).hits == []
    assert (await system.ask("apple", "other", filters={"speaker": "Ada"})).hits == []


async def test_a_name_that_is_given_everywhere_is_no_filter() -> None:
    system = System()
    for number in range(MOST_NAMESAKES + 1):
        await system.library.speakers.name_speakers("default", f"r{number}", {"A": "Ada"})
    with pytest.raises(Permanent, match="'Ada' was given in more than"):
        await system.ask("apple", filters={"speaker": "Ada"})


@pytest.mark.parametrize(
    "request_",
    [
        {"query": "   "},
        {"query": "x" * 2001},
        {"query": "x", "top_k": 0},
        {"query": "x", "top_k": 101},
        {"query": "x", "mode": "sql"},
        {"query": "x", "filters": {"tenant": "other"}},
        {"query": "x", "tenant": "other"},
    ],
)
def test_a_question_has_limits(request_: dict[str, object]) -> None:
    """Too short, too long, too many, or with fields that do not exist."""
    with pytest.raises(ValidationError):
        SearchRequest.model_validate(request_)


async def test_searches_side_by_side_do_not_disturb_one_another() -> None:
    system = System()
    await system.say("one", "green apple")
    await system.say("two", "yellow pear")
    answers = await asyncio.gather(*(system.ask(text, top_k=1) for text in ["apple", "pear"] * 5))
    assert [answer.hits[0].recording_id for answer in answers] == ["one", "two"] * 5


async def test_a_search_looks_into_the_catalog_once_for_all_its_hits() -> None:
    """However many recordings they are of."""
    system = System()
    for number in range(12):
        await system.say(f"r{number}", "green apple")
    assert len((await system.ask("apple", top_k=12)).hits) == 12
    assert system.library.looks == 1


class Prefers:
    """A reranker that likes one word."""

    model = "taste"

    def __init__(self, word: str) -> None:
        self.word = word

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(self.word in text) for text in texts]


async def test_a_reranker_puts_first_what_it_prefers_and_is_named() -> None:
    system = System()
    for colour in ("green", "yellow"):
        await system.say(colour, f"one {colour} apple")
    asked = SearchRequest.model_validate({"query": "apple"})
    for colour, other in (("green", "yellow"), ("yellow", "green")):
        answer = await search(asked, "default", ENCODER, system.vectors, system.library, Judge(Prefers(colour)))
        assert [hit.recording_id for hit in answer.hits] == [colour, other]
        assert (answer.reranker, answer.notices) == ("taste", [])


@pytest.mark.parametrize("mode", ["keyword", "vector"])
async def test_by_words_or_by_meaning_alone_is_without_a_reranker(mode: str) -> None:
    system, reranker = System(), FakeReranker()
    await system.say("r", "green apple")
    asked = SearchRequest.model_validate({"query": "apple", "mode": mode})
    answer = await search(asked, "default", ENCODER, system.vectors, system.library, Judge(reranker))
    assert (len(answer.hits), answer.reranker, reranker.calls) == (1, None, [])


async def test_a_reranker_that_fails_is_left_out_and_said_so() -> None:
    system, reranker = System(), FakeReranker()
    await system.say("r", "green apple")
    reranker.failure = Unavailable("reranker", "It rests.")
    asked = SearchRequest.model_validate({"query": "apple"})
    answer = await search(asked, "default", ENCODER, system.vectors, system.library, Judge(reranker))
    assert ([hit.recording_id for hit in answer.hits], answer.reranker) == (["r"], None)
    assert answer.notices == ["Not reranked: It rests."]


async def test_a_reranker_is_shown_only_the_best() -> None:
    system, reranker = System(), FakeReranker()
    for number in range(8):
        await system.say(f"r{number}", "green apple " + "pear " * number)
    asked = SearchRequest.model_validate({"query": "apple"})
    await search(asked, "default", ENCODER, system.vectors, system.library, Judge(reranker, candidates=3))
    [(query, texts)] = reranker.calls
    assert (query, len(texts)) == ("apple", 3)
