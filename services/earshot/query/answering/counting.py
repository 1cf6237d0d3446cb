"""A count or a list as an answer: what is said of it, and the first mention of each recording as its proof."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from earshot.kernel.ports import ScoredPassage
from earshot.kernel.speakers import Voices
from earshot.query.answering.aggregate import Counted, Speaking, named
from earshot.query.answering.checker import unmarked
from earshot.query.answering.evidence import Evidence
from earshot.query.answering.intent import Intent, Unit
from earshot.query.answering.messages import AggregationView, CountedRecording

SHOWN = 100
"""Recordings named in the structured answer."""
TOLD = 20
"""And in its text, each with a citation."""
_MINUTE_MS = 60_000


def proofs(intent: Intent, counted: Counted, who: Mapping[str, Speaking]) -> list[ScoredPassage]:
    """The first mention in each recording, or by each person, that the text names, in its order."""
    if intent.unit == "speakers":
        firsts = dict.fromkeys(each.first.id for each in list(who.values())[:TOLD])
        passages = {each.first.id: each.first for each in who.values()}
        return [ScoredPassage(passages[key], 0.0) for key in firsts]
    tallies = counted.tallies
    return [ScoredPassage(tallies[each.id].first, 0.0) for each in counted.census.newest[:TOLD] if each.id in tallies]


def speakers(counted: Counted, voices: Mapping[str, Voices]) -> dict[str, Speaking]:
    """Who mentions it, most first; labels that nobody named are told apart by their recording."""
    titles = {each.id: named(each) for each in counted.census.newest}
    found: dict[str, Speaking] = {}
    for recording, tally in counted.tallies.items():
        for label, speaking in tally.speakers.items():
            name = voices[recording].name(label) if recording in voices else None
            generic = name is None and label.startswith("SPEAKER_")
            who = f"{label} in {titles.get(recording, recording)}" if generic else name or label
            found.setdefault(who, Speaking(speaking.first)).mentions += speaking.mentions
    return dict(sorted(found.items(), key=lambda item: (-item[1].mentions, item[0])))


def view(
    intent: Intent, counted: Counted, evidence: Sequence[Evidence], who: Mapping[str, Speaking]
) -> AggregationView:
    """The count, structured."""
    numbers = {each.recording.id: each.number for each in reversed(evidence)}
    of = counted.tallies if intent.topic else {}
    recordings = [
        CountedRecording(
            recording_id=each.id,
            title=each.title,
            recorded_at=each.recorded_at,
            mentions=of[each.id].mentions if each.id in of else None,
            number=numbers.get(each.id),
        )
        for each in counted.census.newest
    ]
    totals: dict[Unit, int] = {
        "recordings": counted.census.count,
        "mentions": counted.mentions,
        "speakers": len(who),
    }
    return AggregationView(
        unit=intent.unit,
        matter=intent.topic,
        count=totals[intent.unit],
        exact=counted.exact,
        recordings=recordings,
        speakers={name: each.mentions for name, each in list(who.items())[:SHOWN]},
    )


def told(
    intent: Intent,
    seen: AggregationView,
    counted: Counted,
    evidence: Sequence[Evidence],
    who: Mapping[str, Speaking],
    when: str,
) -> str:
    """The count in words. The matter stands in single quotation marks: it quotes the question, not a recording."""
    lines = [_first(intent, seen, counted, when)]
    if intent.unit == "speakers":
        numbers = {each.passage.id: each.number for each in evidence}
        for name, each in list(who.items())[:TOLD]:
            mark = f" [{numbers[each.first.id]}]" if each.first.id in numbers else ""
            lines.append(f"- {unmarked(name)}{f': {_times(each.mentions)}' if intent.topic else ''}{mark}")
        return "\n".join([*lines, *_more(len(who))])
    for shown, listed in zip(seen.recordings[:TOLD], counted.census.newest, strict=False):
        mentions = f", {_times(shown.mentions)}" if shown.mentions else ""
        mark = f" [{shown.number}]" if shown.number else ""
        lines.append(f"- {unmarked(named(listed))}{mentions}{mark}")
    return "\n".join([*lines, *_more(counted.census.count)])


def _first(intent: Intent, seen: AggregationView, counted: Counted, when: str) -> str:
    least = "" if seen.exact else "at least "
    matter = f"'{unmarked(intent.topic)}'"
    recordings = _number(counted.census.count, "recording")
    if intent.unit == "speakers":
        about = f" {'talk' if seen.count != 1 else 'talks'} about {matter}" if intent.topic else " speak"
        people = "person" if seen.count == 1 else "people"
        text = f"{seen.count or 'no'} {people}{about}, as far as speakers are known"
    elif not intent.topic:
        hours = f", {counted.census.duration_ms // _MINUTE_MS} minutes in all" if counted.census.duration_ms else ""
        text = f"there {'is' if counted.census.count == 1 else 'are'} {recordings}{hours}"
    elif intent.unit == "mentions":
        text = f"{matter} is mentioned {_times(seen.count)} in {recordings}"
    else:
        text = f"{recordings} mention{'s' if counted.census.count == 1 else ''} {matter}"
    text = least + text
    return f"{text[:1].upper()}{text[1:]}{f' ({when})' if when else ''}{':' if seen.count else '.'}"


def _more(count: int) -> list[str]:
    return [f"… and {count - TOLD} more."] if count > TOLD else []


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _times(count: int | None) -> str:
    return "once" if count == 1 else f"{count} times"


def wanted_voices(intent: Intent, counted: Counted) -> Collection[str]:
    """Recordings whose speakers' names are needed."""
    return list(counted.tallies)[:SHOWN] if intent.unit == "speakers" else ()
