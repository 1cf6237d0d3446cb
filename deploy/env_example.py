"""Writes ``.env.example``: every setting, what it does, and its default. Run by ``make docs``; a test keeps it true."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "services" / "earshot"
HEAD = """# Every setting, with its default. Copy this to .env and change what you need; `make docs` writes it anew.
# The environment wins over .env; a secret may also be a file in /run/secrets with the name of its variable.

# Read by docker-compose.kafka.yml alone; it also wants EARSHOT_API_KEY below.
# POSTGRES_PASSWORD=
"""


def settings_classes() -> list[type[BaseSettings]]:
    """Every settings class of the package: what all share first, then the parts by folder; no bases of others."""
    paths = sorted(PACKAGE.glob("*/settings.py"), key=lambda path: (path.parent.name != "kernel", path))
    found: dict[type[BaseSettings], None] = {}
    for path in paths:
        module = importlib.import_module(f"earshot.{path.parent.name}.settings")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, BaseSettings) and kind is not BaseSettings:
                found.setdefault(kind)
    return [kind for kind in found if not any(other is not kind and issubclass(other, kind) for other in found)]


def variables(kind: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    """The variables of a class as (name, description, default as a ``.env`` writes it)."""
    prefix = str(kind.model_config.get("env_prefix") or "")
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield f"{prefix}{name}".upper(), field.description or "", _written(default)


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ",".join(f'"{item}"' for item in value) + "]"
    return "" if value is None else str(value)


def text() -> str:
    """The whole file."""
    parts = [HEAD]
    for kind in settings_classes():
        where = kind.__module__.removeprefix("earshot.").removesuffix(".settings")
        parts.append(f"\n# --- {'shared by all' if where == 'kernel' else where} ---\n")
        parts += [f"\n# {description}\n# {name}={default}\n" for name, description, default in variables(kind)]
    return "".join(parts)


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(text(), encoding="utf-8")
    sys.stdout.write(".env.example\n")
