"""Commands that talk to a running system: add, search, collection, transcript, status."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from earshot.cli.output import as_json, clock, err, job_progress, out, percent
from earshot.client import Busy, Client, Format
from earshot.kernel.errors import Permanent
from earshot.kernel.ports import SearchMode

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
HIDDEN_PREFIX = "."


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (add, search, collection, transcript, status):
        app.command()(command)


def add(
    paths: Annotated[list[Path], typer.Argument(help="Audio, video or transcript files; folders are walked.")],
    wait: Annotated[bool, typer.Option("--wait", help="Return when they are searchable.")] = False,
    title: Annotated[str, typer.Option(help="By default the file's name.")] = "",
    collection: Annotated[str, typer.Option(help="Your own grouping.")] = "",
    language: Annotated[str, typer.Option(help="BCP 47, for example en; by default detected.")] = "",
    task: Annotated[str, typer.Option(help="transcribe, or translate into English.")] = "",
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait with --wait.")] = 24 * 3600.0,
    json: Json = False,
) -> None:
    """Upload recordings, or transcripts of recordings."""
    client, accepted = Client(), dict[str, dict[str, Any]]()
    names: dict[str, str] = {}
    refused = 0
    for path in _files(paths):
        try:
            taken = client.ingest(
                path, title=title or None, collection=collection, language=language, task=task, priority=priority
            )
        except (Permanent, Busy) as error:
            err.print(f"{escape(str(path))}: {escape(str(error))}")
            refused += 1
            continue
        accepted[taken.id], names[taken.id] = taken.model_dump(mode="json"), path.name
        if not json and not wait:
            out.print(f"{taken.recording_id}  {escape(path.name)}  {taken.state}")
    jobs = list(accepted.values())
    if wait and jobs:
        with job_progress(names) as progress:
            ended = client.wait(*accepted, within_s=timeout, show=progress.show)
        jobs = [job.model_dump(mode="json") for job in ended]
    if json:
        as_json({"items": jobs})
    elif wait:
        _print_ends(jobs, names)
    if refused or any(job["state"] in {"failed", "cancelled"} for job in jobs):
        raise typer.Exit(1)


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from (
                file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(HIDDEN_PREFIX)
            )
        elif path.is_file():
            yield path
        else:
            raise Permanent(f"There is no file {path}.", next_step="Check the path.")


def _print_ends(jobs: list[dict[str, Any]], names: dict[str, str]) -> None:
    for job in jobs:
        reason = f"  {job['error']['detail']}" if job.get("error") else ""
        out.print(f"{job['recording_id']}  {escape(names[job['id']])}  {job['state']}{escape(reason)}")


def search(
    query: Annotated[list[str], typer.Argument(help="What was said.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100)] = 5,
    mode: Annotated[SearchMode, typer.Option(help="hybrid, keyword or vector.")] = "hybrid",
    collection: Annotated[str, typer.Option(help="Only in this collection.")] = "",
    recording: Annotated[str, typer.Option(help="Only in this recording (either kind of id).")] = "",
    speaker: Annotated[str, typer.Option(help="Only what this speaker says: a name, or a label.")] = "",
    json: Json = False,
) -> None:
    """Find what was said, with the second it was said."""
    client = Client()
    only = client.recording_id(recording) if recording else ""
    answer = client.search(
        " ".join(query), top_k=top_k, mode=mode, collection=collection, recording_id=only, speaker=speaker
    )
    if json:
        as_json(answer.model_dump(mode="json"))
        return
    for hit in answer.hits:
        where = f"{clock(hit.start_ms)}-{clock(hit.end_ms)}"
        said_by = f"  {escape(', '.join(hit.speakers))}" if hit.speakers else ""
        out.print(f"{where}  [bold]{escape(hit.title or hit.recording_id)}[/]{said_by}")
        out.print(f"    {escape(hit.text)}")
    if not answer.hits:
        err.print("Nothing found.")
    if any(hit.degraded for hit in answer.hits):
        err.print(
            "Some of these transcripts were made by a fallback engine; `earshot models pull base` gets a real one."
        )


def collection(
    name: Annotated[str, typer.Argument(help="The collection, also one without recordings yet.")],
    hotwords: Annotated[str | None, typer.Option(help="Words and names that may be said.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A text as it might stand before what is said.")] = None,
    task: Annotated[str | None, typer.Option(help="transcribe, or translate into English.")] = None,
    segment_audio_days: Annotated[
        int | None, typer.Option(help="Days that the audio of segments is kept; -1 leaves it to the eraser.")
    ] = None,
    json: Json = False,
) -> None:
    """Say how the recordings of a collection are to be transcribed from now on; "" leaves it to the transcriber."""
    client, wishes = Client(), {"hotwords": hotwords, "prompt": prompt, "task": task}
    said: dict[str, Any] = {what: wish or None for what, wish in wishes.items() if wish is not None}
    if segment_audio_days is not None:
        said["segment_audio_days"] = None if segment_audio_days < 0 else segment_audio_days
    path = f"/collections/{quote(name, safe='')}"
    now = (client.call("PATCH", path, json=said) if said else client.call("GET", path)).json()
    if json:
        as_json(now)
        return
    for what, wish in now.items():
        unsaid = "as the tenant and the settings say" if what.endswith("_days") else "as the transcriber does by itself"
        out.print(f"{what:<18} {escape(str(wish)) if wish is not None else unsaid}")


def transcript(
    id: Annotated[str, typer.Argument(help="Recording or job.")],  # noqa: A002 - the word users know
    format: Annotated[Format, typer.Option(help="txt, srt, vtt or json.")] = "txt",  # noqa: A002 - likewise
    json: Json = False,
) -> None:
    """Print what was said."""
    client = Client()
    said = client.transcript(client.recording_id(id), "json" if json else format)
    sys.stdout.write(said.rstrip("\n") + "\n")


def status(
    id: Annotated[str, typer.Argument(help="Recording or job; without it, everything.")] = "",  # noqa: A002
    json: Json = False,
) -> None:
    """How far a recording is, or what there is and whether all is well."""
    client = Client()
    if id:
        job = client.job(id).model_dump(mode="json")
        as_json(job) if json else _print_job(job)
        raise typer.Exit(1 if job["state"] == "failed" else 0)
    recordings = [recording.model_dump(mode="json") for recording in client.recordings()]
    about, health = client.call("GET", "/").json(), client.health()
    if json:
        as_json({"about": about, "health": health, "recordings": recordings})
        return
    for recording in recordings:
        out.print(f"{recording['id']}  {recording['job']['state']:<10} {escape(recording['title'])}")
    out.print(f"{len(recordings)} recordings at {client.url}, version {about['version']}")
    for line in (*_engines(about["engines"]), *_stages(health["stages"])):
        out.print(line, markup=False)
    for line in _wrong(health):
        err.print(line, markup=False)
    for reason in about["degraded"]:
        err.print(f"Degraded: {escape(reason)}")
    if not about["diarization"]["on"]:
        err.print(escape(about["diarization"]["detail"]))


def _engines(engines: list[dict[str, Any]]) -> Iterable[str]:
    """Who does the work now, a line for each stage that uses an engine or a model."""
    for entry in engines:
        engine = entry.get("engine")
        who = f"{engine['name']} {engine['model']} on {engine['device']}" if engine else entry.get("model")
        if who:
            yield f"{entry['stage']:<12} {who}"


def _stages(stages: dict[str, Any]) -> Iterable[str]:
    """How each stage is, and how much waits for it, a line each."""
    for name, check in stages.items():
        state = "running" if check["ok"] else "paused" if check["lag"] is not None else "gone"
        behind = "" if check["lag"] is None else f", {check['lag']} behind"
        yield f"{name:<12} {state}{behind}"


def _wrong(health: dict[str, Any]) -> Iterable[str]:
    """What is wrong with dependencies and stages, and what to do about it."""
    for name, check in {**health["dependencies"], **health["stages"]}.items():
        if not check["ok"]:
            yield f"{name}: {check['detail']} {check['next_step']}".strip()


def _print_job(job: dict[str, Any]) -> None:
    stage, share = percent(job)
    out.print(f"{job['state']}  {share:.0f} %  {stage if stage != job['state'] else ''}".rstrip())
    for name, counts in dict(job["stages"]).items():
        failed = f", {counts['failed']} failed" if counts.get("failed") else ""
        out.print(f"    {name:<12} {counts['done']} of {counts.get('total') or '?'}{failed}")
    if job.get("error"):
        err.print(escape(str(job["error"]["detail"])))
