"""What a worker counts. Every name is declared here and nowhere else; all carry the label ``stage``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from earshot.streams.vitals import Vitals

EVENTS = "earshot_events"  # processed events by outcome: done, skipped, dead_lettered; exposed with the suffix _total
RETRIES = "earshot_retries"  # tries that failed with something that may pass
BATCH_SECONDS = "earshot_batch_seconds"  # seconds from a batch's begin to its acknowledgement
LAG = "earshot_lag_records"  # records between committed offsets and ends of this worker's partitions
PAUSED = "earshot_paused"  # 1 while the stage waits for something that may pass
DONE = "earshot_done"  # what the stage did beside its events, by kind; exposed with the suffix _total
NAMES = (EVENTS, RETRIES, BATCH_SECONDS, LAG, PAUSED, DONE)


class Metrics:
    """The metrics of one worker, in a registry of their own.

    Args:
        stage: its name.
        vitals: how it is.
        counts: what it did beside its events, by kind.
    """

    def __init__(self, stage: str, vitals: Vitals, counts: Callable[[], Mapping[str, int]] = dict) -> None:
        self.registry = CollectorRegistry()
        self._stage = stage
        self._events = Counter(EVENTS, "Events by outcome.", ["stage", "outcome"], registry=self.registry)
        self._retries = Counter(RETRIES, "Tries that failed and were repeated.", ["stage"], registry=self.registry)
        self._seconds = Histogram(BATCH_SECONDS, "Seconds a batch took.", ["stage"], registry=self.registry)
        lag = Gauge(LAG, "Records not yet committed.", ["stage"], registry=self.registry)
        lag.labels(stage).set_function(lambda: vitals.lag)
        paused = Gauge(PAUSED, "1 while waiting.", ["stage"], registry=self.registry)
        paused.labels(stage).set_function(lambda: float(vitals.state == "paused"))
        self.registry.register(_Done(stage, counts))

    def done(self, number: int) -> None:
        """So many events went through."""
        self._events.labels(self._stage, "done").inc(number)

    def skipped(self, number: int) -> None:
        """So many events were acknowledged without work."""
        self._events.labels(self._stage, "skipped").inc(number)

    def dead_lettered(self) -> None:
        """One event was dead-lettered."""
        self._events.labels(self._stage, "dead_lettered").inc()

    def retried(self) -> None:
        """One try failed with something that may pass."""
        self._retries.labels(self._stage).inc()

    def batch(self, seconds: float) -> None:
        """One batch took so long."""
        self._seconds.labels(self._stage).observe(seconds)


class _Done(Collector):
    """Counts that a stage keeps itself."""

    def __init__(self, stage: str, counts: Callable[[], Mapping[str, int]]) -> None:
        self._stage = stage
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counts as they are now."""
        family = CounterMetricFamily(DONE, "Done beside the events, by kind.", labels=["stage", "kind"])
        for kind, number in self._counts().items():
            family.add_metric([self._stage, kind], number)
        yield family
