"""How Kafka keeps topics: configurations read and changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidConfigurationError, for_code

from earshot.kernel.errors import Misconfigured, Unavailable

OWN = 1
"""The source of a value that was set for the topic itself (``DYNAMIC_TOPIC_CONFIG`` of the protocol)."""


async def described(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Every value in force, by topic."""
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        for name, entries in await _entries(admin, topics)
    }


async def altered(admin: AIOKafkaAdminClient, topics: Mapping[str, Mapping[str, str]]) -> None:
    """Set these values. The request replaces all that was set for a topic, so the others are sent along."""
    changed = []
    for name, entries in await _entries(admin, list(topics)):
        own = {entry[0]: entry[1] for entry in entries if entry[3] == OWN and entry[1] is not None}
        changed.append(ConfigResource(ConfigResourceType.TOPIC, name, own | dict(topics[name])))
    if changed:
        for answer in await admin.alter_configs(changed):
            for code, message, _, name in answer.resources:
                _check(code, name, message)


async def _entries(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    answers = await admin.describe_configs(wanted) if wanted else []
    found = [resource for answer in answers for resource in answer.resources]
    for code, message, _, name, _ in found:
        _check(code, name, message)
    return ((name, entries) for _, _, _, name, entries in found)


def _check(code: int, name: str, message: str | None) -> None:
    if code == 0:
        return
    error = for_code(code)
    if error is InvalidConfigurationError:
        raise Misconfigured(f"Kafka refuses the configuration of {name}: {message}.")
    raise Unavailable("broker", f"Kafka does not tell or change the configuration of {name}: {error.__name__}.")
