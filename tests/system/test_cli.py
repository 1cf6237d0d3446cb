"""The command line against a running system, as a person and as a program use it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from earshot.processes import PROCESSES
from tests.system.conftest import EXAMPLES, ROOT, System, free_port, start, stop
from tests.waiting import eventually_sync

CLIP = EXAMPLES / "sense_and_sensibility" / "0930.wav"
SAID = "he might even have been made amiable himself"


def answer(system: System, *arguments: str, code: int = 0, **options: Any) -> Any:
    """What a command prints with ``--json``."""
    done = system.cli(*arguments, "--json", **options)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_a_recording_is_added_followed_found_read_and_erased(embedded: System) -> None:
    (job,) = answer(embedded, "add", str(CLIP), "--wait", "--collection", "cli", "--language", "en")["items"]
    assert job["state"] == "completed"
    (hit,) = answer(embedded, "search", *SAID.split(), "-k", "1", "--collection", "cli")["hits"]
    assert hit["recording_id"] == job["recording_id"]
    for either_id in (job["id"], job["recording_id"]):
        assert answer(embedded, "status", either_id)["id"] == job["id"]
        transcript = embedded.cli("transcript", either_id, "--format", "srt")
        assert transcript.stdout.startswith("1\n00:00:00,")
        assert "amiable" in transcript.stdout
    everything = answer(embedded, "status")
    assert job["recording_id"] in {recording["id"] for recording in everything["recordings"]}
    assert answer(embedded, "erase", job["id"])["state"] in ("erasing", "erased")
    gone = embedded.cli("status", job["recording_id"])
    assert gone.returncode == 1
    assert gone.stderr.startswith("earshot: ")


def test_what_people_read_names_the_second_and_the_fallback(embedded: System) -> None:
    assert embedded.cli("add", str(CLIP), "--wait", "--collection", "cli-people", "--language", "en").returncode == 0
    found = embedded.cli("search", SAID, "--collection", "cli-people")
    assert found.stdout.startswith("0:0"), found.stdout
    assert "fallback engine" in found.stderr
    told = embedded.cli("ask", "What might he have been made?", "--collection", "cli-people")
    assert told.returncode == 0, told.stderr
    assert "“" in told.stdout
    assert "\n[1] 0:0" in told.stdout
    asked = answer(embedded, "ask", "How many recordings are there?", "--collection", "cli-people")
    assert (asked["outcome"], asked["aggregation"]["count"]) == ("counted", 1)
    nothing = embedded.cli("search", "anything", "--collection", "no-such-collection")
    assert (nothing.returncode, nothing.stdout, nothing.stderr.strip()) == (0, "", "Nothing found.")


def test_a_wrong_file_is_named_and_the_others_go_on(embedded: System, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp3"
    text.write_text("These are notes, not sound.")
    done = embedded.cli("add", str(text), str(CLIP), "--wait", "--collection", "cli-wrong")
    assert done.returncode == 1
    assert "notes.mp3" in done.stderr
    assert "0930.wav  completed" in done.stdout


def test_events_are_published_and_tailed_by_hand(embedded: System, tmp_path: Path) -> None:
    blob = embedded.data / "blobs" / "default" / "incoming" / "by-hand.wav"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(CLIP.read_bytes())
    recording = str(uuid4())
    event = {"recording_id": recording, "uri": blob.resolve().as_uri(), "title": "by hand", "language": "en"}
    published = answer(embedded, "events", "publish", "audio.uploaded", input=json.dumps(event))
    assert published == {"published": 1}
    eventually_sync(lambda: embedded.search(SAID, recording_id=recording), within=60, every=0.5)
    tailed = embedded.cli("events", "tail", "audio.transcripts", "--from-start", "--no-follow", "--json")
    events = [json.loads(line) for line in tailed.stdout.splitlines()]
    (transcribed,) = [event for event in events if event["key"] == f"{recording}:0"]
    assert "amiable" in transcribed["event"]["text"]
    assert transcribed["headers"]["ce_type"] == "earshot.SegmentTranscribed"
    assert transcribed["headers"]["traceparent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["events", "tail", "audio.nothing"], "Choose one of: audio.uploaded"),
        (["events", "publish", "audio.uploaded.dlq"], "Publish to the topic itself"),
        (["add", "no-such-file.wav"], "Check the path"),
        (["worker", "gardener"], "Choose one of: web, relay"),
        (["transcript", str(uuid4())], "earshot:"),
    ],
)
def test_an_error_names_the_cause_and_the_next_step(embedded: System, arguments: list[str], words: str) -> None:
    done = embedded.cli(*arguments, input="")
    assert done.returncode in {1, 78}
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_runs_it_says_how_to_start_it(embedded: System) -> None:
    environment = embedded.environment | {"EARSHOT_URL": f"http://127.0.0.1:{free_port()}"}
    command = [sys.executable, "-m", "earshot", "search", "anything"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 69
    assert "earshot up" in done.stderr


def test_topics_doctor_and_models_say_what_there_is(embedded: System) -> None:
    assert answer(embedded, "topics", "create") == {"created": []}
    checks = {check["name"]: check for check in answer(embedded, "doctor")["items"]}
    assert {checks[name]["state"] for name in ("python", "broker", "catalog", "blobs", "vectors", "indexer")} == {"ok"}
    assert checks["indexer"]["found"].startswith("running, 0 behind")
    models = answer(embedded, "models", "list")["items"]
    assert {"base", "large-v3"} <= {model["name"] for model in models}
    missing = embedded.cli("models", "path", "large-v3")
    assert missing.returncode == 1
    assert "earshot models pull large-v3" in missing.stderr


def workers(system: System) -> dict[str, psutil.Process]:
    """The worker processes by name."""
    found = {}
    for process in psutil.Process(system.process.pid).children():
        command = process.cmdline()
        found[command[command.index("worker") + 1]] = process
    return found


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A system of the test's own, to be mistreated."""
    system = start(tmp_path / "data", EARSHOT_TRANSCRIBER__ENGINE="simulated")
    yield system
    stop(system)


