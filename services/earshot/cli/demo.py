"""``earshot demo``: the main job from end to end on real speech, then the proof that it can be found again."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from earshot import processes
from earshot.cli.output import as_json, clock, err, job_progress, out
from earshot.cli.supervisor import Supervisor
from earshot.client import Client
from earshot.kernel.errors import Permanent
from earshot.kernel.settings import Settings, load

SECOND_TOLERANCE_S = 2.0
"""How far the start of a hit may be from where the wording starts, in seconds."""
WITHIN_S = 600.0
SPELLINGS = {"mr": "mister", "mrs": "missus", "dr": "doctor"}


@dataclass(frozen=True)
class Search:
    """A row of ``searches.tsv``: the wording, the recording it must find first, and where in it."""

    query: str
    file: str
    second: float


@dataclass(frozen=True)
class Found:
    """What a search found first."""

    search: Search
    hit: dict[str, Any] | None
    right: bool


def run_demo(data: Path, examples: Path, port: int, *, as_json_output: bool) -> int:
    """Run the demonstration; 0 when every search found what it must, 1 when not."""
    searches = _read_searches(examples / "searches.tsv")
    truth = _read_truth(examples / "transcripts.tsv")
    os.environ["EARSHOT_DATA"] = str(data)
    os.environ.pop("EARSHOT_URL", None)
    asyncio.run(processes.prepare(load(Settings)))
    supervisor = Supervisor(data, "127.0.0.1", port or _free_port(), lambda line: err.print(escape(line)))
    err.print(f"Starting Earshot on {data} …")
    with supervisor.running():
        supervisor.wait_ready()
        client = Client(supervisor.url)
        recordings = _feed(client, examples, list(truth))
        transcripts = {file: _transcript(client, recording) for file, recording in recordings.items()}
        found = [_search(client, search, recordings) for search in searches]
    rate = _word_error_rate(truth, transcripts)
    engines = sorted({_engine(transcript) for transcript in transcripts.values()})
    if as_json_output:
        as_json(
            {"transcripts": transcripts, "searches": [_row(item) for item in found], "engines": engines, "wer": rate}
        )
    else:
        _tell(transcripts, found, engines, rate, data)
    return 0 if all(item.right for item in found) else 1


def _read_searches(path: Path) -> list[Search]:
    return [Search(row["query"], row["file"], float(row["second"])) for row in _rows(path)]


def _read_truth(path: Path) -> dict[str, str]:
    return {row["file"]: row["text"] for row in _rows(path)}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise Permanent(
            f"{path} is not there.", next_step="Run the demo from the repository, or name its folder with --examples."
        )
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _feed(client: Client, examples: Path, files: list[str]) -> dict[str, str]:
    """Upload the clips anew, wait for them, and return the recording of each."""
    for recording in list(client.recordings("demo")):
        client.erase(recording.id)
    jobs = {file: client.ingest(examples / file, collection="demo", language="en") for file in files}
    with job_progress({job.id: file for file, job in jobs.items()}) as progress:
        ended = client.wait(*(job.id for job in jobs.values()), within_s=WITHIN_S, show=progress.show)
    failed = [job for job in ended if job.state != "completed"]
    if failed:
        raise Permanent(f"{len(failed)} of {len(ended)} recordings did not complete: {failed[0].error}")
    return {file: job.recording_id for file, job in jobs.items()}


def _transcript(client: Client, recording_id: str) -> dict[str, Any]:
    transcript: dict[str, Any] = json.loads(client.transcript(recording_id, "json"))
    return transcript


def _search(client: Client, search: Search, recordings: dict[str, str]) -> Found:
    hits = client.search(search.query, top_k=1, collection="demo").hits
    hit = hits[0].model_dump(mode="json") if hits else None
    right = (
        hit is not None
        and hit["recording_id"] == recordings[search.file]
        and abs(hit["start_ms"] / 1000 - search.second) <= SECOND_TOLERANCE_S
    )
    return Found(search, hit, right)


def _row(item: Found) -> dict[str, Any]:
    return {
        "query": item.search.query,
        "file": item.search.file,
        "second": item.search.second,
        "hit": item.hit,
        "right": item.right,
    }


def _engine(transcript: dict[str, Any]) -> str:
    engines = {
        f"{segment['engine']['name']} {segment['engine']['model']} on {segment['engine']['device']}"
        + (f", a fallback: {segment['engine']['reason']}" if segment["engine"]["degraded"] else "")
        for segment in transcript["segments"]
        if segment.get("engine")
    }
    return "; ".join(sorted(engines)) or "none"


def normalize(text: str) -> str:
    """Lower case, no punctuation, written-out titles: what error rates are counted on."""
    words = re.sub(r"[^a-z0-9' ]", " ", text.lower()).split()
    return " ".join(SPELLINGS.get(word, word) for word in words)


def _text(transcript: dict[str, Any]) -> str:
    return " ".join(segment.get("text", "") for segment in transcript["segments"])


def _word_error_rate(truth: dict[str, str], transcripts: dict[str, dict[str, Any]]) -> float:
    import jiwer

    said = [normalize(truth[file]) for file in transcripts]
    heard = [normalize(_text(transcript)) for transcript in transcripts.values()]
    return float(jiwer.wer(said, heard))


def _tell(
    transcripts: dict[str, dict[str, Any]], found: list[Found], engines: list[str], rate: float, data: Path
) -> None:
    out.print("\n[bold]What was said[/]")
    for file, transcript in transcripts.items():
        for segment in transcript["segments"]:
            times = f"{clock(segment['start_ms'])}-{clock(segment['end_ms'])}"
            out.print(f"  {escape(file)}  {times}  {escape(segment.get('text', ''))}")
    out.print("\n[bold]Searches[/]")
    for item in found:
        mark = "[green]found[/]" if item.right else "[red]WRONG[/]"
        where = f"{escape(item.hit['title'])} at {clock(item.hit['start_ms'])}" if item.hit else "nothing"
        wanted = "" if item.right else f", wanted {escape(item.search.file)} at {item.search.second:g} s"
        out.print(f"  {mark}  “{escape(item.search.query)}”  →  {where}{wanted}")
    out.print(f"\n[bold]Engine[/]  {escape('; '.join(engines))}")
    out.print(f"[bold]Word error rate[/]  {100 * rate:.1f} % on these {len(transcripts)} clips")
    out.print("\n[bold]Go on with[/]")
    out.print(f"  .venv/bin/earshot up --detach --data {data}", soft_wrap=True)
    out.print('  .venv/bin/earshot search "ask what you can do for your country"', soft_wrap=True)
    out.print(f"  .venv/bin/earshot down --data {data}", soft_wrap=True)
