"""Bodies that may hold a private key: nothing of what was sent is ever in an answer, wherever in it it stands."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from posthouse.core.faults import Fault
from posthouse.web.problems import invalid

Model = TypeVar("Model", bound=BaseModel)


def body_of(model: type[Model]) -> Callable[[Request], Coroutine[Any, Any, Model]]:
    """A dependency that reads the body as `model`; no body at all counts as `{}`. 422 with every fault."""

    async def read(request: Request) -> Model:
        octets = await request.body()
        try:
            return model.model_validate_json(octets or b"{}")
        except ValidationError as error:
            faults = [_fault(found, model) for found in error.errors(include_input=False, include_context=False)]
        raise invalid(faults)

    return read


def documented(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """`openapi_extra` of a route with such a body."""
    schema = model.model_json_schema()
    content = {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}}
    return {"requestBody": {"required": required, "content": content}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """What is referred to stands in place: in the document that this becomes part of, `#` is another place."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inlined = {name: _inlined(each, definitions) for name, each in schema.items() if name != "$ref"}
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    return {**_inlined(definitions[name], definitions), **inlined} if name else inlined


def _fault(found: Mapping[str, Any], model: type[BaseModel]) -> Fault:
    path = [str(part) for part in found["loc"]]
    names = ", ".join(model.model_fields)
    if found["type"] == "missing":
        return Fault(".".join(path), "", "Field required.", "Give it.")
    if not path:
        return Fault("body", "", "This is no JSON object.", f"Send a JSON object with: {names}.")
    if path[0] not in model.model_fields:
        return Fault("body", "", "There is a field that is not known.", f"Send these only: {names}.")
    return Fault(".".join(path), "***", f"{found['msg']}.", "See /api/v1/openapi.json for what is allowed.")
