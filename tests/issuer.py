"""A small OpenID Connect provider on a real socket: says where its keys are, and signs tokens."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey


class Issuer:
    """Answers on a free loopback port until closed.

    Attributes:
        asked: the paths that were asked for.
        broken: answers everything with 500 while it is true.
    """

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked: list[str] = []
        self.broken = False
        self.rotate("first")
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body = issuer.documents().get(self.path)
                status = 500 if issuer.broken else 200 if body is not None else 404
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What the tokens say in ``iss``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def documents(self) -> dict[str, Any]:
        """What it answers, by path."""
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": KeySet(list(self.keys.values())).as_dict(private=False),
        }

    def rotate(self, kid: str, kind: str = "EC") -> None:
        """Sign with another key from now on, and publish that alone."""
        parameters = {"kid": kid, "use": "sig"}
        key = ECKey.generate_key("P-256", parameters) if kind == "EC" else RSAKey.generate_key(2048, parameters)
        self.keys = {kid: key}

    def token(self, *, alg: str = "ES256", key: Any = None, without: str = "", **claims: Any) -> str:
        """A token of tenant ``school`` that may read, for five minutes; ``claims`` change it."""
        kid, own = next(iter(self.keys.items()))
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": "earshot",
            "sub": "ada",
            "iat": now,
            "exp": now + 300,
            "tenant": "school",
            "scope": "openid read",
        } | claims
        said.pop(without, None)
        return str(jwt.encode({"alg": alg, "kid": kid}, said, key or own, algorithms=[alg]))

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
