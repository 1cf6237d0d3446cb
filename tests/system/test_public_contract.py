"""Strangers with nothing but the public schemas publish recordings and read transcripts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.system.conftest import EXAMPLES, ROOT, System
from tests.waiting import eventually_sync

pytestmark = [pytest.mark.kafka, pytest.mark.weaviate]
SCHEMAS = ROOT / "schemas"
CACHE = Path(os.environ.get("EARSHOT_TEST_CACHE", Path.home() / ".cache" / "earshot"))


def readme_code(name: str, prefix: str) -> str:
    """A code block of the README, its topics given the prefix of the system under test."""
    found = re.search(rf"```python {name}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"the README has no code block named {name}"
    return re.sub(r'"((?:audio|recordings)\.)', rf'"{prefix}\1', found[1])


@contextmanager
def lines_of(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[Queue[str]]:
    """The lines a process prints, as they come; it is ended at the end."""
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True)
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(20)
        thread.join(5)
        assert process.stdout is not None
        process.stdout.close()


def line_with(lines: Queue[str], *words: str) -> str:
    """The first line with any of the words, within a minute."""
    seen = []
    while True:
        try:
            line = lines.get(timeout=60)
        except Empty:
            raise AssertionError(f"no line with {words}; seen: {seen}") from None
        if any(word in line for word in words):
            return line
        seen.append(line)


def environment(system: System) -> dict[str, str]:
    kafka = system.settings["EARSHOT_BROKER_URL"].removeprefix("kafka://")
    return os.environ | {"KAFKA": kafka, "BLOBS": str(system.data / "blobs")}


def found_from(system: System, query: str, title: str) -> None:
    """A search finds the recording of that title."""

    def found() -> bool:
        return any(hit["title"] == title for hit in system.search(query))

    eventually_sync(found, within=90, every=0.5)


def test_the_readme_s_producer_and_consumer_work_as_printed(on_kafka: System, tmp_path: Path) -> None:
    prefix = on_kafka.settings["EARSHOT_TOPIC_PREFIX"]
    clip = tmp_path / "amiable-woman.wav"
    shutil.copy(EXAMPLES / "sense_and_sensibility" / "0920.wav", clip)
    consumer = [sys.executable, "-c", readme_code("consumer", prefix)]
    with lines_of(consumer, environment(on_kafka), ROOT) as lines:
        producer = [sys.executable, "-c", readme_code("producer", prefix), str(clip)]
        subprocess.run(producer, env=environment(on_kafka), cwd=ROOT, check=True, timeout=60)
        said = json.loads(line_with(lines, "amiable woman"))
    assert said["state"] == "completed"
    found_from(on_kafka, "had he married a more amiable woman", "amiable-woman")


def test_a_go_producer_built_on_the_schema_alone_is_understood(on_kafka: System, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        if os.environ.get("CI"):
            pytest.fail("Go is missing")
        pytest.skip("Go is not installed; it enables the Go producer's test")
    folder = ROOT / "examples" / "go-producer"
    program = CACHE / "bin" / "go-producer"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=folder, check=True, timeout=600)
    clip = tmp_path / "cold-hearted.wav"
    shutil.copy(EXAMPLES / "sense_and_sensibility" / "0890.wav", clip)
    command = [str(program), "-brokers", environment(on_kafka)["KAFKA"], "-schema", str(SCHEMAS / "AudioUploaded.avsc")]
    command += ["-blobs", str(on_kafka.data.resolve() / "blobs")]
    command += ["-topic", on_kafka.settings["EARSHOT_TOPIC_PREFIX"] + "audio.uploaded", str(clip)]
    for _ in range(2):
        subprocess.run(command, check=True, timeout=60)
    found_from(on_kafka, "cold hearted and rather selfish", "cold-hearted.wav")
    recordings = on_kafka.http.get("/recordings").json()["items"]
    assert [item["title"] for item in recordings].count("cold-hearted.wav") == 1, (
        "the same event twice is one recording"
    )


def test_a_java_consumer_built_on_the_schemas_alone_reads_a_transcript(on_kafka: System) -> None:
    if shutil.which("java") is None or shutil.which("mvn") is None:
        if os.environ.get("CI"):
            pytest.fail("Java 17 or Maven is missing")
        pytest.skip("Java 17 and Maven are not installed; they enable the Java consumer's test")
    folder, libraries = ROOT / "examples" / "java-consumer", CACHE / "java-consumer"
    if not list(libraries.glob("*.jar")):
        fetch = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={libraries}"]
        subprocess.run(fetch, cwd=folder, check=True, timeout=300)
    job = on_kafka.add(EXAMPLES / "sense_and_sensibility" / "0930.wav", collection="java", language="en")
    assert on_kafka.ended(job["id"])["state"] == "completed"
    command = [
        "java",
        "-cp",
        f"{libraries}/*",
        "TranscriptConsumer.java",
        environment(on_kafka)["KAFKA"],
        str(SCHEMAS),
        "1000",
    ]
    command.append(on_kafka.settings["EARSHOT_TOPIC_PREFIX"])
    with lines_of(command, dict(os.environ), folder) as lines:
        recording, *segments = line_with(lines, job["recording_id"]).strip().split("\t")
    assert recording == job["recording_id"]
    assert "amiable himself" in " ".join(segments)
