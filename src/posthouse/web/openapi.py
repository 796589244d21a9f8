"""The OpenAPI document: where an operation tells an answer by an example alone, the example is its schema, too."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

Schema = dict[str, Any]


def tell_by_examples(app: FastAPI) -> None:
    """Every answer of which there is an example has at least what the example has, of the same kind or null.

    So no example can say what is not so: tests compare answers with schemas.
    """
    made: Callable[[], Schema] = app.openapi

    def openapi() -> Schema:
        document = made()
        for operations in document["paths"].values():
            for operation in operations.values():
                for answer in operation["responses"].values():
                    told = answer.get("content", {}).get("application/json", {})
                    if "example" in told and not told.get("schema"):
                        told["schema"] = schema_of(told["example"], whole=True)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def schema_of(example: object, *, whole: bool = False) -> Schema:
    """`whole`: every name of the object is in every answer; likewise for the objects of its `items`. Deeper down
    names may be missing: there are objects whose names are values."""
    match example:
        case None:
            return {}
        case bool():
            return {"type": ["boolean", "null"]}
        case int() | float():
            return {"type": ["number", "null"]}
        case str():
            return {"type": ["string", "null"]}
        case list():
            items = schema_of(example[0], whole=whole) if example else {}
            return {"type": ["array", "null"], "items": items}
        case Mapping():
            properties = {name: schema_of(value, whole=whole and name == "items") for name, value in example.items()}
            required = {"required": list(properties)} if whole else {}
            return {"type": ["object", "null"] if not whole else "object", "properties": properties, **required}
        case _:
            raise TypeError(f"no JSON: {example!r}")
