"""No call to something outside waits for ever: what can be seen of that in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "services" / "earshot"
CALLS = {f"httpx.{name}" for name in ("Client", "AsyncClient", "get", "head", "post", "put", "request", "stream")}
ADAPTERS = ("lancedb.py", "weaviate.py", "blobs.py", "kafka_log.py")
UNGUARDED = {"replace", "ping", "close", "serve"}
"""Calls another method of the port; asks even while a breaker is open; waits for nobody; LanceDB's does nothing."""


def http_calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            yield node


def test_every_http_client_says_how_long_it_waits():
    calls = [(path, call) for path in sorted(ROOT.rglob("*.py")) for call in http_calls(path)]
    assert len(calls) >= 5
    silent = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in calls
        if not any(keyword.arg == "timeout" for keyword in call.keywords)
    ]
    assert silent == []


def test_every_method_of_a_port_that_can_fail_goes_through_a_breaker():
    """Of the adapters that are asked as one: those of the catalog and of the SQLite log have one way to their file."""
    for name in ADAPTERS:
        [store] = [
            node
            for node in ast.walk(ast.parse((ROOT / "adapters" / name).read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef) and any(_sets_guards(part) for part in ast.walk(node))
        ]
        methods = [node for node in store.body if isinstance(node, ast.AsyncFunctionDef) and node.name[0] != "_"]
        bare = {method.name for method in methods if not _is_guarded(method) and not _yields(method)}
        assert bare <= UNGUARDED, f"{name}: {bare - UNGUARDED}"


def _sets_guards(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Guards"


def _is_guarded(method: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id in ("reads", "writes") for mark in method.decorator_list)


def _yields(method: ast.AsyncFunctionDef) -> bool:
    """Whether it gives one thing after another: each is asked for by a method that is guarded."""
    return any(isinstance(node, ast.Yield) for node in ast.walk(method))
