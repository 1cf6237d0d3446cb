"""Citations as clients see them: recording, speaker, second, and where to hear it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from earshot.query.answering.checker import Quotation, Sentence
from earshot.query.answering.evidence import Evidence
from earshot.query.answering.messages import CitationView, QuotationView, SentenceView
from earshot.query.locate import locate


def citation(each: Evidence, sentence: Sentence | None, question: str) -> CitationView:
    """What a number stands for: at the words that are quoted, else those worded most alike, else the passage."""
    first, last = _place(each, sentence, question)
    start_ms = each.words[first].start_ms if each.words else each.passage.start_ms
    end_ms = max(each.passage.end_ms, each.words[last - 1].end_ms if each.words else 0, start_ms + 1)
    audio = None
    if each.recording.source_key is not None:
        audio = f"/api/v1/recordings/{each.recording.id}/audio#t={start_ms / 1000},{end_ms / 1000}"
    return CitationView(
        number=each.number,
        recording_id=each.recording.id,
        title=each.recording.title,
        recorded_at=each.recording.recorded_at,
        speaker=_speaker(each, first, last),
        speakers=list(each.speakers),
        start_ms=start_ms,
        end_ms=end_ms,
        text=each.passage.text,
        media_url=audio,
        degraded=each.passage.degraded,
    )


def _place(each: Evidence, sentence: Sentence | None, question: str) -> tuple[int, int]:
    """The words that are meant, half-open."""
    for quotation in sentence.quotations if sentence else ():
        if each.number in quotation.numbers and (found := each.find(quotation.text)) is not None:
            return found
    own = each.own
    for wording in (sentence.text if sentence else "", question):
        if wording and (place := locate(wording, own)) is not None:
            return each.first + place, each.last
    return each.first, each.last


def _speaker(each: Evidence, first: int, last: int) -> str | None:
    speakers = {word.speaker for word in each.words[first:last]}
    if len(speakers) == 1:
        return next(iter(speakers)) or (each.speakers[0] if len(each.speakers) == 1 else None)
    return each.words[first].speaker if each.words and last - first < len(each.own) else None


def sentence_view(sentence: Sentence) -> SentenceView:
    """A checked sentence."""
    return SentenceView(
        text=sentence.text,
        start=sentence.start,
        end=sentence.end,
        citations=list(sentence.citations),
        quotations=[_quotation(each) for each in sentence.quotations],
    )


def _quotation(each: Quotation) -> QuotationView:
    return QuotationView(text=each.text, said=bool(each.numbers), numbers=list(each.numbers))


def first_citing(sentences: Sequence[Sentence], number: int) -> Sentence | None:
    """The first sentence that cites a number; one that quotes it before others."""
    citing = [sentence for sentence in sentences if number in sentence.citations]
    quoting = [each for each in citing if any(number in quote.numbers for quote in each.quotations)]
    return next(iter(quoting or citing), None)
