"""``earshot mcp``: a running system as tools of an assistant that starts this command."""

from __future__ import annotations

import typer

from earshot.assistant import server_of
from earshot.client import Client


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(mcp)


def mcp() -> None:
    """Serve the Model Context Protocol on stdin and stdout: search, fetch, ask, list_recordings.

    Which system, and with which key, say EARSHOT_URL and EARSHOT_API_KEY.
    """
    with Client() as client:
        server_of(client).run("stdio")
