"""The engine: any server that speaks OpenAI's ``/v1/audio/transcriptions``. What it answers is not trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
import stamina
from pydantic import SecretStr, ValidationError

from earshot.adapters import flac
from earshot.adapters.breaker import Breaker
from earshot.adapters.languages import code
from earshot.adapters.pocketsphinx import primary
from earshot.adapters.remote_words import Answer, words_of
from earshot.kernel.errors import EarshotError, EngineRejected, Misconfigured, Unavailable
from earshot.kernel.events import Engine
from earshot.kernel.ports import Clip, Recognized

NAME = "remote"
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer; that of a minute of speech with word times has about 50,000."""
ATTEMPTS = 3
MAX_WAIT_S = 30.0
"""A server that says to come back later than this is left alone until then."""
MAX_REST_S = 3600.0
CONNECT_S = 10.0
ENGLISH = "en"
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY)
_REFUSING = (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN)
_OF_THE_CLIP = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_ASK_FOR = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


class RemoteSettings(Protocol):
    """What of the engine settings is the remote engine's."""

    remote_url: str
    remote_model: str
    remote_api_key: SecretStr
    remote_requests_per_minute: float
    remote_parallel: int
    remote_timeout_s: float


class _Again(Exception):
    """The server may answer the same request later; ``after_s`` is when it says so, ``None`` when it does not."""

    def __init__(self, detail: str, after_s: float | None = None) -> None:
        super().__init__(detail)
        self.after_s = after_s


