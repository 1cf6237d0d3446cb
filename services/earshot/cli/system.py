"""Commands that run and look after a system: demo, up, down, worker, topics, doctor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from earshot import processes
from earshot.cli.models import models
from earshot.cli.output import as_json, err, out
from earshot.cli.sole import is_running
from earshot.cli.supervisor import IN_ORDER, MARGIN_S, Supervisor
from earshot.kernel.errors import Misconfigured, Permanent, Unavailable
from earshot.kernel.settings import Settings, load
from earshot.streams.settings import WorkerSettings

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Data = Annotated[Path, typer.Option(help="Folder of everything that is kept.", envvar="EARSHOT_DATA")]
Host = Annotated[str, typer.Option(help="Address to listen on; any but loopback requires EARSHOT_API_KEY.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (demo, up, down, worker, doctor):
        app.command()(command)
    app.add_typer(models, name="models")


def demo(
    data: Annotated[Path, typer.Option(help="Folder the demonstration keeps its data in.")] = Path("data/demo"),
    examples: Annotated[Path, typer.Option(help="Folder of recordings with searches.tsv.")] = Path("examples/audio"),
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 0,
    json: Json = False,
) -> None:
    """Start the system, feed it real speech, show what it understood and find it again."""
    from earshot.cli.demo import run_demo

    raise typer.Exit(run_demo(data, examples, port, as_json_output=json))


def up(
    data: Data = Path("data"),
    host: Host = "127.0.0.1",
    port: Port = 8080,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when it is ready; stop it with `earshot down`.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the whole system on this machine until it is told to stop."""
    from earshot.adapters.web import check_bind

    os.environ["EARSHOT_DATA"] = str(data)
    check_bind(host, load(Settings))
    if detach:
        _detach(data, host, port, json)
        return
    asyncio.run(processes.prepare(load(Settings)))
    settings = load(Settings)
    supervisor = Supervisor(
        data,
        host,
        port,
        lambda line: err.print(escape(line)),
        lambda: asyncio.run(processes.reindexing(settings)),
        drain_s=_drain_s(),
    )
    started = time.monotonic()
    with supervisor.running():
        supervisor.obey_signals()
        if supervisor.wait_ready():
            after_s = time.monotonic() - started
            message = f"Earshot is ready at {supervisor.url} after {after_s:.1f} s; logs in {data}/logs"
            as_json({"url": supervisor.url, "data": str(data)}) if json else out.print(message)
            sys.stdout.flush()
        supervisor.run()
    raise typer.Exit(supervisor.code)


def _drain_s() -> float:
    """How long a process may take to end after SIGTERM."""
    worker = load(WorkerSettings)
    return worker.notice_s + worker.drain_s + worker.stop_s


def _detach(data: Path, host: str, port: int, json: bool) -> None:
    data.mkdir(parents=True, exist_ok=True)
    log_path = data / "up.log"
    with log_path.open("ab") as log:
        command = [sys.executable, "-m", "earshot", "up", "--data", str(data), "--host", host, "--port", str(port)]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    supervisor = Supervisor(data, host, port, err.print)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = "\n".join(log_path.read_text(errors="replace").strip().splitlines()[-4:])
            raise Misconfigured(f"Earshot did not start: {last}")
        if supervisor.is_ready() is None:
            as_json({"url": supervisor.url, "pid": process.pid}) if json else out.print(
                f"Earshot is ready at {supervisor.url}"
            )
            return
        time.sleep(0.1)
    raise Unavailable("workers", f"Not ready after 90 s: {supervisor.is_ready()}", next_step=f"See {data}/logs.")


def down(data: Data = Path("data"), json: Json = False) -> None:
    """Stop the system that `earshot up` runs on a data folder."""
    pid_file = data / "up.pid"
    if not (pid_file.exists() and is_running(data)):
        raise Permanent(f"No Earshot is running on {data}.", next_step="Name its folder with --data.")
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    within_s = len(IN_ORDER) * (_drain_s() + 2 * MARGIN_S)
    deadline = time.monotonic() + within_s
    while is_running(data):
        if time.monotonic() > deadline:
            raise Unavailable(
                "workers", f"Process {pid} has not ended after {within_s:g} s.", next_step=f"End it with: kill -9 {pid}"
            )
        time.sleep(0.1)
    as_json({"stopped": pid}) if json else out.print("Stopped.")


def worker(
    stage: Annotated[str, typer.Argument(help=f"One of: {', '.join(processes.PROCESSES)}.")],
    host: Host = "127.0.0.1",
    port: Port = 8080,
) -> None:
    """Run one process of the system: a stage, the relay, or the web."""
    raise typer.Exit(processes.run(stage, load(Settings), host=host, port=port))


def doctor(json: Json = False) -> None:
    """Check this machine, the settings and every dependency; say what to do about what is wrong."""
    from earshot.cli.doctor import examine

    checks = asyncio.run(examine())
    if json:
        as_json({"items": [check.__dict__ for check in checks]})
    for check in checks if not json else ():
        mark = {"ok": "[green]ok  [/]", "warn": "[yellow]note[/]", "fail": "[red]FAIL[/]"}[check.state]
        out.print(f"{mark} {check.name:<14} {escape(check.found)}")
        if check.next_step:
            out.print(f"                    {escape(check.next_step)}")
    raise typer.Exit(1 if any(check.state == "fail" for check in checks) else 0)
