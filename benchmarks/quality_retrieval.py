"""How well searches find: QMSum's questions, asked of the product as it is, beside plain rankings of the same words.

Transcripts go in through the reader of imports, the embedder's verb and the indexer's verb; questions through the query
service's verb. No parameter is set here: what is measured is what is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import qmsum
from quality_report import Plot, Section, table

from earshot.adapters import encoders, rerankers
from earshot.adapters.wiring import Kit
from earshot.embedder.embed import PassageSize, embed
from earshot.embedder.settings import EmbedderSettings
from earshot.indexer.index import index
from earshot.ingest.imports import read_transcript, segments_of
from earshot.kernel import ids
from earshot.kernel.codec import Record
from earshot.kernel.events import AudioUploaded, SegmentEmbedded, SegmentTranscribed
from earshot.kernel.ports import Encoder, NewRecording, SearchMode
from earshot.kernel.settings import Settings, load
from earshot.kernel.stage import Delivery
from earshot.query.messages import SearchRequest
from earshot.query.search import Judge, search

TENANT = "default"
BATCH = 64
TOP_K = 20
SCOPES = ("all meetings", "right meeting")
BOOTSTRAPS = 2000
GIVEN = {
    "BM25": (0.193, 0.380),
    "WordLlama": (0.136, 0.369),
    "BM25 + WordLlama": (0.199, 0.394),
    "MiniLM": (0.184, 0.440),
    "BM25 + MiniLM": (0.225, 0.435),
}
"""nDCG@10 of plain rankings as they were given to be beaten."""


@dataclass(frozen=True)
class Row:
    """One ranking: by question, its scores on its own passages and on those of 120 words; keyed by scope."""

    name: str
    own: Mapping[str, Sequence[qmsum.Scores]]
    same: Mapping[str, Sequence[qmsum.Scores]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this part of the report takes."""
    parser.add_argument("--qmsum", type=Path, help="QMSum as JSON lines, gzipped; without it this part is left out")
    parser.add_argument("--embedder", action="append", help="as EARSHOT_EMBEDDER__MODEL; several may be given")
    parser.add_argument("--reranker", action="append", help="as EARSHOT_RERANKER__MODEL; several may be given")
    parser.add_argument("--vectors", default="", help="weaviate://… in place of LanceDB in a temporary folder")


def measure(args: argparse.Namespace) -> Section | None:
    """Ask every question in every way."""
    if args.qmsum is None:
        return None
    evaluation = qmsum.read(args.qmsum)
    plain, ours = [], []
    embedders = args.embedder or ["wordllama"]
    for name in embedders:
        encoder = encoders.choose(encoders.EncoderSettings(model=name))
        plain += _plain(evaluation, name, encoder)
        ours += asyncio.run(_product(evaluation, name, encoder, args.reranker or [], args.vectors))
    plain = list({row.name: row for row in plain}.values())
    return _section(evaluation, plain, ours, "Weaviate" if args.vectors else "LanceDB")


# --- plain ------------------------------------------------------------------------------------------------------


def _plain(evaluation: qmsum.Evaluation, name: str, encoder: Encoder) -> list[Row]:
    """BM25, the embedder, and both half and half, over passages of 120 words, without and with speakers' names."""
    units, *kinds = qmsum.plain_units(evaluation)
    queries = [question.text for question in evaluation.questions]
    rows = []
    for suffix, texts in zip(("", ", names in the text"), kinds, strict=True):
        words = qmsum.bm25(texts, queries)
        vectors, asked = asyncio.run(_vectors(encoder, texts, queries))
        meant = asked @ vectors.T
        both = qmsum.half_and_half(words, meant)
        for label, scores in (("BM25", words), (name, meant), (f"BM25 + {name}", both)):
            judged = {scope: _judged(evaluation, units, scores, scope == SCOPES[1]) for scope in SCOPES}
            rows.append(Row(f"plain {label}{suffix}", judged, judged))
    return rows