class RemoteSpeech:
    """A ``Recognizer``: enter it to try the server, its key and its model on a second of silence.

    Args:
        settings: where it is, what to ask for, and how often.
        breaker: when it is left alone.
        first_wait_s: before a request is sent again, where the server does not say when; it doubles.
    """

    def __init__(self, settings: RemoteSettings, breaker: Breaker | None = None, first_wait_s: float = 0.5) -> None:
        self._settings = settings
        self._first_wait_s = first_wait_s
        self._breaker = breaker or Breaker()
        self._pace = Pace(settings.remote_requests_per_minute)
        self._at_once = asyncio.Semaphore(settings.remote_parallel)
        self._client: httpx.AsyncClient | None = None
        url = httpx.URL(settings.remote_url)
        self._shown = str(url.copy_with(username=None, password=None, query=None))
        self.engine = Engine(name=NAME, model=settings.remote_model, digest="", device=NAME)
        self.options: dict[str, Any] = {"url": self._shown}

    async def __aenter__(self) -> Self:
        """Try it once. Raises ``Misconfigured`` when it refuses, ``Unavailable`` when it does not answer."""
        key = self._settings.remote_api_key.get_secret_value()
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(self._settings.remote_timeout_s, connect=CONNECT_S),
        )
        try:
            await self._recognize(Clip(await asyncio.to_thread(flac.silence, 1.0), 0, 1000))
        except EngineRejected as error:
            await self._client.aclose()
            raise Misconfigured(error.detail, next_step=error.next_step) from None
        except BaseException:
            await self._client.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order; a few are asked for at once.

        Raises:
            EngineRejected: the server cannot handle one of the clips.
            Unavailable: it does not answer, is too busy, or answers nonsense.
            Misconfigured: it refuses the key, or knows no such model.
        """
        tasks = [asyncio.create_task(self._recognize(clip)) for clip in clips]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _recognize(self, clip: Clip) -> Recognized:
        async with self._at_once:
            if not self._breaker.allows:
                raise self._unavailable(f"failed again and again and is left alone for {self._breaker.rests_s:.0f} s")
            try:
                answer = await self._ask(clip)
            except _Again as error:
                self._count(error)
                raise self._unavailable(str(error)) from None
            except Misconfigured:
                self._breaker.failed()
                raise
        self._breaker.succeeded()
        return await asyncio.to_thread(self._heard, answer, clip)

    def _count(self, error: _Again) -> None:
        if error.after_s is not None and error.after_s > MAX_WAIT_S:
            self._breaker.trip(min(error.after_s, MAX_REST_S))
        else:
            self._breaker.failed()

    def _heard(self, answer: Answer, clip: Clip) -> Recognized:
        spoken = primary(clip.language) or code(answer.language or "")
        words = words_of(answer, clip)
        text = " ".join(word.text for word in words)
        if clip.task == "translate" and spoken != ENGLISH:
            return Recognized(text, words, ENGLISH, self.engine, self.options, translated_from=spoken)
        return Recognized(text, words, clip.language or spoken, self.engine, self.options)

    async def _ask(self, clip: Clip) -> Answer:
        """One request, and again a little later while that may help. Raises ``_Again`` when it did not."""
        first_s = self._first_wait_s
        async for attempt in stamina.retry_context(
            on=_wait, attempts=ATTEMPTS, timeout=None, wait_initial=first_s, wait_jitter=first_s
        ):
            with attempt:
                await self._pace.turn()
                return await self._request(clip)
        raise AssertionError("stamina tries at least once")

    async def _request(self, clip: Clip) -> Answer:
        assert self._client is not None, "enter the RemoteSpeech first"
        what = "translations" if clip.task == "translate" else "transcriptions"
        url = httpx.URL(self._settings.remote_url)
        url = url.copy_with(path=f"{url.path.rstrip('/')}/audio/{what}")
        files = {"file": ("segment.flac", clip.flac, "audio/flac")}
        try:
            async with (
                asyncio.timeout(self._settings.remote_timeout_s + CONNECT_S),  # httpx's own is for each read
                self._client.stream("POST", url, data=self._form(clip), files=files) as response,
            ):
                self._check(response)
                return Answer.model_validate_json(await self._body(response))
        except TimeoutError:
            raise _Again(f"did not answer within {self._settings.remote_timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise _Again(f"cannot be reached, or broke off ({type(error).__name__})") from None
        except ValidationError:
            raise _Again("answered what is no verbose_json") from None

    def _form(self, clip: Clip) -> dict[str, Any]:
        """The fields of the request; the lists are repeated fields."""
        form: dict[str, Any] = {"model": self._settings.remote_model, "response_format": "verbose_json"}
        if clip.task != "translate":
            form["timestamp_granularities[]"] = ["word", "segment"]
            form |= {"language": primary(clip.language)} if clip.language else {}
        hint = " ".join(part for part in (clip.prompt, clip.hotwords) if part)
        return form | ({"prompt": hint} if hint else {})

    def _check(self, response: httpx.Response) -> None:
        """Raises what a status means, before anything of the body is read."""
        status = response.status_code
        if status == HTTPStatus.OK:
            return
        said = f"answered {status}"
        if status in _BUSY:
            raise _Again(f"is too busy: it {said}", _retry_after(response.headers.get("Retry-After", "")))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            raise _Again(said)
        if status in _REFUSING:
            raise self._misconfigured(f"refuses the key: it {said}", "Set EARSHOT_TRANSCRIBER__REMOTE_API_KEY.")
        if status in (*_OF_THE_CLIP, *_ASK_FOR):
            detail = f"The server at {self._shown} does not take the segment: it {said}."
            raise EngineRejected(detail, next_step="Check EARSHOT_TRANSCRIBER__REMOTE_MODEL if that happens to all.")
        raise self._misconfigured(said, "Check EARSHOT_TRANSCRIBER__REMOTE_URL and __REMOTE_MODEL.")

    async def _body(self, response: httpx.Response) -> bytes:
        """The answer, as long as it is none that would fill the memory."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Again("compressed its answer, which was not asked for")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > MAX_ANSWER:
                raise _Again(f"answered more than {MAX_ANSWER} bytes")
        return bytes(body)

    def _misconfigured(self, what: str, next_step: str) -> EarshotError:
        return Misconfigured(f"The transcription server at {self._shown} {what}.", next_step=next_step)

    def _unavailable(self, what: str) -> EarshotError:
        return Unavailable("engine", f"The transcription server at {self._shown} {what}.")


class Pace:
    """So many turns a minute, evenly; 0: no limit."""

    def __init__(self, per_minute: float) -> None:
        self._every_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for a turn."""
        now = time.monotonic()
        mine = max(self._next, now)
        self._next = mine + self._every_s
        if mine > now:
            await asyncio.sleep(mine - now)


def _wait(error: Exception) -> bool | float:
    """Whether to ask again, and when: as the server says, where it does."""
    if not isinstance(error, _Again):
        return False
    if error.after_s is None:
        return True
    return error.after_s if error.after_s <= MAX_WAIT_S else False


def _retry_after(said: str) -> float | None:
    """Seconds, from a number of them or from a date."""
    if said.strip().isdigit():
        return float(said.strip()[:6])
    try:
        when = parsedate_to_datetime(said)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
