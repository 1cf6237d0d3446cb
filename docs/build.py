"""Writes the tables of the documentation from the code: ``python docs/build.py``; ``--check`` only compares.

A table stands between ``<!-- name -->`` and ``<!-- /name -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

from earshot.kernel.avro import event_models, schema_of
from earshot.kernel.settings import Settings
from earshot.kernel.topics import DAY_MS, TOPICS, Topic

ROOT = Path(__file__).resolve().parents[1]
SETTINGS_MODULES = sorted(
    ".".join(path.relative_to(ROOT / "services").with_suffix("").parts)
    for path in (ROOT / "services" / "earshot").glob("*/settings.py")
    if path.parent.name != "kernel"
)


def topics() -> str:
    """The topics table of the README."""
    rows = [f"| `{t.name}` | {t.event.__name__} | {_key(t)} | {_kept(t)} |" for t in TOPICS if t.event]
    return "\n".join(["| topic | event | key | kept |", "|---|---|---|---|", *rows])


def _key(topic: Topic) -> str:
    return "recording:index" if topic.by_segment else "recording"


def _kept(topic: Topic) -> str:
    return "compacted" if topic.compacted else f"{topic.retention_ms // DAY_MS} days"


def fields() -> str:
    """Every field of every event, from the Avro schemas; a record that several events have stands once."""
    parts: list[str] = []
    for model in event_models():
        parts += [part for part in _record(schema_of(model)) if part not in parts]
    return "\n\n".join(parts)


def _record(schema: dict[str, Any]) -> list[str]:
    """A section for a record, and one for each record inside it."""
    rows = ["| field | type | default | what |", "|---|---|---|---|"]
    nested: list[str] = []
    for field in schema["fields"]:
        default = "required" if "default" not in field else f"`{_plain(field['default'])}`"
        rows.append(f"| `{field['name']}` | {_type(field['type'], nested)} | {default} | {field.get('doc', '')} |")
    return ["\n\n".join([f"### {schema['name']}", schema["doc"], "\n".join(rows)]), *nested]


def _plain(value: Any) -> str:
    """A default as JSON writes it; a plain word without its quotes."""
    return value if isinstance(value, str) and value else json.dumps(value)


def _type(kind: Any, nested: list[str]) -> str:
    if isinstance(kind, list):
        return " or ".join(_type(one, nested) for one in kind)
    if not isinstance(kind, dict):
        return str(kind).removeprefix("earshot.")
    if kind["type"] == "array":
        return f"array of {_type(kind['items'], nested)}"
    if kind["type"] == "map":
        return f"map of {_type(kind['values'], nested)}"
    if kind["type"] == "record":
        nested += _record(kind)
        return str(kind["name"])
    return str(kind.get("logicalType", kind["type"]))


def settings() -> str:
    """Every setting of every process, with its default."""
    rows = ["| variable | default | what |", "|---|---|---|"]
    for kind in _settings_classes():
        prefix = str(kind.model_config["env_prefix"])
        for name, info in kind.model_fields.items():
            default = "" if info.default is None else str(info.default)
            rows.append(
                f"| `{(prefix + name).upper()}` | {f'`{default}`' if default.strip('*') else ''} | {info.description} |"
            )
    return "\n".join(rows)


def _settings_classes() -> list[type[BaseSettings]]:
    """What all share, then each service's own and its adapters'; no bases of others."""
    found: dict[type[BaseSettings], None] = {Settings: None}
    for name in SETTINGS_MODULES:
        values = vars(import_module(name)).values()
        kinds = [value for value in values if isinstance(value, type) and issubclass(value, BaseSettings)]
        found |= dict.fromkeys(kind for kind in kinds if kind is not BaseSettings)
    return [kind for kind in found if not any(other is not kind and issubclass(other, kind) for other in found)]


def guarantees() -> str:
    """What the fault tests saw; the only table that is made from a run."""
    sys.path.insert(0, str(ROOT))
    return str(import_module("tests.faults.guarantees").table(ROOT / "docs" / "guarantees.json"))


def scopes() -> str:
    """Every operation of the HTTP interface that is not open to all: scope, limit, audited."""
    from earshot.adapters.wiring import Kit
    from earshot.web import create_app

    document = create_app(Kit(Settings(_env_file=None))).openapi()
    rows = ["| operation | scope | counts for | audited |", "|---|---|---|---|"]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            if needed := operation.get("x-access"):
                told = "yes" if needed["audited"] else ""
                rows.append(f"| `{method.upper()} {path}` | {needed['scope']} | {needed['limit']} | {told} |")
    return "\n".join(rows)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "topics": ("README.md", topics),
    "fields": ("docs/events.md", fields),
    "settings": ("docs/operations.md", settings),
    "scopes": ("docs/security.md", scopes),
    "guarantees": ("docs/guarantees.md", guarantees),
}


def rebuilt(name: str) -> tuple[Path, str, str]:
    """The file of a table, its text, and its text with the table made anew."""
    file, make = TABLES[name]
    path = ROOT / file
    text = path.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    return path, text, block.sub(lambda match: match[1] + make() + match[2], text)


def main(check: bool) -> int:
    """Write or compare every table; 1 when one differs."""
    differs = False
    for name in TABLES:
        path, before, after = rebuilt(name)
        if before != after:
            differs = True
            print(f"{path.name}: the table {name!r} is not what the code says", file=sys.stderr)
            if not check:
                path.write_text(after, encoding="utf-8")
    return int(differs and check)


if __name__ == "__main__":
    raise SystemExit(main("--check" in sys.argv[1:]))