async def _vectors(encoder: Encoder, texts: Sequence[str], queries: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    passages = await encoder.encode_passages(texts)
    return np.array(passages), np.array([await encoder.encode_query(query) for query in queries])


def _judged(
    evaluation: qmsum.Evaluation, units: Sequence[qmsum.Unit], scores: np.ndarray, within: bool
) -> list[qmsum.Scores]:
    judged = []
    for question, row in zip(evaluation.questions, scores, strict=True):
        good = np.array([qmsum.right(question, unit) for unit in units])
        among = np.array([not within or unit.meeting == question.meeting for unit in units])
        best = [at for at in np.argsort(-row, kind="stable") if among[at]]
        judged.append(qmsum.judge([bool(good[at]) for at in best[:TOP_K]], int(good.sum())))
    return judged


# --- the product ------------------------------------------------------------------------------------------------


async def _product(
    evaluation: qmsum.Evaluation, name: str, encoder: Encoder, judges: Sequence[str], vectors: str
) -> list[Row]:
    """Every mode, and hybrid with every reranker, over a system that holds the meetings."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        kit = Kit(Settings(data=Path(folder), **({"vectors_url": vectors} if vectors else {})))
        await kit.catalog.migrate()
        try:
            recordings, units = await imported(kit, evaluation, encoder)
            ways: list[tuple[str, SearchMode, Judge | None]] = [
                (mode, mode, None) for mode in cast("tuple[SearchMode, ...]", ("keyword", "vector", "hybrid"))
            ]
            for model in judges:
                settings = rerankers.RerankerSettings(model=model, timeout_s=60)
                reranker = rerankers.choose(settings)
                if reranker is not None:
                    ways.append((f"hybrid, reranked by {model}", "hybrid", Judge(reranker, settings.candidates)))
            for label, mode, judge in ways:
                asked = _Asked(kit, encoder, recordings, units, mode, judge)
                rows.append(await asked.row(f"{name}, {label}", evaluation))
        finally:
            await kit.vectors.close()
            await kit.catalog.close()
    return rows


async def imported(kit: Kit, evaluation: qmsum.Evaluation, encoder: Encoder) -> tuple[list[str], list[qmsum.Unit]]:
    """Take the meetings in. The ids of their recordings, and where their passages are."""
    settings = load(EmbedderSettings)
    size = PassageSize(settings.passage_max_words, settings.passage_overlap_words)
    recordings, units = [], []
    record = Record(topic="t", key=b"k", value=b"")
    for number, words in enumerate(evaluation.meetings):
        upload = AudioUploaded(
            recording_id=ids.new_recording_id(), uri="", title=f"Meeting {number + 1}", sha256=f"{number}"
        )
        common: dict[str, object] = {"recording_id": upload.recording_id, "language": "en", "revision": 1}
        segments = segments_of(read_transcript(qmsum.transcript(words)), common)
        await kit.catalog.accept(NewRecording(upload, None, {}, segments))
        recordings.append(upload.recording_id)
        for at in range(0, len(segments), BATCH):
            batch = [Delivery(segment, record) for segment in segments[at : at + BATCH]]
            events = await _embedded(batch, encoder, kit, size)
            _ = [
                output
                async for output in index([Delivery(event, record) for event in events], kit.vectors, kit.catalog)
            ]
            units += [qmsum.Unit(number, p.start_ms, p.end_ms) for event in events for p in event.passages]
    return recordings, units


async def _embedded(
    batch: Sequence[Delivery[SegmentTranscribed]], encoder: Encoder, kit: Kit, size: PassageSize
) -> list[SegmentEmbedded]:
    outputs = [output async for output in embed(batch, encoder, kit.catalog, size)]
    return [output.event for output in outputs if isinstance(output.event, SegmentEmbedded)]


@dataclass(frozen=True)
class _Asked:
    """One way of asking a system that holds the meetings."""

    kit: Kit
    encoder: Encoder
    recordings: list[str]
    units: list[qmsum.Unit]
    mode: SearchMode
    judge: Judge | None

    async def row(self, name: str, evaluation: qmsum.Evaluation) -> Row:
        """Ask every question, of all meetings and of the right one."""
        plain, *_ = qmsum.plain_units(evaluation)
        own: dict[str, list[qmsum.Scores]] = {scope: [] for scope in SCOPES}
        same: dict[str, list[qmsum.Scores]] = {scope: [] for scope in SCOPES}
        for question in evaluation.questions:
            right_ones = sum(qmsum.right(question, unit) for unit in self.units)
            right_plain = sum(qmsum.right(question, unit) for unit in plain)
            for scope in SCOPES:
                found = await self._found(question, scope)
                own[scope].append(qmsum.judge([qmsum.right(question, unit) for unit in found], right_ones))
                on_plain = list(dict.fromkeys(_plain_unit(unit, evaluation) for unit in found))
                same[scope].append(qmsum.judge([qmsum.right(question, unit) for unit in on_plain], right_plain))
        return Row(name, own, same)

    async def _found(self, question: qmsum.Question, scope: str) -> list[qmsum.Unit]:
        filters = {"recording_id": self.recordings[question.meeting]} if scope == SCOPES[1] else {}
        request = SearchRequest.model_validate(
            {"query": question.text, "top_k": TOP_K, "mode": self.mode, "filters": filters}
        )
        answer = await search(request, TENANT, self.encoder, self.kit.vectors, self.kit.catalog, self.judge)
        if answer.notices:
            raise RuntimeError(f"not the search that was asked for: {answer.notices}")
        # a hit starts where the wording does: its passage is the one that ends there
        ends = {(unit.meeting, unit.end_ms): unit for unit in self.units}
        return [ends[self.recordings.index(hit.recording_id), hit.end_ms] for hit in answer.hits]


def _plain_unit(unit: qmsum.Unit, evaluation: qmsum.Evaluation) -> qmsum.Unit:
    """The passage of 120 words that the middle of a hit lies in."""
    length = qmsum.PLAIN_WORDS * qmsum.WORD_MS
    start = (unit.start_ms + unit.end_ms) // 2 // length * length
    end = min(start + length, len(evaluation.meetings[unit.meeting]) * qmsum.WORD_MS)
    return qmsum.Unit(unit.meeting, start, end)


# --- the report -------------------------------------------------------------------------------------------------


def _section(evaluation: qmsum.Evaluation, plain: Sequence[Row], ours: Sequence[Row], store: str) -> Section:
    measured = [*plain, *ours]
    heads = ["ranking"] + [
        f"{scope}: {name}" for scope in SCOPES for name in ("nDCG@10", "MRR", "recall@10", "any in 10")
    ]
    own = table(heads, [[row.name, *(cell for scope in SCOPES for cell in _cells(row.own[scope]))] for row in measured])
    same = table(heads, [[row.name, *(cell for scope in SCOPES for cell in _cells(row.same[scope]))] for row in ours])
    given = table(
        ["plain ranking, as given", *SCOPES], [[name, *(f"{x:.3f}" for x in both)] for name, both in GIVEN.items()]
    )
    text = (
        f"QMSum: {len(evaluation.meetings)} meetings, {len(evaluation.questions)} questions by people, {store}. A "
        "passage is right when it overlaps an annotated span. It is the product's own path: import to query.\n\n"
        f"Each ranking on its own passages (plain ones have {qmsum.PLAIN_WORDS} words):\n\n{own}\n\n"
        "The product's hits counted on the plain rankings' own passages (the one that a hit's middle lies in), so that "
        f"both are judged on the same things:\n\n{same}\n\n{_certainty(evaluation, plain, ours)}\n\n"
        f"For comparison, nDCG@10 of plain rankings that were given to be beaten:\n\n{given}\n"
    )
    data = {row.name: {"own": _means(row.own), "same": _means(row.same)} for row in measured}
    bars = {row.name: {scope: _mean(row.same[scope], "ndcg") for scope in SCOPES} for row in measured}
    return Section(
        "Retrieval",
        text,
        {"store": store, "rankings": data},
        [Plot("retrieval", "nDCG@10, passages of 120 words", bars)],
    )


def _certainty(evaluation: qmsum.Evaluation, plain: Sequence[Row], ours: Sequence[Row]) -> str:
    """How sure the lead over the best plain ranking is: a paired bootstrap over meetings."""
    meeting = np.array([question.meeting for question in evaluation.questions])
    chance, lines = np.random.default_rng(0), []
    for row in ours:
        for scope in SCOPES:
            best = max(plain, key=lambda other: _mean(other.same[scope], "ndcg"))
            lead = np.array([a.ndcg - b.ndcg for a, b in zip(row.same[scope], best.same[scope], strict=True)])
            by_meeting = [lead[meeting == number] for number in np.unique(meeting)]
            drawn = [
                np.concatenate([by_meeting[at] for at in chance.integers(len(by_meeting), size=len(by_meeting))]).mean()
                for _ in range(BOOTSTRAPS)
            ]
            low, high = np.quantile(drawn, [0.025, 0.975])
            lines.append([row.name, scope, best.name, f"{lead.mean():+.3f}", f"{low:+.3f} to {high:+.3f}"])
    heads = [
        "ranking",
        "in",
        "best plain ranking",
        "nDCG@10 beside it, same passages",
        "95 % (bootstrap over meetings)",
    ]
    return table(heads, lines)


def _cells(scores: Sequence[qmsum.Scores]) -> list[str]:
    return [f"{_mean(scores, name):.3f}" for name in ("ndcg", "rr", "recall", "hit")]


def _mean(scores: Sequence[qmsum.Scores], name: str) -> float:
    return fmean(asdict(each)[name] for each in scores)


def _means(by_scope: Mapping[str, Sequence[qmsum.Scores]]) -> dict[str, Any]:
    return {
        scope: {name: _mean(scores, name) for name in ("ndcg", "rr", "recall", "hit")}
        for scope, scores in by_scope.items()
    }


os.environ.setdefault("OMP_NUM_THREADS", "1")
