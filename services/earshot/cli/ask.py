"""``earshot ask``: a question, answered from what was said, with the second of every citation."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from earshot.cli.output import as_json, clock, err, out
from earshot.client import Client, Only, filters
from earshot.kernel.errors import Permanent, Unavailable


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(ask)


def ask(
    question: Annotated[list[str], typer.Argument(help="In plain words.")],
    collection: Annotated[str, typer.Option(help="Only in this collection.")] = "",
    recording: Annotated[str, typer.Option(help="Only in this recording (either kind of id).")] = "",
    speaker: Annotated[str, typer.Option(help="Only what this speaker says: a name, or a label.")] = "",
    conversation: Annotated[
        str, typer.Option(help="Id of a conversation that this question follows; `new` begins one.")
    ] = "",
    quote: Annotated[bool, typer.Option("--quote", help="Quote the passages; ask no model.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Answer a question from what was said."""
    client = Client()
    only = client.recording_id(recording) if recording else ""
    within: Only = {"collection": collection, "recording_id": only, "speaker": speaker}
    asked, conversation_id = " ".join(question), conversation or None
    if json:
        answer = client.ask(asked, conversation_id=conversation_id, model=not quote, **within)
        as_json(answer.model_dump(mode="json"))
        return
    body = {"question": asked, "filters": filters(within), "model": not quote, "conversation_id": conversation_id}
    _tell(_shown(client, body))


def _shown(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Print the answer while it comes; the whole of it at the end."""
    for name, data in client.events("/answers", body | {"stream": True}):
        if name == "token":
            out.print(data["text"], end="", markup=False)
        elif name == "reset":
            out.print()
            err.print(f"What stands above is void. {escape(data['reason'])}")
        elif name == "error":
            raise Permanent(data["detail"], next_step=data["next_step"], code=data["code"])
        elif name == "done":
            out.print()
            return data
    raise Unavailable("web", "The answer broke off.", next_step="Ask again.")


def _tell(answer: dict[str, Any]) -> None:
    """Where it comes from, and what is to be known about it."""
    if answer["citations"]:
        out.print()
    for cited in answer["citations"]:
        who = f"  {escape(cited['speaker'])}" if cited["speaker"] else ""
        title = escape(cited["title"] or cited["recording_id"])
        out.print(f"\\[{cited['number']}] {clock(cited['start_ms'])}  [bold]{title}[/]{who}")
    if period := answer["period"]:
        start, end = (str(period[side] or "…")[:10] for side in ("start", "end"))
        err.print(f"Only what was recorded {escape(period['text'])}: from {start}, before {end}.")
    if answer["rewritten"]:
        err.print(f"Understood as: {escape(answer['rewritten'])}")
    if answer["degraded"]:
        err.print(f"No model answered: {escape(answer['degraded'])}")
    for notice in answer["notices"]:
        err.print(escape(notice))
    if answer["conversation_id"]:
        err.print(f"Go on with: earshot ask --conversation {answer['conversation_id']} …")
