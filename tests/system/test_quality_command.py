"""``earshot quality`` over files and folders, as a person and as a program use it. Nothing else runs."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audio import EXAMPLES, JFK

CLIPS = sorted(EXAMPLES.glob("sense_and_sensibility/*.wav"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips, one of them deeper, and what is not audio."""
    deep = tmp_path / "show" / "1"
    deep.mkdir(parents=True)
    shutil.copy(JFK, tmp_path / "show" / "speech.dat")
    shutil.copy(CLIPS[0], deep / "clip.wav")
    (deep / "notes.mp3").write_text("Dear Sir, " * 100)
    (deep / ".hidden.wav").write_bytes(CLIPS[1].read_bytes())
    return tmp_path / "show"


def quality(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "earshot", "quality", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_a_folder_is_walked_and_summed_up(folder: Path) -> None:
    """Audio is found by decoding; what is none is counted, not an error."""
    found = json.loads(quality(folder, "--json").stdout)
    assert [Path(item["file"]).name for item in found["items"]] == ["clip.wav", "speech.dat"]
    assert (found["errors"], found["not_audio"]) == ([], 1)
    loud = [item["loudness_lufs"] for item in found["items"]]
    summary = found["summary"]["loudness_lufs"]
    assert summary["n"] == 2
    assert summary["mean"] == summary["median"] == pytest.approx(sum(loud) / 2, abs=0.001)
    assert min(loud) < summary["p5"] < summary["p95"] < max(loud)


def test_what_is_wrong_with_one_file_is_said_and_stops_no_other(folder: Path, tmp_path: Path) -> None:
    """The exit code tells; a table of the others is written all the same."""
    table = tmp_path / "table.csv"
    done = quality(folder / "1" / "notes.mp3", JFK, "--csv", "--output", table, "--jobs", 1, code=1)
    assert "notes.mp3: This is text, not audio" in " ".join(done.stderr.split())
    assert done.stdout == ""
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["file"], row["duration_ms"], row["sample_rate_hz"]) == (str(JFK), "11000", "44100")
    assert float(row["loudness_lufs"]) == pytest.approx(-12.45, abs=0.02)


def test_a_table_goes_to_stdout_alone_and_figures_for_people_to_stderr(folder: Path) -> None:
    done = quality(folder / "1", "--csv")
    assert [row["file"] for row in csv.DictReader(done.stdout.splitlines())] == [str(folder / "1" / "clip.wav")]
    assert "median" in done.stderr


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "There is no file" in quality(tmp_path / "none", code=1).stderr
