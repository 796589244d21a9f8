"""What the vendor's OpenAPI says of the answers that the mock of MetaDefender Core gives, as shapes.

A shape is the name of a type, a list with the shape of its items, or a table of shapes by property. The file
`core_shapes.json` holds those of the paths that are asked; the document itself is no part of the repository.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from support.processes import ROOT

SHAPES = Path(__file__).with_name("core_shapes.json")
PATHS = ("/version", "/stat/engines", "/stat/nodes", "/admin/license")
"""Of a TEST, by GET."""
OPERATIONS = (
    *((path, path, "get") for path in PATHS),
    ("POST /file", "/file", "post"),
    ("GET /file/{data_id}", "/file/{data_id}", "get"),
    ("GET /file/converted/{data_id}", "/file/converted/{data_id}", "get"),
    ("POST /file/batch", "/file/batch", "post"),
    ("POST /file/batch/{batchId}/close", "/file/batch/{batchId}/close", "post"),
    ("POST /file/{batchId}/cancel", "/file/{batchId}/cancel", "post"),
)
"""Name in the file, path and method in the document."""
Shape = str | list[Any] | dict[str, Any]


def document() -> Path | None:
    """The OpenAPI: POSTHOUSE_SPECS, else `../shared/specs` beside the checkout; None where it is absent."""
    folder = Path(os.environ.get("POSTHOUSE_SPECS", ROOT.parent / "shared" / "specs"))
    return next(iter(sorted(folder.glob("metadefender-core-*.yaml"))), None)


@cache
def recorded() -> dict[str, dict[str, Shape]]:
    """By name of the operation, then by status as text."""
    return cast(dict[str, dict[str, Shape]], json.loads(SHAPES.read_text("utf-8")))


def extracted(openapi: Path) -> dict[str, dict[str, Shape]]:
    """The same, from the document."""
    root = yaml.safe_load(openapi.read_text("utf-8"))
    return {
        name: {
            status: _shape(root, _content(root, answer))
            for status, answer in root["paths"][path][method]["responses"].items()
        }
        for name, path, method in OPERATIONS
    }


def header_fields(openapi: Path, path: str, method: str) -> set[str]:
    """Names of those that the document has for an operation."""
    root = yaml.safe_load(openapi.read_text("utf-8"))
    parameters = [_resolved(root, each) for each in root["paths"][path][method].get("parameters", ())]
    return {each["name"] for each in parameters if each["in"] == "header"}


def _content(root: Mapping[str, Any], answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the one type of content that an answer has."""
    (content,) = _resolved(root, answer)["content"].values()
    return cast(Mapping[str, Any], content["schema"])


def _resolved(root: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        found: Any = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def _shape(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Shape:
    schema = _resolved(root, schema)
    if len(schema.get("allOf", ())) == 1:
        return _shape(root, schema["allOf"][0])
    if schema.get("type") == "array":
        return [_shape(root, schema["items"])]
    if "properties" in schema:
        return {name: _shape(root, each) for name, each in sorted(schema["properties"].items())}
    return str(schema.get("type", "any"))


_TYPES: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool, "object": dict}


def faults(value: object, shape: Shape, where: str = "") -> list[str]:
    """Where a value is not of its shape; a property that the shape does not name is a fault, too."""
    match shape:
        case list():
            if not isinstance(value, list):
                return [f"{where}: no list"]
            return [fault for at, each in enumerate(value) for fault in faults(each, shape[0], f"{where}[{at}]")]
        case dict():
            if not isinstance(value, dict):
                return [f"{where}: no table"]
            unknown = [f"{where}.{name}: not in the document" for name in value.keys() - shape.keys()]
            known = value.keys() & shape.keys()
            return unknown + [
                fault for name in known for fault in faults(value[name], shape[name], f"{where}.{name}")
            ]
        case _:
            wrong = shape in _TYPES and type(value) is not _TYPES[shape]
            return [f"{where}: {value!r} is no {shape}"] if wrong else []
