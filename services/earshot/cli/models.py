"""Commands for the models on this machine: list, pull, path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from earshot.adapters import models as store
from earshot.cli.output import as_json, err, out
from earshot.kernel.errors import Permanent
from earshot.kernel.settings import Settings, load
from earshot.logs import set_up

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

models = typer.Typer(no_args_is_help=True, help="The models on this machine.")


@models.command("list")
def list_models(json: Json = False) -> None:
    """What is on this disk, and what each model needs."""
    rows = store.list_models()
    if json:
        as_json({"items": [row.__dict__ for row in rows]})
        return
    kind = ""
    for row in rows:
        if row.kind != kind:
            kind = row.kind
            out.print(f"[bold]{kind}[/]")
        here = "on disk" if row.path else "not here"
        line = f"  {row.name:<18} {here:<9} disk {row.disk:<7} memory {row.memory:<7} {row.what}"
        out.print(line, markup=False)


@models.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="A name of the list, or owner/name on the hub.")],
    into: Annotated[
        Path | None, typer.Option("--dir", help="A folder of model folders, to take to a machine without a hub.")
    ] = None,
    json: Json = False,
) -> None:
    """Download a model, or go on with a download that was cut short."""
    set_up(load(Settings).model_copy(update={"log_level": "warning"}))
    bar = _bar()
    task = bar.add_task(name, total=None)

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total or None)

    try:
        path = store.pull(name, None if json else show, into=into)
    finally:
        if bar.live.is_started:
            bar.stop()
    as_json({"name": name, "path": str(path)}) if json else out.print(str(path), markup=False)
    if into is not None and not json:
        err.print(_hint(name, path, into), markup=False)


@models.command("path")
def model_path(name: str, json: Json = False) -> None:
    """Where a model lies on this disk."""
    path = store.path(name)
    if path is None:
        raise Permanent(f"The model {name} is not on this disk.", next_step=f"Get it with: earshot models pull {name}")
    as_json({"name": name, "path": str(path)}) if json else out.print(str(path), markup=False)


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, refresh_per_second=5)


def _hint(name: str, path: Path, into: Path) -> str:
    """How a machine without a hub is told of the folder."""
    setting = store.setting_of(name)
    folder = into if setting.endswith("MODEL_DIR") else path
    return f"There, set {setting} to this folder's place: {folder}"
