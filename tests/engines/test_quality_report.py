"""The figures of the quality report that need MeetEval and pyannote.metrics."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from earshot.kernel.events import Turn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The part of the report about speech: a script beside those it imports."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import quality_speech

    return quality_speech


def test_speakers_are_assigned_so_that_errors_are_fewest(report):
    found = report.speaker_errors(
        {"ada": "Hello there, world.", "bob": "Good day"}, {"1": "good day", "0": "hello world"}
    )
    assert (found.words, found.deletions, found.rate) == (5, 1, 0.2)
    assert report.speaker_errors({"ada": "hello"}, {}).rate == 1.0


def test_diarization_errors_are_missed_false_and_confused_time(report):
    """10 s of one speaker: 1 s missed, 2 s given to another; and 1 s in which nobody spoke."""
    reference = [Turn(speaker="A", start_ms=0, end_ms=10_000)]
    hypothesis = [("x", 1000, 8000), ("y", 8000, 11_000)]
    turns = [Turn(speaker=who, start_ms=start, end_ms=end) for who, start, end in hypothesis]
    assert report.diarization_error([(reference, turns)]) == pytest.approx(0.4)
    assert report.diarization_error([(reference, reference)]) == 0.0
