"""How well it hears: word error rate, who said what, who spoke when, and how fast each stage is.

A whole system is started with the settings of the environment, and given the recordings over HTTP, as a client would.

A manifest is TSV with the columns ``file`` and ``text`` (and ``language``, ``rttm``, when there are), or JSON lines
with the same names, where ``speakers`` may hold the text of each speaker instead of ``text``. Paths count from the
manifest.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quality_report import Plot, Section, table
from speech import write_speech

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from earshot.adapters.catalog import Catalog  # noqa: E402 - after the path
from earshot.kernel.codec import Codec  # noqa: E402
from earshot.kernel.events import Turn  # noqa: E402
from tests.system.conftest import System, start, stop  # noqa: E402 - a whole system

SHIPPED = ROOT / "examples" / "audio" / "transcripts.tsv"
CALL = ROOT.parent / "shared" / "audio" / "two_speakers.wav"
STAGES = ("segmenter", "transcriber", "diarizer", "embedder", "indexer")
TENANT = "default"
NORMALISED = (
    "Both texts are compared after Unicode NFKC, lower case, and the removal of everything but letters, digits and the "
    "apostrophes within words. Numbers and spellings are left as they are. Errors are summed over all files before "
    "they are divided by the words of all references."
)

CONDITIONS = "cpWER needs a reference with speakers, DER an RTTM and a diarizer (no collar, overlap included). "
TIMED = (
    "Real-time factor: seconds in which a stage had work of a recording of {:g} minutes open, over its length. {} "
    "cores, all stages at once, so they wait for one another."
)


@dataclass(frozen=True)
class Sample:
    """A recording and what is known of it; ``speakers`` has the reference words of each."""

    audio: Path
    text: str | None = None
    speakers: Mapping[str, str] = field(default_factory=dict)
    rttm: Path | None = None
    language: str = ""


@dataclass(frozen=True)
class Heard:
    """What the system made of it."""

    sample: Sample
    transcript: Mapping[str, Any]
    turns: Sequence[Turn]
    stages: Mapping[str, float]


@dataclass(frozen=True)
class Errors:
    """Word errors, of one file or of many."""

    words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    @property
    def rate(self) -> float:
        """Errors over words."""
        return (self.substitutions + self.deletions + self.insertions) / max(self.words, 1)


def astuple(errors: Errors) -> tuple[int, ...]:
    """Its counts, in order."""
    return (errors.words, errors.substitutions, errors.deletions, errors.insertions)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this part of the report takes."""
    parser.add_argument("--speech", type=Path, action="append", help="a manifest; by default the shipped clips")
    parser.add_argument("--no-speech", action="store_true", help="leave this part out")
    parser.add_argument(
        "--speech-minutes", type=float, default=3, help="length of the recording that stages are timed on"
    )


def measure(args: argparse.Namespace) -> Section | None:
    """Let a system hear every recording of every manifest, and compare."""
    if args.no_speech:
        return None
    manifests = {path.stem: read_manifest(path) for path in args.speech or []} or dict(_default())
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder) / "data") as system:
        engine = system.http.get("/").raise_for_status().json()
        heard = {name: [hear(system, sample) for sample in samples] for name, samples in manifests.items()}
        long = Path(folder) / "long.wav"
        write_speech(long, args.speech_minutes * 60, seed=1)
        timed = hear(system, Sample(long, language="en"), title="timed")
    return _section(heard, timed, args.speech_minutes * 60, engine)


# --- recordings -------------------------------------------------------------------------------------------------


