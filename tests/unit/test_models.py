"""Getting a model: from a hub that serves, asks for a licence, refuses, or never answers. All on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from earshot.adapters import hub as hubs
from earshot.adapters import known_models, models
from earshot.adapters.models import ModelSettings
from earshot.kernel.errors import Permanent, Unavailable

COMMIT = "a" * 40
FILES = {name: f"the {name} of a model".encode() * 50 for name in (*known_models.NEEDED, "vocabulary.txt", "README.md")}


class Hub(BaseHTTPRequestHandler):
    """The few calls of the Hugging Face hub that a download makes."""

    def do_GET(self):
        self._answer(with_body=True)

    def do_HEAD(self):
        self._answer(with_body=False)

    def _answer(self, *, with_body):
        self.server.asked.append(f"{self.command} {self.path}")
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if self.server.refusal is not None:
            status, headers = self.server.refusal
            return self._send(status, b"no", headers, with_body)
        if self.path.startswith("/api/models/"):
            about = {"id": "x/y", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"}, with_body)
        if name in FILES:
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            return self._send(200, FILES[name], headers, with_body)
        return self._send(200, b"hub", {}, with_body)

    def _send(self, status, body, headers, with_body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_args):
        """Quiet."""


@pytest.fixture
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.asked, server.refusal = [], None
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings(folder, hub="off") -> ModelSettings:
    url = hub if isinstance(hub, str) else f"http://127.0.0.1:{hub.server_address[1]}"
    return ModelSettings(model_dir=folder, hub=url, _env_file=None)


def test_a_model_is_pulled_once_with_nothing_that_is_not_needed(hub, tmp_path):
    seen = []
    where = models.pull("tiny", lambda done, total: seen.append((done, total)), settings(tmp_path, hub))
    assert where == tmp_path / "tiny" == models.path("tiny", settings(tmp_path))
    assert (where / "model.bin").read_bytes() == FILES["model.bin"]
    assert not (where / "README.md").exists()
    assert seen
    assert seen[-1][0] == sum(map(len, FILES.values())) - len(FILES["README.md"])
    before = len(hub.asked)
    assert models.pull("tiny", None, settings(tmp_path, hub)) == where
    assert len(hub.asked) == before


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ((401, {"X-Error-Code": "GatedRepo"}), r"is gated.*Accept it at .* `earshot models pull small`"),
        ((403, {"X-Error-Code": "GatedRepo"}), r"is gated.*HF_TOKEN"),
        ((401, {}), r"does not give .*answered 401.*HF_TOKEN.* `earshot models pull small`"),
        ((403, {}), r"does not give .*answered 403.*HF_TOKEN"),
        ((500, {}), r"broke off .*answered 500.*goes on where it stopped"),
    ],
)
def test_a_hub_that_refuses_is_one_sentence_and_the_next_step(hub, tmp_path, refusal, says):
    hub.refusal = refusal
    with pytest.raises(Unavailable, match=says) as error:
        models.pull("small", None, settings(tmp_path, hub))
    assert "\n" not in str(error.value)


def test_a_repository_that_is_not_there_is_said(hub, tmp_path):
    hub.refusal = (404, {"X-Error-Code": "RepoNotFound"})
    with pytest.raises(Permanent, match="has no repository some/body"):
        models.pull("some/body", None, settings(tmp_path, hub))


@pytest.mark.parametrize("refusal", [None, (401, {"X-Error-Code": "GatedRepo"}), (403, {})])
def test_the_command_says_one_sentence_and_the_next_step_and_never_a_stack_trace(hub, tmp_path, refusal):
    """Refused by a hub, or, for ``None``, with no hub at that port."""
    hub.refusal = refusal
    port = 9 if refusal is None else hub.server_address[1]
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "earshot", "models", "pull", "community-1"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 69  # EX_UNAVAILABLE
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("{", "20"))]  # logs begin so
    assert len(lines) == 2
    assert ("does not answer" if refusal is None else "speaker-diarization-community-1") in lines[0]
    assert any(step in lines[1] for step in ("HF_TOKEN", "EARSHOT_DIARIZER__MODEL"))


def test_a_model_can_be_pulled_into_a_folder_for_a_machine_without_a_hub(hub, tmp_path):
    elsewhere = tmp_path / "usb"
    where = models.pull("tiny", None, settings(tmp_path / "here", hub), elsewhere)
    assert where == elsewhere / "tiny"
    assert models.path("tiny", settings(tmp_path / "here")) is None
    assert models.path("tiny", settings(elsewhere)) == where
    before = len(hub.asked)
    assert models.pull("tiny", None, settings(tmp_path / "here", hub), elsewhere) == where
    assert len(hub.asked) == before


def test_there_must_be_room(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(known_models.KNOWN, "vast", known_models.Known("speech", "x/vast", 10**9, "too much"))
    with pytest.raises(Unavailable, match=r"needs 1000000.0 GB.*left. Make room"):
        models.pull("vast", None, settings(tmp_path, hub))


def test_what_comes_with_a_package_is_there_already(tmp_path):
    for name in ("pocketsphinx", "wordllama"):
        assert models.pull(name, None, settings(tmp_path)).name == name


def test_a_hub_that_never_answers_is_asked_once(tmp_path):
    """The connection is accepted and nothing comes back: the first call gives up by itself, the second does not ask."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(1)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"does not answer.*EARSHOT_TRANSCRIBER__MODEL_DIR"):
                models.pull("base", None, settings(tmp_path, endpoint))
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_a_hub_that_refuses_connections_is_left_alone_after_three_times_and_asked_again_later(hub):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"  # nobody listens there now
    for _ in range(3):
        assert hubs.breaker(endpoint).allows
        assert not hubs.answers(endpoint)
    assert 110 < hubs.breaker(endpoint).rests_s <= 120
    assert not hubs.answers(endpoint)
    alive = f"http://127.0.0.1:{hub.server_address[1]}"
    hubs.breaker(alive).trip()
    assert not hubs.answers(alive)
    assert hub.asked == []
    hubs.breaker(alive).trip(0)
    assert hubs.answers(alive)
    assert hubs.breaker(alive).closed


def test_a_hub_that_is_off_is_not_looked_for(tmp_path):
    assert models.hub(settings(tmp_path, "off")) is None
    with pytest.raises(Unavailable, match="EARSHOT_TRANSCRIBER__HUB is off"):
        models.pull("base", None, settings(tmp_path))


def test_models_are_listed_with_what_they_need_and_where_they_lie(tmp_path):
    for name in known_models.NEEDED:
        (tmp_path / "small").mkdir(exist_ok=True)
        (tmp_path / "small" / name).touch()
    rows = {row.name: row for row in models.list_models(settings(tmp_path))}
    assert rows["small"].path == str(tmp_path / "small")
    assert rows["base"].path is None
    assert (rows["small"].disk, rows["large-v3"].memory) == ("486 MB", "2.8 GB")
    assert {row.kind for row in rows.values()} == {"speech", "embedding", "reranking", "diarization"}
    json.dumps([row.__dict__ for row in rows.values()])


def test_half_a_model_is_none(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.bin").touch()
    assert models.path("base", settings(tmp_path)) is None


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(Permanent, match=r"no model 'huge'.*tiny, base") as error:
        models.path("huge", settings(tmp_path))
    assert error.value.code == "unknown_model"
