"""How well answers are proven: QMSum's questions, and whether what is cited is what people annotated as the answer.

Each question is asked of the product as it is, among all meetings and in the right one: without a model (the passages
themselves are quoted), and with a scripted model behind a real socket. The script is no language model. It cites the
excerpts it is sent, the first ones, and in every answer also one that was not sent and a quotation that nobody said,
so what is seen is what retrieval offers and what the checker lets through, not how well some model writes.

    python benchmarks/answers.py --qmsum FILE [--meetings 35] [--cites 3]

Precision: of what is cited, the share that overlaps an annotated span of the question's meeting. Recall: of the
annotated spans, the share that a citation overlaps; and of their time, the share that citations cover.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import qmsum
import quality_retrieval
from quality_report import table

from earshot.adapters import encoders, rerankers
from earshot.adapters.chat_models import MeteredModel
from earshot.adapters.chat_openai import OpenAIChat
from earshot.adapters.chat_settings import OpenAISettings
from earshot.adapters.wiring import Kit
from earshot.kernel.ports.answers import ChatModel
from earshot.kernel.settings import Settings
from earshot.query.alias import Alias
from earshot.query.answering.checker import MARK
from earshot.query.answering.draft import Done
from earshot.query.answering.messages import AnswerRequest, AnswerView
from earshot.query.answering.service import Answers
from earshot.query.search import Judge
from earshot.query.settings import AnswersSettings
from tests import fakes_chat

TENANT = "default"
INVENTED = "what nobody in any of these meetings ever uttered"
NOT_SENT = 77


@dataclass(frozen=True)
class Scores:
    """Of one answer; ``precision`` is ``None`` where nothing is cited."""

    precision: float | None
    spans: float
    time: float
    citations: int
    clean: bool


def scores(question: qmsum.Question, view: AnswerView, recordings: Sequence[str]) -> Scores:
    """An answer against the spans that people annotated."""
    cited = [qmsum.Unit(recordings.index(each.recording_id), each.start_ms, each.end_ms) for each in view.citations]
    good = [unit for unit in cited if qmsum.right(question, unit)]
    found = [any(unit.start_ms < end and start < unit.end_ms for unit in good) for start, end in question.spans]
    total = sum(end - start for start, end in question.spans)
    covered = sum(_covered(start, end, good) for start, end in question.spans)
    clean = NOT_SENT not in {each.number for each in view.citations} and f"[{NOT_SENT}]" not in view.text
    if INVENTED in view.text:
        clean = clean and f'{INVENTED}"{MARK}' in view.text
    return Scores(
        len(good) / len(cited) if cited else None,
        fmean(found) if found else 0.0,
        covered / total if total else 0.0,
        len(cited),
        clean,
    )


def _covered(start: int, end: int, units: Sequence[qmsum.Unit]) -> int:
    """How much of a span units cover together, in ms."""
    covered, at = 0, start
    for unit in sorted(units, key=lambda each: each.start_ms):
        begin, until = max(unit.start_ms, at), min(unit.end_ms, end)
        if begin < until:
            covered, at = covered + until - begin, until
    return covered


def script(cites: int) -> fakes_chat.Reply:
    """Cite the first excerpts, one that was not sent, and quote what nobody said."""

    def write(sent: str) -> str:
        said = [f"This is part of it [{number}]." for number in fakes_chat.numbers(sent)[:cites]]
        return " ".join([*said, f'Also "{INVENTED}" [{NOT_SENT}].'])

    return fakes_chat.answers(write)


async def asked(answers: Answers, question: str, recording: str | None) -> AnswerView:
    """One answer."""
    filters = {"recording_id": recording} if recording else {}
    request = AnswerRequest.model_validate({"question": question, "filters": filters, "dates": "ignore"})
    view = None
    async for event in answers.tell(request, TENANT):
        view = event.answer if isinstance(event, Done) else view
    assert view is not None
    return view


async def measure(args: argparse.Namespace) -> None:
    """Ask everything in every way and print the table."""
    evaluation = qmsum.read(args.qmsum)
    evaluation = qmsum.Evaluation(
        evaluation.meetings[: args.meetings],
        tuple(question for question in evaluation.questions if question.meeting < args.meetings),
    )
    encoder = encoders.choose(encoders.EncoderSettings(model=args.embedder))
    reranker = rerankers.choose(rerankers.RerankerSettings(timeout_s=60))
    judge = Judge(reranker) if reranker else None
    with tempfile.TemporaryDirectory() as folder, fakes_chat.running() as server:
        server.otherwise = script(args.cites)
        kit = Kit(Settings(data=Path(folder)))
        await kit.catalog.migrate()
        try:
            recordings, _ = await quality_retrieval.imported(kit, evaluation, encoder)
            settings = OpenAISettings(url=f"{server.url}/v1", model="scripted", timeout_s=60, idle_s=60)
            model: ChatModel = MeteredModel(OpenAIChat(settings), settings, kit.catalog)
            rows = []
            for name, models in (("extractive", []), (f"scripted, {args.cites} cited", [model])):
                answers = Answers(
                    Alias(kit.catalog, lambda _index: encoder), kit.vectors, kit.catalog, judge, models,
                    AnswersSettings(deadline_s=300), lambda: datetime.now(UTC),
                )  # fmt: skip
                for scope in quality_retrieval.SCOPES:
                    rows.append(await row(f"{name}, {scope}", evaluation, recordings, answers, scope))
                    print(json.dumps(dict(zip(HEADS, rows[-1], strict=True))), file=sys.stderr, flush=True)
            await model.close()
        finally:
            await kit.vectors.close()
            await kit.catalog.close()
    print(f"QMSum: {len(evaluation.meetings)} meetings, {len(evaluation.questions)} questions, {args.embedder}.\n")
    print(table(HEADS, rows))


HEADS = ["answers", "precision", "recall of spans", "recall of time", "citations", "without any", "checked rightly"]


async def row(
    name: str, evaluation: qmsum.Evaluation, recordings: Sequence[str], answers: Answers, scope: str
) -> list[str]:
    """One line of the table."""
    judged = []
    for question in evaluation.questions:
        recording = recordings[question.meeting] if scope == quality_retrieval.SCOPES[1] else None
        judged.append(scores(question, await asked(answers, question.text, recording), recordings))
    precise = [each.precision for each in judged if each.precision is not None]
    return [
        name,
        f"{fmean(precise) if precise else 0:.3f}",
        f"{fmean(each.spans for each in judged):.3f}",
        f"{fmean(each.time for each in judged):.3f}",
        f"{fmean(each.citations for each in judged):.2f}",
        f"{sum(each.precision is None for each in judged)} of {len(judged)}",
        f"{sum(each.clean for each in judged)} of {len(judged)}",
    ]


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--qmsum", type=Path, required=True, help="QMSum as JSON lines, gzipped")
    parser.add_argument("--meetings", type=int, default=1000, help="only the first so many")
    parser.add_argument("--cites", type=int, default=3, help="excerpts that the scripted model cites")
    parser.add_argument("--embedder", default="wordllama", help="as EARSHOT_EMBEDDER__MODEL")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