def read_manifest(path: Path) -> list[Sample]:
    """The samples of a manifest. Raises ``ValueError`` for a row without a file."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix in {".jsonl", ".json"}:
            rows: list[Mapping[str, Any]] = [json.loads(line) for line in file if line.strip()]
        else:
            rows = list(csv.DictReader(file, delimiter="\t"))
    return [_sample(row, path) for row in rows]


def _sample(row: Mapping[str, Any], manifest: Path) -> Sample:
    if not row.get("file"):
        raise ValueError(f"{manifest} has a row without a file")
    speakers = row.get("speakers") or {}
    return Sample(
        manifest.parent / row["file"],
        row.get("text") or (" ".join(speakers.values()) or None),
        speakers,
        manifest.parent / row["rttm"] if row.get("rttm") else None,
        row.get("language") or "",
    )


def _default() -> Iterator[tuple[str, list[Sample]]]:
    """The shipped clips, and the phone call where it lies beside the repository."""
    yield "shipped clips", [Sample(one.audio, one.text, language="en") for one in read_manifest(SHIPPED)]
    if CALL.exists():
        yield "phone call", [Sample(CALL, rttm=CALL.with_suffix(".rttm"), language="en")]


def read_rttm(path: Path) -> list[Turn]:
    """The turns of an RTTM file."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    rows = [(cells[7], float(cells[3]), float(cells[4])) for cells in lines if cells and cells[0] == "SPEAKER"]
    return [
        Turn(speaker=who, start_ms=round(at * 1000), end_ms=round((at + length) * 1000)) for who, at, length in rows
    ]


# --- hearing ----------------------------------------------------------------------------------------------------


@contextmanager
def _running(data: Path) -> Iterator[System]:
    """A fresh system with the settings of the environment."""
    system = start(data, **{name: value for name, value in os.environ.items() if name.startswith("EARSHOT_")})
    try:
        yield system
    finally:
        stop(system)


def hear(system: System, sample: Sample, title: str = "quality") -> Heard:
    """Upload a recording, wait, and read what came of it."""
    job = system.add(sample.audio, title=title, **({"language": sample.language} if sample.language else {}))
    state = system.ended(job["id"], within=3600)
    if state["state"] != "completed":
        raise RuntimeError(f"{sample.audio}: {state['state']}: {state['error']}")
    recording = job["recording_id"]
    transcript = system.http.get(f"/recordings/{recording}/transcript").raise_for_status().json()
    spans = system.http.get(f"/jobs/{job['id']}/trace").raise_for_status().json()["spans"]
    turns = asyncio.run(_turns(system.data, recording))
    return Heard(sample, transcript, turns, {stage: busy(spans, stage) for stage in STAGES})


async def _turns(data: Path, recording: str) -> Sequence[Turn]:
    catalog = Catalog(f"sqlite:///{data}/catalog.sqlite", Codec())
    try:
        voices = await catalog.voices(TENANT, [recording])
    finally:
        await catalog.close()
    found = voices[recording].found if recording in voices else ()
    return found[-1].turns if found else []


def busy(spans: Iterable[Mapping[str, Any]], stage: str) -> float:
    """Seconds in which a stage had a span open; what overlaps counts once."""
    mine = sorted((s["start_ms"], s["start_ms"] + s["duration_ms"]) for s in spans if s["service"] == stage)
    total, until = 0.0, float("-inf")
    for begin, end in mine:
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total / 1000


# --- comparing --------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """As ``NORMALISED`` says."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in plain).split()
    return " ".join(word for word in (word.strip("'") for word in words) if word)


def word_errors(reference: str, hypothesis: str) -> Errors:
    """Of one recording, by jiwer."""
    import jiwer

    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return Errors(insertions=len(hypothesis.split()))
    found = jiwer.process_words(reference, hypothesis)
    return Errors(len(reference.split()), found.substitutions, found.deletions, found.insertions)


def speaker_errors(reference: Mapping[str, str], hypothesis: Mapping[str, str]) -> Errors:
    """Errors with the best assignment of speakers (cpWER), by MeetEval."""
    import meeteval

    given = {who: normalise(text) for who, text in reference.items()}
    found = meeteval.wer.cp_word_error_rate(
        given, {who: normalise(text) for who, text in hypothesis.items()} or {"nobody": ""},
        reference_sort=False, hypothesis_sort=False,
    )  # fmt: skip
    return Errors(found.length, found.substitutions, found.deletions, found.insertions)


def by_speaker(transcript: Mapping[str, Any]) -> dict[str, str]:
    """The words of each speaker of a transcript; those of nobody are somebody's, too."""
    said: dict[str, list[str]] = {}
    for segment in transcript["segments"]:
        words = segment.get("words") or [{"text": segment.get("text", ""), "speaker": segment.get("speaker")}]
        for word in words:
            said.setdefault(word.get("speaker") or segment.get("speaker") or "", []).append(word["text"])
    return {who: " ".join(words) for who, words in said.items()}


