"""Speech goes in, and is found by what was said, at the right second, on both systems."""

from __future__ import annotations

import json

import pytest

from tests.system.conftest import EXAMPLES, System, rows

TOLERANCE_S = 2.0


@pytest.fixture
def recordings(system: System) -> dict[str, str]:
    """Recording id by file; the same files again are the same recordings."""
    files = [row["file"] for row in rows("transcripts.tsv")]
    jobs = {file: system.add(EXAMPLES / file, title=file, collection="speech", language="en") for file in files}
    for job in jobs.values():
        ended = system.ended(job["id"])
        assert ended["state"] == "completed", f"{ended}\n{system.logs()}"
    return {file: job["recording_id"] for file, job in jobs.items()}


def test_every_search_finds_its_recording_first_and_at_its_second(system: System, recordings: dict[str, str]) -> None:
    wrong = []
    for row in rows("searches.tsv"):
        hits = system.search(row["query"], collection="speech")
        first = hits[0] if hits else {}
        right = first.get("recording_id") == recordings[row["file"]]
        if not (right and abs(first["start_ms"] / 1000 - float(row["second"])) <= TOLERANCE_S):
            wrong.append((row, first.get("title"), first.get("start_ms"), first.get("text")))
    assert not wrong


def test_a_hit_has_its_words_its_context_and_a_link_to_the_second(system: System, recordings: dict[str, str]) -> None:
    hit = system.search("cold hearted and rather selfish", collection="speech")[0]
    assert hit["words"]
    assert hit["words"][0]["start_ms"] <= hit["start_ms"] < hit["end_ms"] <= hit["words"][-1]["end_ms"]
    assert [word["text"] for word in hit["words"]] == hit["text"].split()
    assert "#t=" in hit["media_url"]
    assert hit["degraded"] is True, "pocketsphinx is a fallback and must say so"


def test_the_transcript_says_which_engine_made_it(system: System, recordings: dict[str, str]) -> None:
    transcript = system.http.get(f"/recordings/{recordings['jfk.flac']}/transcript").json()
    assert transcript["segments"][0]["engine"]["name"] == "pocketsphinx"
    assert transcript["segments"][0]["engine"]["reason"]
    assert 10_500 <= transcript["duration_ms"] <= 11_500


def test_one_trace_leads_from_the_upload_to_the_index(system: System, recordings: dict[str, str]) -> None:
    job = system.job(recordings["jfk.flac"])
    from tests.waiting import eventually_sync

    def services() -> bool:
        spans = system.http.get(f"/jobs/{job['id']}/trace").json()["spans"]
        names = {span["service"] for span in spans}
        parents = {span["span_id"] for span in spans}
        roots = [span for span in spans if span["parent_id"] not in parents]
        return names >= {"web", "segmenter", "transcriber", "embedder", "indexer"} and len(roots) == 1

    eventually_sync(services, within=15)


def test_the_same_file_again_is_the_same_recording(system: System, recordings: dict[str, str]) -> None:
    again = system.add(EXAMPLES / "jfk.flac", title="other", collection="speech")
    assert again["recording_id"] == recordings["jfk.flac"]


def test_an_erased_recording_is_gone_at_once_and_stays_gone(system: System, request: pytest.FixtureRequest) -> None:
    embedded = request.node.callspec.params["system"] == "embedded"
    job = system.add(EXAMPLES / "jfk.flac", collection="to-erase", language="en")
    system.ended(job["id"])
    assert system.search("ask what you can do for your country", collection="to-erase")
    assert system.http.delete(f"/recordings/{job['recording_id']}").status_code in {202, 204}
    assert system.search("ask what you can do for your country", collection="to-erase") == []
    assert system.http.get(f"/recordings/{job['recording_id']}").status_code == 404
    assert system.http.get(f"/recordings/{job['recording_id']}/transcript").status_code == 404

    from tests.waiting import eventually_sync

    def nothing_left() -> bool:
        answer = system.cli("erase", job["recording_id"], "--verify", "--json")
        assert answer.returncode == 0, answer.stderr
        report = json.loads(answer.stdout)
        assert report["clean"]
        left = report["found"] if embedded else [find for find in report["found"] if not find["until"]]
        assert not left, left  # a broker's log deletes by age, the embedded one at once
        return True

    # The embedded log deletes what was consumed when it was erased at once, what came later within a minute's upkeep.
    eventually_sync(nothing_left, within=130, every=1.0)


def test_an_imported_transcript_is_found_by_its_speaker(system: System, tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "talk.vtt"
    path.write_text(
        "WEBVTT\n\n00:01.000 --> 00:04.000\n<v Ada>The zeppelin leaves for Saturn at noon.\n", encoding="utf-8"
    )
    job = system.add(path, title="talk", collection="imported")
    assert system.ended(job["id"])["state"] == "completed"
    (hit,) = system.search("when does the zeppelin leave", collection="imported")
    assert hit["speakers"] == ["Ada"]
    assert 1000 <= hit["start_ms"] <= 4000
    assert hit["degraded"] is False
