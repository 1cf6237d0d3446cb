"""A server that embeds and reranks over real HTTP, rightly or as wrongly as a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes_vectors import FakeEncoder, words_of

Reply = Callable[["Handler", dict[str, Any]], None]


class RemoteServer(ThreadingHTTPServer):
    """Speaks ``/v1/embeddings`` and ``/v2/rerank``. ``script`` is used up first, one reply a request."""

    daemon_threads = True

    def __init__(self, dimensions: int = 8) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.encoder = FakeEncoder(dimensions)
        self.script: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: RemoteServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, **body})
        self.server.headers.append(dict(self.headers))
        if self.server.script:
            self.server.script.pop(0)(self, body)
        else:
            self.send(200, embeddings(self, body) if self.path == "/v1/embeddings" else results(body))

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing on the terminal."""


def embeddings(handler: Handler, body: dict[str, Any]) -> dict[str, Any]:
    """Longer than unit length and in the wrong order, as a server may send them."""
    encode = handler.server.encoder._encode
    rows = [{"index": place, "embedding": [3 * x for x in encode(text)]} for place, text in enumerate(body["input"])]
    return {"object": "list", "data": rows[::-1]}


def results(body: dict[str, Any]) -> dict[str, Any]:
    """Best first, with the documents sent back, as vLLM does."""
    wanted = set(words_of(body["query"]))
    rows = [
        {"index": place, "relevance_score": len(wanted & set(words_of(text))), "document": {"text": text}}
        for place, text in enumerate(body["documents"])
    ]
    return {"results": sorted(rows, key=lambda row: -row["relevance_score"])}


def answer(status: int, content: Any = b"", **headers: str) -> Reply:
    """A reply that does not depend on the question."""
    return lambda handler, _: handler.send(status, content, {k.replace("_", "-"): v for k, v in headers.items()})


def changed(change: Callable[[Any], Any]) -> Reply:
    """The right answer, changed."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        right = embeddings(handler, body) if handler.path == "/v1/embeddings" else results(body)
        handler.send(200, change(right))

    return reply


def cut_short(handler: Handler, body: dict[str, Any]) -> None:
    """Half an answer, and the line goes dead."""
    data = json.dumps(embeddings(handler, body) if handler.path == "/v1/embeddings" else results(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


@contextmanager
def running(dimensions: int = 8) -> Iterator[RemoteServer]:
    """A server of the test's own."""
    with RemoteServer(dimensions) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
