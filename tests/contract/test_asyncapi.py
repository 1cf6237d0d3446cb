"""The AsyncAPI document says what the code says, in a form that its own parser takes."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastavro.schema import parse_schema

from earshot.kernel.topics import all_topics
from tests.servers import ASYNCAPI_PARSER

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "schemas" / "asyncapi.yaml"
CHECK = Path(__file__).with_name("asyncapi_check.mjs")


@pytest.fixture
def parser() -> Path:
    """The folder of the parser; without it the test is skipped, in CI it fails."""
    node = shutil.which("node")
    if node is None or not ASYNCAPI_PARSER.is_dir():
        why = "AsyncAPI's parser: `make test-servers` fetches it (Node.js and npm)"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return ASYNCAPI_PARSER


def errors(parser: Path, document: dict[str, Any]) -> list[str]:
    command = ["node", str(CHECK), str(parser)]
    done = subprocess.run(command, input=yaml.safe_dump(document), capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_the_document_is_what_the_code_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "asyncapi.py"))["text"]()
    assert FILE.read_text(encoding="utf-8") == made, "run `make docs`"


def test_every_topic_is_in_the_document() -> None:
    assert set(yaml.safe_load(FILE.read_text(encoding="utf-8"))["channels"]) == {topic.name for topic in all_topics()}


def test_the_parser_takes_the_document(parser: Path) -> None:
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert errors(parser, document) == []
    document["operations"]["segmenter.receive.audio.uploaded"]["channel"]["$ref"] = "#/channels/nowhere"
    assert errors(parser, document), "a channel that is not there went through"


def test_every_payload_is_an_avro_schema() -> None:
    for message in yaml.safe_load(FILE.read_text(encoding="utf-8"))["components"]["messages"].values():
        if "schema" in message["payload"]:
            parse_schema(message["payload"]["schema"])
