"""What the commands print: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from earshot.query.views import JobView

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)
STAGES = ("segmenter", "transcriber", "embedder", "indexer")


def as_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    out.print_json(json.dumps(value, default=str))


def clock(milliseconds: int) -> str:
    """``h:mm:ss.t`` or ``m:ss.t``, as a person says a time."""
    tenths = milliseconds // 100
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def percent(job: dict[str, Any]) -> tuple[str, float]:
    """The stage a job is in and how much of the whole is done, 0 to 100."""
    if job["state"] in {"completed", "failed", "cancelled"}:
        return str(job["state"]), 100.0
    total = job.get("segments_total")
    done = {name: stage.get("done", 0) for name, stage in dict(job.get("stages") or {}).items()}
    if not total:
        return ("segmenter" if done else "pending"), 0.0
    per_segment = STAGES[1:]
    behind = next((name for name in per_segment if done.get(name, 0) < total), per_segment[-1])
    share = sum(min(done.get(name, 0), total) for name in per_segment) / (total * len(per_segment))
    return behind, 5 + 95 * share


class JobProgress:
    """A bar for each job on stderr."""

    def __init__(self, progress: Progress, names: dict[str, str]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {
            job_id: progress.add_task(escape(name), total=100, stage="pending") for job_id, name in names.items()
        }

    def show(self, job: JobView) -> None:
        """Update the bar of a job."""
        stage, share = percent(job.model_dump(mode="json"))
        self._progress.update(self._tasks[job.id], completed=share, stage=stage)


@contextmanager
def job_progress(names: dict[str, str]) -> Iterator[JobProgress]:
    """Bars for jobs, ``names`` by job id."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=False, refresh_per_second=5) as progress:
        yield JobProgress(progress, names)
