"""Every call to a dependency behind a breaker: what failed again and again is not asked again for a while.

A stage that waits for it then waits without asking, and whoever asks over HTTP gets the reason at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.adapters.breaker import Breaker
from earshot.kernel.errors import Permanent, Unavailable
from earshot.kernel.settings import config

P = ParamSpec("P")
R = TypeVar("R")


class Figures(NamedTuple):
    """So many failures in a row open a breaker, for so long."""

    failures: int
    rest_s: float


BROKER = CATALOG = BLOBS = Figures(5, 30.0)
"""As the guarantees ask for broker and catalog; a blob store answers as quickly."""
VECTORS = Figures(3, 60.0)
"""As the guarantees ask for the vector store: a failed write of it may have taken a minute."""
REGISTRY = Figures(5, 10.0)
"""A registry answers in milliseconds or not at all; an event of a new schema should not wait long for its return."""


class BreakerSettings(BaseSettings):
    """``EARSHOT_BREAKER__…``: when what fails is left alone, and how long. Reads and writes count apart."""

    model_config = config("BREAKER__")

    broker_failures: int = Field(BROKER.failures, ge=1, description="In a row, until the broker is left alone.")
    broker_rest_s: float = Field(BROKER.rest_s, gt=0, description="How long the broker is left alone.")
    catalog_failures: int = Field(CATALOG.failures, ge=1, description="In a row, until the catalog is left alone.")
    catalog_rest_s: float = Field(CATALOG.rest_s, gt=0, description="How long the catalog is left alone.")
    blobs_failures: int = Field(BLOBS.failures, ge=1, description="In a row, until the blob store is left alone.")
    blobs_rest_s: float = Field(BLOBS.rest_s, gt=0, description="How long the blob store is left alone.")
    vectors_failures: int = Field(VECTORS.failures, ge=1, description="In a row, until the vector store is left alone.")
    vectors_rest_s: float = Field(VECTORS.rest_s, gt=0, description="How long the vector store is left alone.")
    registry_failures: int = Field(REGISTRY.failures, ge=1, description="In a row, until the registry is left alone.")
    registry_rest_s: float = Field(REGISTRY.rest_s, gt=0, description="How long the schema registry is left alone.")

    def of(self, dependency: str) -> Figures:
        """The figures of ``broker``, ``catalog``, ``blobs``, ``vectors`` or ``registry``."""
        return Figures(getattr(self, f"{dependency}_failures"), getattr(self, f"{dependency}_rest_s"))


class Guard:
    """A breaker, and what the dependency said last. May be shared by threads.

    Args:
        dependency: as in ``Unavailable``.
        figures: of the breaker.
    """

    def __init__(self, dependency: str, figures: Figures) -> None:
        self.breaker = Breaker(*figures)
        self._dependency = dependency
        self._last = Unavailable(dependency, f"The {dependency} failed.")

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around one call. Raises ``Unavailable`` without making it while the breaker is open.

        Only that the dependency does not answer counts as a failure: that it refuses something is an answer.
        """
        self.check()
        try:
            yield
        except Unavailable as error:
            self.failed(error)
            raise
        except Permanent:
            self.succeeded()
            raise
        else:
            self.succeeded()

    def check(self) -> None:
        """Raise ``Unavailable`` while the breaker is open."""
        if self.breaker.allows:
            return
        rest_s, last = self.breaker.rests_s, self._last
        times = self.breaker.in_a_row
        detail = f"{last.detail.rstrip('.')}. After {times} failures in a row it is left alone for {rest_s:.0f} s."
        raise Unavailable(self._dependency, detail, next_step=last.next_step, after_s=rest_s)

    def failed(self, error: Unavailable) -> None:
        """A call came to this; what other dependencies did does not count."""
        if error.dependency == self._dependency:
            self._last = error
            self.breaker.failed()

    def succeeded(self) -> None:
        """A call was answered."""
        self.breaker.succeeded()


class Guards:
    """Reads and writes, each behind a breaker of their own: a full disk refuses writes while reads succeed."""

    def __init__(self, dependency: str, figures: Figures) -> None:
        self.reads, self.writes = Guard(dependency, figures), Guard(dependency, figures)

    def alive(self) -> None:
        """The dependency gave a sign of life: whoever waits may try."""
        for guard in (self.reads, self.writes):
            guard.breaker.due()


class Guarded(Protocol):
    """An adapter that has guards."""

    guards: Guards


A = TypeVar("A", bound=Guarded)
Method = Callable[Concatenate[A, P], Coroutine[Any, Any, R]]


def reads(method: Method[A, P, R]) -> Method[A, P, R]:
    """Guard a method that changes nothing."""
    return _guarded(method, lambda adapter: adapter.guards.reads)


def writes(method: Method[A, P, R]) -> Method[A, P, R]:
    """Guard a method that writes."""
    return _guarded(method, lambda adapter: adapter.guards.writes)


def _guarded(method: Method[A, P, R], guard: Callable[[A], Guard]) -> Method[A, P, R]:
    @functools.wraps(method)
    async def call(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with guard(self).asking():
            return await method(self, *args, **kwargs)

    return call
