"""``earshot erase`` and ``earshot retention``: what goes, whether it is gone, and what goes by itself."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from earshot.cli.output import as_json, err, out
from earshot.client import Client, NotFound
from earshot.kernel.errors import Permanent, Unavailable

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
POLL_S = 0.5
OWN = "default"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(erase)
    app.command()(retention)


def erase(
    id: Annotated[str, typer.Argument(help="Recording or job.")] = "",  # noqa: A002 - the word users know
    tenant: Annotated[str, typer.Option(help="Everything of this tenant instead of one recording.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a whole tenant is erased.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Wait until it is gone, look everywhere, and say what the broker keeps.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait with --verify.")] = 600.0,
    json: Json = False,
) -> None:
    """Forget a recording, or all that a tenant has, for ever. Exit code 1 when something is left."""
    if bool(id) == bool(tenant):
        raise Permanent("Say what to erase: a recording, or --tenant NAME.", next_step="See: earshot erase --help")
    client = Client()
    path, what = _erase_tenant(client, tenant, yes) if tenant else _erase_recording(client, id)
    if not verify:
        state = client.call("GET", path).json()
        as_json(state) if json else out.print(f"{what} is {_said(state)}.", markup=False)
        return
    _wait(client, path, timeout)
    report = client.call("GET", path, params={"look": True}, timeout=timeout).json()
    as_json(report) if json else _print(what, report)
    raise typer.Exit(0 if report["clean"] else 1)


def _erase_recording(client: Client, either_id: str) -> tuple[str, str]:
    """Erase a recording unless it is erased already; where to look how far that is, and what it is called."""
    try:
        recording_id = client.recording_id(either_id)
    except NotFound:
        recording_id = either_id  # erased already, or never there: then the path says so
    path = f"/recordings/{quote(recording_id, safe='')}/erasure"
    if client.call("GET", path).json()["state"] == "live":
        client.erase(recording_id)
    return path, recording_id


def _erase_tenant(client: Client, tenant: str, yes: bool) -> tuple[str, str]:
    """Likewise for a tenant; one that was erased, and has had nothing since, is only looked for."""
    path = f"/tenants/{quote(tenant, safe='')}"
    if client.call("GET", f"{path}/erasure").json()["state"] == "live":
        if not yes:
            typer.confirm(f"Erase every recording, setting and key of the tenant {tenant}, for ever?", abort=True)
        client.call("DELETE", path)
    return f"{path}/erasure", f"tenant {tenant}"


def _wait(client: Client, path: str, timeout: float) -> None:
    """Return when the eraser is done. Raises ``Unavailable`` after the deadline."""
    deadline = time.monotonic() + timeout
    while (state := client.call("GET", path).json())["state"] == "erasing":
        if time.monotonic() > deadline:
            raise Unavailable(
                "eraser", f"Not gone after {timeout:g} s: {_said(state)}.", next_step="Look with: earshot status"
            )
        time.sleep(POLL_S)


def _said(state: dict[str, Any]) -> str:
    if state["state"] == "erasing" and "left" in state:
        return f"being erased, {state['left']} of {state['recordings']} recordings are left"
    named = {"erasing": "erased; its bytes are being deleted", "erased": "erased"}
    return named.get(state["state"], "not erased")


def _print(what: str, report: dict[str, Any]) -> None:
    verdict = "nothing is left that should be gone" if report["clean"] else "NOT ALL IS GONE"
    out.print(f"{what} is {_said(report)}: {verdict}.", markup=False)
    for find in report["found"]:
        until = f", gone by {find['until'][:10]}" if find["until"] else ""
        mark = "[red]left[/]" if find["wrong"] else "    "
        out.print(f"    {mark} {escape(find['place'])}: {escape(find['what'])}{until}")
    if report["last_bytes_leave_by"]:
        out.print(f"The last bytes leave the broker by {report['last_bytes_leave_by'][:10]}.")
    if not report["complete"]:
        err.print("The log was not read to its end; raise EARSHOT_ERASER__VERIFY_S for that.")


def retention(
    days: Annotated[str, typer.Argument(help='Days, or "forever"; without it, what is said now.')] = "",
    tenant: Annotated[str, typer.Option(help="Whose recordings.")] = OWN,
    collection: Annotated[str, typer.Option(help="Only those of this collection, which counts more.")] = "",
    json: Json = False,
) -> None:
    """Say after how many days recordings are erased, counted from when they came in."""
    client = Client()
    if days and days != "forever" and not (days.isascii() and days.isdigit()):
        raise Permanent(f"{days!r} is no number of days.", next_step='Say a number, or "forever".')
    said = {"retain_days": None if days == "forever" else int(days)} if days else None
    if collection:
        path, method = f"/collections/{quote(collection, safe='')}", "PATCH"
    else:
        path, method = f"/tenants/{quote(tenant, safe='')}/retention", "PUT"
    now = (client.call(method, path, json=said) if said else client.call("GET", path)).json()["retain_days"]
    if json:
        as_json({"retain_days": now})
    elif now is None:
        out.print("As the tenant says." if collection else "For ever.")
    else:
        out.print(f"{now} days.")
