"""``earshot events publish|tail TOPIC``: the log, by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from earshot.adapters.wiring import Kit
from earshot.cli.output import as_json, err, out
from earshot.kernel.codec import Codec, Record, headers_for
from earshot.kernel.errors import Permanent, Undecodable
from earshot.kernel.events import Event
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import BY_NAME, DEAD_LETTER_SUFFIX, Topic, slot_of_key

events = typer.Typer(no_args_is_help=True, help="Publish events, or look at what the log holds.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(events, name="events")


@events.command()
def publish(
    topic: Annotated[str, typer.Argument(help="Name without prefix, for example audio.uploaded.")],
    file: Annotated[Path | None, typer.Option(help="One JSON event a line; by default stdin.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Publish JSON events to a topic, as Avro with the headers of the specification."""
    known = topic_of(topic)
    if known.event is None:
        raise Permanent("Dead letters are written by stages only.", next_step="Publish to the topic itself.")
    lines = (file.read_text(encoding="utf-8") if file else sys.stdin.read()).splitlines()
    parsed = [_parse(known, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    asyncio.run(_publish(known, parsed))
    as_json({"published": len(parsed)}) if json else out.print(f"{len(parsed)} published to {topic}")


@events.command()
def tail(
    topic: Annotated[str, typer.Argument(help="Name without prefix; also <topic>.dlq.")],
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Everything the log holds, not only what comes.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print the events of a topic as they come."""
    asyncio.run(_tail(topic_of(topic), from_start, follow, json))


def topic_of(name: str) -> Topic:
    """The topic of a name without prefix, dead letters included. Raises ``Permanent`` with those there are."""
    base = name.removesuffix(DEAD_LETTER_SUFFIX)
    if base not in BY_NAME:
        raise Permanent(f"There is no topic {name!r}.", next_step=f"Choose one of: {', '.join(BY_NAME)}.")
    return BY_NAME[name] if base == name else BY_NAME[base].dead_letters


def _parse(topic: Topic, number: int, line: str) -> Event:
    assert topic.event is not None
    try:
        return topic.event.model_validate_json(line)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise Permanent(f"Line {number} is no {topic.event.__name__}: {wrong}") from None


async def _publish(topic: Topic, parsed: list[Event]) -> None:
    settings = load(Settings)
    kit = Kit(settings)
    try:
        partitions = await kit.log.partitions(settings.topic(topic.name))
        await kit.log.publish([_record(settings, kit.codec, topic, event, partitions) for event in parsed])
    finally:
        await kit.log.close()


def _record(settings: Settings, codec: Codec, topic: Topic, event: Event, partitions: int) -> Record:
    key, body = topic.key(event), codec.encode(topic, event)
    headers = headers_for(topic, event, key, body, "cli")
    place = slot_of_key(key) % partitions
    return Record(settings.topic(topic.name), key.encode() or None, body, tuple(headers.items()), place)


async def _tail(topic: Topic, from_start: bool, follow: bool, lines: bool) -> None:
    settings = load(Settings)
    kit = Kit(settings)
    try:
        async for record in kit.log.tail([settings.topic(topic.name)], from_start=from_start, follow=follow):
            shown = _shown(kit.codec, topic, record)
            if lines:
                print(json.dumps(shown, default=str), flush=True)
            else:
                out.print(
                    _line(shown),
                    markup=False,
                )
                if shown["error"]:
                    err.print(f"    {shown['error']}", markup=False)
    finally:
        await kit.log.close()


def _line(shown: dict[str, Any]) -> str:
    place = f"{shown['partition']}/{shown['offset']}"
    return f"{place}  {shown['key']}  {json.dumps(shown['event'], default=str)}"


def _shown(codec: Codec, topic: Topic, record: Record) -> dict[str, Any]:
    event, problem = None, ""
    source = BY_NAME.get(topic.name.removesuffix(DEAD_LETTER_SUFFIX), topic)
    if record.value is not None:
        try:
            event = codec.decode(source, record.value).model_dump(mode="json")
        except Undecodable as error:
            problem = error.detail
    return {
        "partition": record.partition,
        "offset": record.offset,
        "key": (record.key or b"").decode("utf-8", "replace"),
        "headers": {name: value.decode("utf-8", "replace") for name, value in record.headers},
        "event": event,
        "error": problem,
    }
