"""``earshot quality``: how audio files sound, measured as the segmenter does, without a system running."""

from __future__ import annotations

import asyncio
import csv
import os
import statistics
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from earshot.adapters.decoder import DecoderLimits, IsolatedDecoder
from earshot.adapters.dnsmos import Dnsmos
from earshot.cli.output import as_json, err, out
from earshot.kernel.errors import EarshotError, NotAudio, Permanent
from earshot.kernel.events import Quality
from earshot.kernel.ports import CutEnd, CutSegment, MosPredictor
from earshot.kernel.settings import load
from earshot.segmenter.opinion import Opinion
from earshot.segmenter.settings import SegmenterSettings

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
MEASURES = {
    "loudness_lufs": "LUFS",
    "peak_dbfs": "peak dBFS",
    "clipped_ratio": "clipped",
    "snr_db": "SNR dB",
    "speech_ratio": "speech",
    "bandwidth_hz": "Hz",
    "mos": "MOS",
}
COLUMNS = ("file", "duration_ms", *Quality.model_fields, "damage")


@dataclass(frozen=True)
class Found:
    """A file to look at; ``named`` tells one that was asked for from one that was found in a folder."""

    path: Path
    named: bool


@dataclass(frozen=True)
class Measured:
    """A file that was decoded."""

    path: Path
    end: CutEnd
    quality: Quality

    def row(self) -> dict[str, Any]:
        """By the names of ``COLUMNS``."""
        about = {"file": str(self.path), "duration_ms": self.end.duration_ms, "damage": self.end.damage}
        return about | self.quality.model_dump()


Outcome = tuple[Found, Measured | EarshotError]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(quality)


def quality(
    paths: Annotated[list[Path], typer.Argument(help="Audio or video files; folders are walked.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table of comma-separated values.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the CSV there, not to stdout.")] = None,
    jobs: Annotated[int, typer.Option(help="Files at once.", min=1)] = min(4, os.cpu_count() or 1),
    json: Json = False,
) -> None:
    """Measure how recordings sound: loudness, peak, clipping, SNR, speech, bandwidth. Nothing has to run."""
    outcomes = asyncio.run(_all(list(_files(paths)), jobs, _csv_writer(output) if as_csv or output else None))
    measured = [outcome for _, outcome in outcomes if isinstance(outcome, Measured)]
    failed = [(found, outcome) for found, outcome in outcomes if isinstance(outcome, EarshotError)]
    skipped = [found for found, outcome in failed if isinstance(outcome, NotAudio) and not found.named]
    errors = [(found, outcome) for found, outcome in failed if found not in skipped]
    summary = {name: stats for name in MEASURES if (stats := _statistics(measured, name))}
    if json:
        problems = [{"file": str(found.path), "code": error.code, "detail": error.detail} for found, error in errors]
        rows = [one.row() for one in measured]
        as_json({"items": rows, "errors": problems, "not_audio": len(skipped), "summary": summary})
    else:
        _print([] if as_csv or output else measured, summary)
    if skipped:
        err.print(f"{len(skipped)} of the files in these folders are not audio.")
    raise typer.Exit(1 if errors else 0)


def _files(paths: Iterable[Path]) -> Iterator[Found]:
    for path in paths:
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith("."))
            yield from (Found(file, named=False) for file in inside)
        elif path.is_file():
            yield Found(path, named=True)
        else:
            raise Permanent(f"There is no file {path}.", next_step="Check the path.")


async def _all(files: Sequence[Found], jobs: int, write: Callable[[Measured], None] | None) -> list[Outcome]:
    """Measure every file; what is wrong with one is said at once and stops no other."""
    settings = load(SegmenterSettings)
    limits = DecoderLimits(settings.max_bytes, settings.max_hours * 3600, settings.memory_mb * 2**20, parallel=jobs)
    decoder = IsolatedDecoder(limits, ffmpeg=settings.ffmpeg)
    mos = Dnsmos(settings.mos_model) if settings.mos_model else None
    outcomes: list[Outcome] = []
    with _bar() as progress:
        task = progress.add_task("", total=len(files))
        async for found, outcome in _in_order(files, lambda found: _measure(found.path, decoder, mos), jobs):
            outcomes.append((found, outcome))
            progress.update(task, advance=1, description=escape(found.path.name))
            if isinstance(outcome, Measured) and write is not None:
                write(outcome)
            if isinstance(outcome, EarshotError) and (found.named or not isinstance(outcome, NotAudio)):
                err.print(f"{escape(str(found.path))}: {escape(str(outcome))}")
    return outcomes


def _bar() -> Progress:
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=err, transient=True)


async def _measure(path: Path, decoder: IsolatedDecoder, mos: MosPredictor | None) -> Measured:
    """Decode one file to its end. Raises what the decoder raises."""
    opinion = Opinion(mos)
    async with aclosing(cast("Any", decoder.cut(path))) as pieces:
        async for piece in pieces:
            if isinstance(piece, CutSegment):
                await opinion.hear(piece)
    assert isinstance(piece, CutEnd)
    return Measured(path, piece, opinion.add(piece) or Quality())


async def _in_order(
    files: Sequence[Found], work: Callable[[Found], Awaitable[Measured]], jobs: int
) -> AsyncIterator[Outcome]:
    """Work on several files at once, and yield what became of them in their order."""
    running: deque[tuple[Found, asyncio.Future[Measured]]] = deque()
    try:
        for found in files:
            running.append((found, asyncio.ensure_future(work(found))))
            if len(running) == jobs:
                yield await _first(running)
        while running:
            yield await _first(running)
    finally:
        for _, future in running:
            future.cancel()


async def _first(running: deque[tuple[Found, asyncio.Future[Measured]]]) -> Outcome:
    found, future = running[0]
    try:
        outcome: Measured | EarshotError = await future
    except EarshotError as error:
        outcome = error
    running.popleft()
    return found, outcome


def _csv_writer(output: Path | None) -> Callable[[Measured], None]:
    """Writes each row as it comes. Raises ``Permanent`` when the file cannot be written."""
    try:
        sink: TextIO = output.open("w", newline="", encoding="utf-8") if output is not None else sys.stdout
    except OSError as error:
        raise Permanent(f"{output} cannot be written: {error.strerror}.", next_step="Name another file.") from None
    rows = csv.DictWriter(sink, COLUMNS)
    rows.writeheader()

    def write(measured: Measured) -> None:
        rows.writerow(measured.row())
        sink.flush()

    return write


def _statistics(measured: Sequence[Measured], name: str) -> dict[str, float]:
    """Of one measure, over the files that have it: n, mean, median, p5, p95; empty when none has."""
    values = [float(value) for one in measured if (value := getattr(one.quality, name)) is not None]
    if not values:
        return {}
    cuts = statistics.quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    middle = {"mean": statistics.fmean(values), "median": statistics.median(values), "p5": cuts[0], "p95": cuts[-1]}
    return {"n": len(values)} | {key: round(value, 6) for key, value in middle.items()}


def _print(measured: Sequence[Measured], summary: dict[str, dict[str, float]]) -> None:
    if measured:
        files = Table("file", *(MEASURES[name] for name in summary), box=None)
        for one in measured:
            files.add_row(escape(one.path.name), *(_figure(getattr(one.quality, name)) for name in summary))
        out.print(files)
    if summary:
        numbers = Table("", "n", "mean", "median", "p5", "p95", box=None)
        for name, stats in summary.items():
            numbers.add_row(MEASURES[name], *(_figure(value) for value in stats.values()))
        err.print(numbers)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if abs(value) < 1000 else f"{value:.0f}"