def test_a_worker_that_is_killed_comes_back_and_a_second_system_is_refused(own: System) -> None:
    before = workers(own)
    for name in ("transcriber", "indexer", "web"):
        before[name].kill()
    eventually_sync(lambda: _back(own, before), within=60, every=0.2)
    job = own.add(CLIP)
    assert own.ended(job["id"])["state"] == "completed"
    second = own.cli("up", "--data", str(own.data), "--port", str(free_port()))
    assert second.returncode == 78
    assert "already running" in second.stderr


def _back(system: System, before: dict[str, psutil.Process]) -> bool:
    now = workers(system)
    if len(now) != len(before) or any(now[name].pid == before[name].pid for name in ("transcriber", "indexer", "web")):
        return False
    done = system.cli("status", "--json")
    return done.returncode == 0


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    system = start(tmp_path / "data", EARSHOT_TRANSCRIBER__ENGINE="simulated")
    mine = list(workers(system).values())
    assert len(mine) == len(PROCESSES)
    os.kill(system.process.pid, signal.SIGKILL)
    system.process.wait(10)
    system.http.close()
    _, left = psutil.wait_procs(mine, timeout=40)
    assert not left


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "earshot", "up", "--data", str(tmp_path / "data"), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 78
    assert port in done.stderr
    assert "--port" in done.stderr


def test_a_misconfigured_system_says_what_and_does_not_start(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
    environment |= {"EARSHOT_PARTITIONS": "many", "EARSHOT_LOG_LEVEL": "loud"}
    command = [sys.executable, "-m", "earshot", "up", "--data", str(tmp_path / "data")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 78
    assert "EARSHOT_PARTITIONS" in done.stderr
    assert "EARSHOT_LOG_LEVEL" in done.stderr
    open_door = [*command[:4], "--data", str(tmp_path / "data"), "--host", "0.0.0.0"]
    refused = subprocess.run(
        open_door, env={name: value for name, value in environment.items() if not name.startswith("EARSHOT_")},
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert refused.returncode == 78
    assert "EARSHOT_API_KEY" in refused.stderr
