"""A server that speaks Chat Completions and the Messages API over a real socket, as a test's script says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler", dict[str, Any]], None]
PATHS = ("/v1/chat/completions", "/v1/messages")


class ModelServer(ThreadingHTTPServer):
    """``script`` is used up first, one reply a request; after it, every answer is ``otherwise``.

    Attributes:
        asked: the bodies of all requests.
        gone: set when a client went away while it was answered.
        going_on: while it is not set, ``slowly`` waits after its first piece.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Reply] = []
        self.otherwise: Reply = says("Nobody wrote a script. [1]")
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = threading.Event()
        self.going_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, **body})
        self.server.headers.append(dict(self.headers))
        assert self.path in PATHS
        reply = self.server.script.pop(0) if self.server.script else self.server.otherwise
        try:
            reply(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.server.gone.set()
            self.close_connection = True

    def status(self, status: int, **headers: str) -> None:
        """An answer that is none."""
        self.send_response(status)
        for name, value in {"Content-Length": "2", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(b"{}")

    def begin(self) -> None:
        """The head of a stream, which ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def piece(self, text: str) -> None:
        """A piece of the answer."""
        if self.path == "/v1/messages":
            self.event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
        else:
            self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

    def event(self, data: dict[str, Any]) -> None:
        """One server-sent event."""
        self.wfile.write(f"event: {data.get('type', 'message')}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def ends(self, tokens: tuple[int, int] = (100, 10), why: str = "") -> None:
        """The end, as each interface has it."""
        got, made = tokens
        if self.path == "/v1/messages":
            about = {
                "type": "message_delta",
                "delta": {"stop_reason": why or "end_turn"},
                "usage": {"output_tokens": made},
            }
            self.event(about)
            self.event({"type": "message_stop"})
            return
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": why or "stop"}]})
        self.event({"choices": [], "usage": {"prompt_tokens": got, "completion_tokens": made}})
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing on the terminal."""


def _begun(handler: Handler, tokens: tuple[int, int]) -> None:
    handler.begin()
    if handler.path == "/v1/messages":
        handler.event({"type": "message_start", "message": {"usage": {"input_tokens": tokens[0], "output_tokens": 1}}})
        handler.event({"type": "ping"})


def says(text: str, *, tokens: tuple[int, int] = (100, 10), why: str = "", size: int = 3) -> Reply:
    """This answer, in pieces of a few characters."""

    def reply(handler: Handler, _body: dict[str, Any]) -> None:
        _begun(handler, tokens)
        for at in range(0, len(text), size):
            handler.piece(text[at : at + size])
        handler.ends(tokens, why)

    return reply


def answers(write: Callable[[str], str]) -> Reply:
    """An answer that is made from what was sent: the text of the last message."""
    return lambda handler, body: says(write(body["messages"][-1]["content"]))(handler, body)


def fails(status: int, **headers: str) -> Reply:
    """No answer but a status."""
    return lambda handler, _body: handler.status(status, **headers)


def breaks_off(text: str) -> Reply:
    """The beginning of an answer, and the line goes dead."""

    def reply(handler: Handler, _body: dict[str, Any]) -> None:
        _begun(handler, (1, 1))
        handler.piece(text)

    return reply


def errs(handler: Handler, _body: dict[str, Any]) -> None:
    """An error where a piece of the answer should be."""
    handler.begin()
    handler.event({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})


def slowly(handler: Handler, _body: dict[str, Any]) -> None:
    """One piece, then nothing until the test lets it go on; then more pieces than any socket takes in."""
    _begun(handler, (1, 1))
    handler.piece("We ship on Friday [1]. ")
    handler.server.going_on.wait(120)
    for _ in range(20_000):
        handler.piece("And on and on. ")
    handler.ends()


def numbers(sent: str) -> list[int]:
    """The excerpts of a request."""
    return [int(number) for number in re.findall(r'<excerpt number="(\d+)"', sent)]


@contextmanager
def running() -> Iterator[ModelServer]:
    """A server of the test's own."""
    with ModelServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.going_on.set()
            server.shutdown()
            thread.join()
