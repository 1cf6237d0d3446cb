"""The figures of the quality report, on texts and turns of which they are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The part of the report about speech: a script beside those it imports."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import quality_speech

    return quality_speech


def heard(report: ModuleType, said: str, **sample: Any) -> Any:
    words = [{"text": word, "speaker": None} for word in said.split()]
    transcript = {"segments": [{"text": said, "words": words}]}
    return report.Heard(report.Sample(Path("a.wav"), **sample), transcript, [], {})


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  He said: “It\u2019s 5 o'clock!” ", "he said it's 5 o'clock"),
        ("'Tis rock 'n' roll", "tis rock n roll"),
        ("ﬁne — Straße", "fine straße"),
        ("…", ""),
    ],
)
def test_texts_are_compared_without_case_and_punctuation(report, text, plain):
    assert report.normalise(text) == plain


def test_errors_are_summed_over_files_before_they_are_divided(report):
    """A short file that is all wrong does not weigh as much as a long one that is right."""
    scores = report.score([heard(report, "no", text="Yes."), heard(report, "a b c d", text="a b c d, e")])
    assert scores["errors"] == {"words": 6, "substitutions": 1, "deletions": 1, "insertions": 0}
    assert scores["wer"] == pytest.approx(2 / 6)


def test_words_where_nothing_was_said_are_insertions(report):
    assert report.word_errors("", "boo hoo").rate == 2.0
    assert report.score([heard(report, "anything")])["wer"] is None, "without a reference there is no figure"


def test_the_words_of_each_speaker_are_gathered(report):
    words = [{"text": "yes", "speaker": "A"}, {"text": "no", "speaker": None}]
    segments = [{"text": "yes no", "speaker": "B", "words": words}, {"text": "gone", "speaker": "A", "words": []}]
    assert report.by_speaker({"segments": segments}) == {"A": "yes gone", "B": "no"}


def test_a_stage_is_busy_while_any_of_its_spans_is_open(report):
    spans = [("s", 0, 1000), ("s", 500, 1000), ("s", 600, 100), ("s", 3000, 250), ("other", 0, 9999)]
    named = [{"service": service, "start_ms": at, "duration_ms": long} for service, at, long in spans]
    assert report.busy(named, "s") == 1.75


def test_manifests_are_read_as_tables_and_as_lines_of_json(report, tmp_path):
    table, lines = tmp_path / "m.tsv", tmp_path / "m.jsonl"
    table.write_text("file\ttext\trttm\na.wav\tHello\ta.rttm\n")
    lines.write_text(json.dumps({"file": "b.wav", "speakers": {"A": "yes", "B": "no"}}) + "\n")
    (one,), (two,) = report.read_manifest(table), report.read_manifest(lines)
    assert (one.audio, one.text, one.rttm) == (tmp_path / "a.wav", "Hello", tmp_path / "a.rttm")
    assert (two.text, two.speakers, two.rttm) == ("yes no", {"A": "yes", "B": "no"}, None)
    table.write_text("text\nHello\n")
    with pytest.raises(ValueError, match="a row without a file"):
        report.read_manifest(table)


def test_turns_are_read_from_rttm(report, tmp_path):
    path = tmp_path / "a.rttm"
    path.write_text("SPEAKER a 1 6.690 0.430 <NA> <NA> her <NA> <NA>\n\nLEXEME a 1 0 1 x <NA> <NA> <NA>\n")
    assert [(t.speaker, t.start_ms, t.end_ms) for t in report.read_rttm(path)] == [("her", 6690, 7120)]
