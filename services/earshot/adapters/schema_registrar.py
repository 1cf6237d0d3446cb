"""Putting schemas into a registry: what an operator does before a release, and no running process ever."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from earshot.adapters.schema_registry import RegistryHttp, content, refused
from earshot.kernel.errors import Misconfigured

COMPATIBILITY = "BACKWARD_TRANSITIVE"
"""A new version must read what was written with any version before it: transcripts are kept for ever."""
_STRICT_ENOUGH = (COMPATIBILITY, "FULL_TRANSITIVE")
_CONFLICT = 409


@dataclass(frozen=True)
class Registered:
    """A schema as a registry has it now.

    Attributes:
        subject: under what.
        id: its number, which frames events.
        new: whether it was not there before.
    """

    subject: str
    id: int
    new: bool


@dataclass(frozen=True)
class Verdict:
    """What a registry would say to a schema.

    Attributes:
        subject: under what.
        fits: whether it would take it.
        why: what is wrong, as far as the registry says; empty when it fits.
    """

    subject: str
    fits: bool
    why: str = ""


def history(folder: Path, event: str) -> list[str]:
    """Every version of an event's schema that was published, as text, the current one last.

    Raises:
        Misconfigured: there is no such file.
    """
    current = folder / f"{event}.avsc"
    if not current.is_file():
        raise Misconfigured(f"{current} is missing.", next_step="Write it: make schemas")
    past = sorted(folder.glob(f"past/{event}.*.avsc"), key=lambda path: int(path.suffixes[-2][1:]))
    return [path.read_text(encoding="utf-8") for path in (*past, current)]


class Registrar:
    """Registers schemas, and asks whether they could be.

    Args:
        url: ``http(s)://[user:password@]host[:port][/path]``.
    """

    def __init__(self, url: str) -> None:
        self._http = RegistryHttp(url)

    def register(self, subject: str, versions: Sequence[str]) -> Registered:
        """Make the last version known under a subject that takes compatible ones only; a new subject gets all of them.

        Raises:
            Misconfigured: the registry refuses it as incompatible, or as no schema.
            Unavailable: the registry does not answer.
        """
        self._restrict(subject)
        *past, current = versions
        there = self._http.ask("POST", f"/subjects/{subject}", _body(current))
        if there.is_success:
            return Registered(subject, int(content(there)["id"]), new=False)
        if not self._versions(subject):
            for version in past:
                self._add(subject, version)
        return Registered(subject, self._add(subject, current), new=True)

    def check(self, subject: str, versions: Sequence[str]) -> Verdict:
        """Whether the registry would take the last version, by its own rule for the subject. Changes nothing."""
        path = f"/compatibility/subjects/{subject}/versions?verbose=true"
        answer = self._http.ask("POST", path, _body(versions[-1]))
        if refused(answer) and answer.status_code == httpx.codes.NOT_FOUND:
            return Verdict(subject, fits=True)  # nothing there yet to be compatible with
        if refused(answer):
            return Verdict(subject, fits=False, why=_message(answer))
        found = content(answer)
        return Verdict(subject, bool(found["is_compatible"]), "; ".join(map(str, found.get("messages") or ())))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _restrict(self, subject: str) -> None:
        found = self._http.ask("GET", f"/config/{subject}")
        if not found.is_success or content(found).get("compatibilityLevel") not in _STRICT_ENOUGH:
            content(self._http.ask("PUT", f"/config/{subject}", {"compatibility": COMPATIBILITY}))

    def _versions(self, subject: str) -> list[int]:
        answer = self._http.ask("GET", f"/subjects/{subject}/versions")
        return list(answer.json()) if answer.is_success else []

    def _add(self, subject: str, schema: str) -> int:
        answer = self._http.ask("POST", f"/subjects/{subject}/versions", _body(schema))
        if answer.status_code == _CONFLICT or refused(answer):
            raise Misconfigured(
                f"The registry refuses {json.loads(schema)['name']} for {subject}: {_message(answer)}",
                next_step="A new field needs a default; what was published keeps its name, its type and its meaning.",
            )
        return int(content(answer)["id"])


def _body(schema: str) -> dict[str, str]:
    return {"schema": schema, "schemaType": "AVRO"}


def _message(answer: httpx.Response) -> str:
    return str(answer.json().get("message") or answer.status_code)
