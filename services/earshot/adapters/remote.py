"""Another server's endpoint that takes JSON and gives JSON: asked with patience, and believed nothing."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import stamina
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from earshot.adapters.breaker import Breaker
from earshot.kernel.errors import EngineRejected, Misconfigured, Transient, Unavailable

LONGEST_WAIT_S = 30.0
"""A server that asks for more is not waited for: its breaker, or the stage's own patience, is."""
_BUSY = {408, 425, 429}
_REFUSED_INPUT = {400, 413, 422}
_SERVER_ERROR = 500

T = TypeVar("T")


class RemoteSettings(BaseSettings):
    """What every remote engine has."""

    url: str = Field("", pattern=r"^(https?://\S+)?$", description="Base URL of a server that does it; empty: here.")
    api_key: SecretStr = Field(SecretStr(""), description="Sent to the server at that URL as a bearer token.")
    timeout_s: float = Field(30.0, gt=0, description="Longest wait for one answer of the server at that URL.")
    tries: int = Field(3, ge=1, le=10, description="Of one request, while the server is busy or does not answer.")
    requests_per_s: float = Field(0.0, ge=0, description="At most so many requests to the server; 0: no limit.")


class Endpoint:
    """One path of a server.

    Args:
        dependency: the short name for ``Unavailable``: ``engine``, ``reranker``.
        path: below the settings' URL, such as ``/embeddings``.
        settings: URL, key and limits.
        prefix: of the settings' variables, for messages: ``EARSHOT_EMBEDDER``.
        breaker: by default one of its own.
    """

    def __init__(
        self, dependency: str, path: str, settings: RemoteSettings, prefix: str, breaker: Breaker | None = None
    ) -> None:
        self._dependency, self._settings, self._prefix = dependency, settings, prefix
        self._url = settings.url.rstrip("/") + path
        self.host = urlsplit(settings.url).hostname or ""
        self._breaker = breaker or Breaker()
        self._pace = Pace(settings.requests_per_s)
        self._client: httpx.AsyncClient | None = None

    async def ask(self, body: dict[str, Any], most_bytes: int, read: Callable[[Any], T]) -> T:
        """What ``read`` takes from the server's answer.

        Args:
            body: the question.
            most_bytes: the longest answer that is taken in.
            read: given the parsed answer; raises :meth:`unavailable` for what is no answer to the question.

        Raises:
            Unavailable: it does not answer, is busy, answers with something else than JSON, or is left alone.
            EngineRejected: it refuses this input.
            Misconfigured: it refuses us, or there is nothing at the URL.
        """
        if not self._breaker.allows:
            raise self.unavailable(f"failed again and again and is left alone for {self._breaker.rests_s:.0f} s")
        try:
            async for attempt in stamina.retry_context(
                again, attempts=self._settings.tries, timeout=None, wait_initial=0.2, wait_max=5.0
            ):
                with attempt:
                    await self._turn()
                    answer = read(await self._once(body, most_bytes))
        except Transient:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return answer

    def unavailable(self, what: str) -> Unavailable:
        """The error that says of the server ``what`` it does."""
        return Unavailable(self._dependency, f"The server {self.host} {what}.", next_step=self._next_step)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    @property
    def _next_step(self) -> str:
        return f"Check it, and {self._prefix}__URL."

    async def _turn(self) -> None:
        if not await self._pace.turn(self._settings.timeout_s):
            raise self.unavailable(f"has more to do than {self._prefix}__REQUESTS_PER_S allows")

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(headers=self._headers(), timeout=self._settings.timeout_s)
        return self._client

    def _headers(self) -> dict[str, str]:
        """What every request carries."""
        key = self._settings.api_key.get_secret_value()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        return headers | ({"Authorization": f"Bearer {key}"} if key else {})

    async def _once(self, body: dict[str, Any], most_bytes: int) -> Any:
        client = self._connected()
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                client.stream("POST", self._url, json=body) as got,
            ):
                self._check(got)
                return self._parsed(await self._read(got, most_bytes))
        except TimeoutError:
            raise TryAgain(self._dependency, f"The server {self.host} takes too long.", self._next_step) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            what = f"The server {self.host} does not answer: {type(error).__name__}."
            raise TryAgain(self._dependency, what, self._next_step) from error

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if answer.is_success:
            return
        if status in _BUSY or status >= _SERVER_ERROR:
            what = f"The server {self.host} answers {status}."
            raise TryAgain(self._dependency, what, self._next_step, _retry_after(answer))
        if status in _REFUSED_INPUT:
            raise EngineRejected(f"The server {self.host} refuses the input with {status}.")
        step = f"Check {self._prefix}__API_KEY." if status in (401, 403) else f"Check {self._prefix}__URL and __MODEL."
        raise Misconfigured(f"The server {self.host} answers {status}.", next_step=step)

    async def _read(self, answer: httpx.Response, most_bytes: int) -> bytes:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise self.unavailable("answers with compressed data, which it was asked not to")
        data = bytearray()
        async for chunk in answer.aiter_raw():
            data += chunk
            if len(data) > most_bytes:
                raise self.unavailable(f"answers with more than {most_bytes} bytes")
        return bytes(data)

    def _parsed(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.unavailable("answers with something else than JSON") from error


class Pace:
    """So many turns a second, evenly.

    Args:
        per_s: turns a second; 0: no limit.
    """

    def __init__(self, per_s: float) -> None:
        self._every_s = 1 / per_s if per_s else 0.0
        self._next = 0.0

    async def turn(self, within_s: float) -> bool:
        """Wait for a turn; ``False``, without waiting, when it would not come in time."""
        now = time.monotonic()
        at = max(now, self._next)
        if at - now > within_s:
            return False
        self._next = at + self._every_s
        if at > now:
            await asyncio.sleep(at - now)
        return True


class TryAgain(Unavailable):
    """Worth another try at once, or after what the server asks for.

    Args:
        dependency: as in ``Unavailable``.
        detail: the cause.
        next_step: what to do about it.
        after_s: what the server asks to wait; ``None``: it does not say.
    """

    def __init__(self, dependency: str, detail: str, next_step: str, after_s: float | None = None) -> None:
        super().__init__(dependency, detail, next_step=next_step)
        self.after_s = after_s


def finite(number: Any) -> float | None:
    """A JSON number as a float; ``None`` for anything else, and for what no float can hold."""
    if type(number) not in (int, float):
        return None
    try:
        made = float(number)
    except OverflowError:
        return None
    return made if math.isfinite(made) else None


def placed(rows: Any, count: int, field: str) -> list[Any] | None:
    """The ``field`` of each row in the order of their ``index``; ``None`` unless each place has exactly one row."""
    if not isinstance(rows, list) or len(rows) != count:
        return None
    of = {row["index"]: row.get(field) for row in rows if isinstance(row, dict) and type(row.get("index")) is int}
    return [of[place] for place in range(count)] if set(of) == set(range(count)) else None


def again(error: Exception) -> bool | float:
    """Whether to try again, or after how many seconds."""
    if not isinstance(error, TryAgain):
        return False
    if error.after_s is None:
        return True
    return error.after_s if error.after_s <= LONGEST_WAIT_S else False


def _retry_after(answer: httpx.Response) -> float | None:
    """The seconds of ``Retry-After``; ``None`` without, or when it is a date."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isascii() and said.isdigit() and len(said) <= 6 else None


def check(settings: RemoteSettings, model: str, prefix: str) -> None:
    """Refuse a URL that carries a secret, or that goes without a model.

    Raises:
        Misconfigured: with what to change.
    """
    if "@" in urlsplit(settings.url).netloc:
        raise Misconfigured(f"{prefix}__URL holds a user or a password.", next_step=f"Use {prefix}__API_KEY.")
    if not model:
        raise Misconfigured(f"{prefix}__URL is set, but no model.", next_step=f"Set {prefix}__MODEL to its name there.")