def diarization_error(pairs: Sequence[tuple[Sequence[Turn], Sequence[Turn]]]) -> float:
    """DER over all (reference, hypothesis), by pyannote.metrics: no collar, overlap included."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(turns: Sequence[Turn]) -> Any:
        made = Annotation()
        for number, turn in enumerate(turns):
            made[Segment(turn.start_ms / 1000, turn.end_ms / 1000), number] = turn.speaker
        return made

    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    for reference, hypothesis in pairs:
        end = max(turn.end_ms for turn in (*reference, *hypothesis)) / 1000
        metric(annotation(reference), annotation(hypothesis), uem=Timeline([Segment(0, end)]))
    return float(abs(metric))


def score(heard: Sequence[Heard]) -> dict[str, Any]:
    """Every figure of one manifest; null where there is no reference, or nothing to compare with."""
    texts = [one for one in heard if one.sample.text is not None]
    words = sum((word_errors(str(one.sample.text), _text(one.transcript)) for one in texts), Errors())
    people = [one for one in heard if one.sample.speakers]
    known = [one for one in heard if one.sample.rttm is not None and one.turns]
    both = [(read_rttm(one.sample.rttm), one.turns) for one in known if one.sample.rttm is not None]
    cp = None
    if people and find_spec("meeteval"):
        cp = sum((speaker_errors(one.sample.speakers, by_speaker(one.transcript)) for one in people), Errors())
    return {
        "files": len(heard),
        "wer": words.rate if texts else None,
        "errors": asdict(words) if texts else None,
        "cpwer": None if cp is None else cp.rate,
        "der": diarization_error(both) if both and find_spec("pyannote.metrics") else None,
    }


def _text(transcript: Mapping[str, Any]) -> str:
    return " ".join(segment.get("text") or "" for segment in transcript["segments"])


# --- the section ------------------------------------------------------------------------------------------------


def _section(heard: Mapping[str, Sequence[Heard]], timed: Heard, seconds: float, about: Mapping[str, Any]) -> Section:
    scores = {name: score(ones) for name, ones in heard.items()}
    factors = {stage: spent / seconds for stage, spent in timed.stages.items()}
    every = [one for ones in heard.values() for one in ones]
    engines = sorted({_engine(segment) for one in [*every, timed] for segment in one.transcript["segments"]})
    files = {
        one.sample.audio.name: {"wer": word_errors(one.sample.text, _text(one.transcript)).rate}
        for one in every
        if one.sample.text is not None
    }
    markdown = "\n\n".join(
        [
            f"Heard by {', '.join(engines)}. {NORMALISED}",
            table(["recordings", "files", "words", "WER", "cpWER", "DER"], [_row(*item) for item in scores.items()]),
            CONDITIONS + about["diarization"]["detail"],
            TIMED.format(seconds / 60, os.cpu_count()),
            table(["stage", "real-time factor"], [[stage, f"{factor:.3f}"] for stage, factor in factors.items()]),
        ]
    )
    plots = [
        Plot(
            "real_time_factor",
            "Real-time factor by stage",
            {name: {"seconds a second": factor} for name, factor in factors.items()},
        )
    ]
    if files:
        plots.append(Plot("word_error_rate", "Word error rate by file", files))
    data = {"engines": engines, "manifests": scores, "files": files, "real_time_factor": factors, "seconds": seconds}
    return Section("Speech", markdown, data, plots)


def _engine(segment: Mapping[str, Any]) -> str:
    engine = segment.get("engine") or {}
    return " ".join(str(engine[part]) for part in ("name", "model", "device") if engine.get(part)) or "nothing"


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    errors = found["errors"] or {}
    rates = [found["wer"], found["cpwer"], found["der"]]
    return [
        name,
        str(found["files"]),
        str(errors.get("words", "")),
        *("" if rate is None else f"{100 * rate:.1f} %" for rate in rates),
    ]
