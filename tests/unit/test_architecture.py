"""Who may import whom, read from the source. Fast, and wrong imports are named with file and line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "services" / "earshot"
JOINTS = {  # where two layers meet on purpose
    "streams/worker.py",  # the process of a stage: puts the stage, the adapters and the host together
    "streams/sqlite.py",  # the transport reads and commits through the adapter that keeps the log
}
LAYERS = {"kernel", "adapters", "streams", "cli"}
VERBS = {
    "diarizer": "diarize",
    "embedder": "embed",
    "eraser": "erase",
    "indexer": "index",
    "ingest": "accept",
    "query": "search",
    "relay": "relay",
    "segmenter": "segment",
    "tracker": "track",
    "transcriber": "transcribe",
}
SERVICES = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists() and path.name not in LAYERS)
EXTRAS = {
    "FlagEmbedding",
    "apsw",
    "av",
    "ctranslate2",
    "faster_whisper",
    "jiwer",
    "lancedb",
    "mcp",
    "onnxruntime",
    "pocketsphinx",
    "psycopg",
    "pyannote",
    "pyarrow",
    "soundfile",
    "torch",
    "transformers",
    "wordllama",
}
OUTSIDE_THINGS = EXTRAS - {"jiwer", "mcp"}
OUTSIDE_THINGS |= {"aiokafka", "alembic", "faust", "mode", "obstore", "sqlalchemy", "weaviate"}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every module a file imports, wherever in it, as (module, ``file:line``)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from ((alias.name, place) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place} imports relatively"
            yield node.module or "", place
            if node.module == "earshot":
                yield from ((f"earshot.{alias.name}", place) for alias in node.names if alias.name != "__version__")


def our_parts(path: Path) -> Iterator[tuple[str, str]]:
    """What of ours a file imports, as (part, ``file:line``): ``kernel``, ``adapters``, a service, …"""
    for module, place in imports(path):
        if module.startswith("earshot."):
            yield module.split(".")[1], place


def strangers(folder: str, allowed: set[str]) -> list[str]:
    """The imports of a folder that lead to a part it must not know; logging is open to all but the kernel."""
    paths = [path for path in sorted((ROOT / folder).rglob("*.py")) if path.relative_to(ROOT).as_posix() not in JOINTS]
    found = [item for path in paths for item in our_parts(path)]
    return [f"{place} imports {part}" for part, place in found if part not in allowed]


def test_the_kernel_imports_nothing_else_of_ours():
    assert strangers("kernel", {"kernel"}) == []


def test_adapters_import_only_the_kernel():
    assert strangers("adapters", {"kernel", "adapters", "logs"}) == []


def test_streams_import_only_the_kernel():
    assert strangers("streams", {"kernel", "streams", "logs"}) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_never_imports_another(service):
    assert strangers(service, {"kernel", "adapters", "logs", service}) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_verb_knows_only_the_kernel_and_its_own_folder(service):
    path = ROOT / service / f"{VERBS[service]}.py"
    assert [f"{place} imports {part}" for part, place in our_parts(path) if part not in {"kernel", service}] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_three_files(service):
    assert {path.name for path in (ROOT / service).glob("*.py")} >= {f"{VERBS[service]}.py", "app.py", "settings.py"}


def test_outside_things_are_imported_only_by_adapters_and_streams():
    files = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in {"adapters", "streams"}]
    found = [(module.split(".")[0], place) for path in files for module, place in imports(path)]
    assert [f"{place} imports {module}" for module, place in found if module in OUTSIDE_THINGS] == []


def test_the_base_install_imports_the_command_line_and_every_service():
    """None of the extras' libraries is needed before somebody asks for what it does."""
    modules = ["earshot.cli", "earshot.client", "earshot.web"]
    modules += [f"earshot.{service}.{name}" for service in SERVICES for name in ("app", "settings")]
    script = f"import sys\nfor name in {sorted(EXTRAS)!r}: sys.modules[name] = None\n"
    script += "import importlib\n" + "".join(f"importlib.import_module({module!r})\n" for module in modules)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
