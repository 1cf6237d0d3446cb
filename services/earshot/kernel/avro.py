"""From a pydantic model to its Avro schema: the models are the one source, the files are what others read."""

from __future__ import annotations

import json
import types
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from earshot.kernel.topics import TOPICS

NAMESPACE = "earshot"
_PRIMITIVES: dict[Any, Any] = {
    str: "string",
    int: "long",
    float: "double",
    bool: "boolean",
    bytes: "bytes",
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The Avro record schema of a model. Closed sets of words become strings, so that a set may grow."""
    return _record(model, set())


def _record(model: type[BaseModel], seen: set[str]) -> dict[str, Any]:
    seen.add(model.__name__)
    fields = [_field(name, info, seen) for name, info in model.model_fields.items()]
    doc = (model.__doc__ or "").strip().splitlines()[0]
    return {"type": "record", "name": model.__name__, "namespace": NAMESPACE, "doc": doc, "fields": fields}


def _field(name: str, info: FieldInfo, seen: set[str]) -> dict[str, Any]:
    hint: Any = info.annotation
    if info.metadata:
        hint = Annotated[(hint, *info.metadata)]
    field: dict[str, Any] = {"name": name, "type": _type(hint, seen)}
    if info.description:
        field["doc"] = info.description
    if not info.is_required():
        field["default"] = info.get_default(call_default_factory=True)
    return field


def _type(hint: Any, seen: set[str]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return "float" if "avro:float" in arguments[1:] else _type(arguments[0], seen)
    if origin is Literal:
        return "string"
    if origin in (Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return ["null", _type(inner, seen)]
    if origin is list:
        return {"type": "array", "items": _type(arguments[0], seen)}
    if origin is dict:
        return {"type": "map", "values": _type(arguments[1], seen)}
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return f"{NAMESPACE}.{hint.__name__}" if hint.__name__ in seen else _record(hint, seen)
    return _PRIMITIVES[hint]


def schema_folder() -> Path:
    """Where the ``.avsc`` files lie: in the checkout, or inside the installed package."""
    checkout = Path(__file__).resolve().parents[3] / "schemas"
    return checkout if checkout.is_dir() else Path(__file__).resolve().parents[1] / "schemas"


@cache
def event_models() -> tuple[type[BaseModel], ...]:
    """The models that have a schema file, in the order of the flow."""
    models = [topic.event for topic in TOPICS if topic.event is not None]
    return tuple(dict.fromkeys(models))


def write_schemas(folder: Path) -> list[Path]:
    """Write one ``.avsc`` for each event and return the paths. Run by ``make schemas``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in event_models():
        path = folder / f"{model.__name__}.avsc"
        path.write_text(json.dumps(schema_of(model), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write_schemas(schema_folder()):
        print(written)
