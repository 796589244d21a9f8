"""JSON Schemas for OpenAPI, made of the tables that the core validates by: what is told is what is checked.

Cross checks between fields are not told by a schema; their faults are (422).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posthouse.core.announcements import DISCLAIMER_FIELDS, HEADER_FIELDS, NOTICE_FIELDS
from posthouse.core.fields import NAME_LENGTH, FieldSpec, FieldType
from posthouse.core.profile import POOL_FIELDS, PROFILE_FIELDS
from posthouse.core.rule import MATCH_FIELDS, RELAY_FIELDS, RULE_FIELDS
from posthouse.core.scan_section import ERROR_FIELDS, SCAN_FIELDS
from posthouse.core.vault_section import VAULT_FIELDS

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""What `core.fields.has_control` finds."""
PRINTABLE = rf"^[^{_UNSEEN}]*$"
NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME_LENGTH,
    # Nothing unseen, no /, no white space at the ends, not . or .. alone.
    "pattern": rf"^(?!\.{{1,2}}$)(?!\s)[^/{_UNSEEN}]+(?<!\s)$",
}
_SECRET: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {"env": {"type": "string"}, "file": {"type": "string"}, "set": {"const": True}},
            "additionalProperties": False,
        },
    ]
}
_PLAIN: Mapping[FieldType, Schema] = {
    FieldType.TEXT: {"type": "string"},
    FieldType.LINES: {"type": "string"},
    FieldType.NAME: NAME,
    FieldType.INTEGER: {"type": "integer"},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.SIZE: {"type": ["integer", "string"]},
    FieldType.TEXTS: {"type": "array", "items": {"type": "string"}},
    FieldType.TABLE: {"type": "object"},
    FieldType.TABLES: {"type": "array", "items": {"type": "object"}},
    FieldType.SECRET: _SECRET,
}
_BOUNDS: Mapping[FieldType, tuple[str, str]] = {
    FieldType.TEXT: ("minLength", "maxLength"),
    FieldType.INTEGER: ("minimum", "maximum"),
    FieldType.LINES: ("minLength", "maxLength"),
    FieldType.TEXTS: ("minItems", "maxItems"),
    FieldType.TABLES: ("minItems", "maxItems"),
}


def object_schema(table: Sequence[FieldSpec], **inner: Schema) -> Schema:
    """Of an object with the fields of `table`; `inner`: of the objects in it, and in its lists. Null counts as
    absent."""
    properties: Schema = {}
    for spec in table:
        found = dict(_PLAIN[spec.type])
        for word, bound in zip(_BOUNDS.get(spec.type, ()), (spec.minimum, spec.maximum), strict=False):
            if bound is not None:
                found[word] = bound
        if spec.choices:
            found["enum"] = list(spec.choices)
        if spec.name in inner:
            found = {**found, "items": inner[spec.name]} if spec.type is FieldType.TABLES else inner[spec.name]
        properties[spec.name] = {**(found if spec.required else _or_null(found)), "description": spec.meaning}
    return {
        "type": "object",
        "properties": properties,
        "required": [spec.name for spec in table if spec.required],
        "additionalProperties": False,
    }


def of(**properties: Schema) -> Schema:
    """Of an answer's object: exactly these, all there."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def with_more(schema: Schema, **properties: Schema) -> Schema:
    """Of an object that may have these, too."""
    return {**schema, "properties": {**schema["properties"], **properties}}


def page_of(item: Schema) -> Schema:
    """Of `{items, next}`."""
    return of(items={"type": "array", "items": item}, next={"type": ["string", "null"]})


def answer(description: str, schema: Schema, example: object) -> dict[str, Any]:
    """An entry of `responses`."""
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def problem(description: str) -> dict[str, Any]:
    """An entry of `responses` for a status above 399."""
    return {"description": description, "content": {"application/problem+json": {"schema": PROBLEM}}}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": ["number", "null"], "description": "epoch seconds"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}

FAULT = of(field=TEXT, value=TEXT, rule=TEXT, remedy=TEXT)
PROBLEM: Schema = {
    "type": "object",
    "description": "problem details (RFC 9457)",
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "errors": {"type": "array", "items": FAULT},
    },
    "required": ["type", "title", "status", "detail", "errors"],
}
CHANGE = of(change={"enum": ["added", "removed", "changed", "moved"]}, field=TEXT, old=ANYTHING, new=ANYTHING)
RULE = object_schema(
    RULE_FIELDS,
    match=object_schema(MATCH_FIELDS),
    relay=object_schema(RELAY_FIELDS),
    scan=object_schema(
        SCAN_FIELDS,
        on_errors=object_schema(ERROR_FIELDS),
        headers=object_schema(HEADER_FIELDS),
        disclaimers=object_schema(DISCLAIMER_FIELDS),
        notices=object_schema(NOTICE_FIELDS),
    ),
    vault=object_schema(VAULT_FIELDS),
)
# What else an answer tells of a profile stands beside its settings.
PROFILE_ANSWER: Schema = {
    **object_schema(PROFILE_FIELDS, pool=object_schema(POOL_FIELDS)),
    "additionalProperties": True,
}
PROFILE = object_schema(PROFILE_FIELDS, pool=object_schema(POOL_FIELDS))
GIVEN_PROFILE = with_more(PROFILE, tested=ANYTHING)
"""What GET has answered can be sent back."""
TESTED_PROFILE = with_more(GIVEN_PROFILE, mail_from=_or_null(TEXT), rcpt_to=_or_null(TEXT))
CHANGED_PROFILE: Schema = {**TESTED_PROFILE, "required": []}
SERVERS = of(servers={"type": "array", "items": TEXT, "minItems": 1})
INVENTORY: Schema = {
    "type": "object",
    "properties": {
        "server_profiles": {"anyOf": [{"type": "array", "items": PROFILE}, {"type": "null"}]},
        "rules": {"anyOf": [{"type": "array", "items": RULE}, {"type": "null"}]},
    },
    "additionalProperties": False,
}
