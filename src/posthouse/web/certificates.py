"""`digital-id` and `certificate-authorities`: the node's certificate and key, and the own CAs that it trusts.

Private keys and passphrases are write-only; what changed is audited by the fingerprints before and after.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import Depends, Path, Response
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints

from posthouse.core.certificate import CertificateFacts, alternative_names, facts_of, key_text
from posthouse.core.digital_id import DigitalId, Given, names_of, read_names, suitability
from posthouse.core.faults import InvalidInput
from posthouse.digital_id.authorities import Authorities, AuthoritiesUnusable
from posthouse.digital_id.endings import AUTHORITY, DIGITAL_ID, Ending
from posthouse.digital_id.store import DAYS, DigitalIds, DigitalIdUnusable, KeyType, Refused, Renewed
from posthouse.ports import Key
from posthouse.settings import ListenerTls
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.tools import Tools, WebTools
from posthouse.web.write_only import body_of, documented

reading = guarded(Right.CONFIG_READ)
changing = guarded(Right.CONFIG_CHANGE)

Names = Annotated[
    list[Annotated[str, StringConstraints(max_length=253)]],
    Field(max_length=100, description="names and addresses for the certificate; default: this node's hostname"),
]
Days = Annotated[int, Field(ge=1, le=3650, description="validity")]
Pem = Annotated[str, StringConstraints(max_length=1024**2)]
_STRICT = ConfigDict(extra="forbid", strict=True)


class Generate(BaseModel):
    """A new key with a self-signed certificate."""

    model_config = ConfigDict(**_STRICT, json_schema_extra={"examples": [{"names": ["mx1.example"], "days": 825}]})
    names: Names = []
    days: Days = DAYS
    key: Annotated[KeyType, Field(strict=False)] = KeyType.ECDSA
    replace: Annotated[bool, Field(description="also one that a CA has issued")] = False


class Renew(BaseModel):
    """A self-signed certificate anew."""

    model_config = ConfigDict(**_STRICT, json_schema_extra={"examples": [{}, {"new_key": True}]})
    days: Days = DAYS
    new_key: Annotated[bool, Field(description="with another key; pins of the certificate change either way")] = False


class Request(BaseModel):
    """A request to a CA."""

    model_config = ConfigDict(**_STRICT, json_schema_extra={"examples": [{"names": ["mx1.example"]}]})
    names: Names = []
    key: Annotated[KeyType, Field(strict=False, description="of a new key")] = KeyType.ECDSA
    new_key: Annotated[bool, Field(description="not the one in force")] = False
    replace: Annotated[
        bool, Field(description="also a request that waits for its certificate; its key is forgotten")
    ] = False


class Import(BaseModel):
    """A certificate with its chain and key. Without a key: one of the request, or the one in force."""

    model_config = ConfigDict(
        **_STRICT,
        json_schema_extra={
            "examples": [{"certificate": "-----BEGIN CERTIFICATE-----\n...", "private_key": "-----BEGIN PRIVATE ..."}]
        },
    )
    certificate: Annotated[Pem, Field(description="PEM: certificate and chain, in any order")] = ""
    private_key: Annotated[Pem, Field(description="PEM", json_schema_extra={"writeOnly": True})] = ""
    pkcs12: Annotated[
        Base64Bytes | None,
        Field(description="instead of both: a PKCS#12 file in base64", json_schema_extra={"writeOnly": True}),
    ] = None
    passphrase: Annotated[
        str, Field(max_length=1000, description="of an encrypted key", json_schema_extra={"writeOnly": True})
    ] = ""


class NewAuthority(BaseModel):
    """Own CAs to be trusted."""

    model_config = ConfigDict(
        **_STRICT, json_schema_extra={"examples": [{"certificate": "-----BEGIN CERTIFICATE-----\n..."}]}
    )
    certificate: Annotated[Pem, Field(description="PEM: one or more certificates of CAs")]


_FACTS = {
    "subject": "CN=mx1.example",
    "names": ["mx1.example"],
    "issuer": "CN=mx1.example",
    "serial": "5f1c",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "not_before": 1763999700.0,
    "not_after": 1835280000.0,
    "days_left": 825,
    "key": "ECDSA P-256",
    "self_signed": True,
}
_STATE: dict[str, object] = {
    "certificate": _FACTS,
    "chain": [],
    "used_by": {"listeners": ["0.0.0.0:25"], "server_profiles": ["exchange"], "console": False},
    "request": None,
    "fault": "",
    "warnings": [],
}
_AUTHORITY = {**_FACTS, "id": _FACTS["sha256"], "subject": "CN=Our CA", "names": [], "warning": ""}
_AUTHORITIES: dict[str, object] = {"items": [_AUTHORITY], "next": None}


def _example(description: str, example: object) -> dict[int | str, dict[str, object]]:
    return {200: {"description": description, "content": {"application/json": {"example": example}}}}


_DOC = _example("The digital ID in force; `warnings` are sentences", _STATE)
_CONFLICT: dict[int | str, dict[str, object]] = {
    409: {
        "description": "Not to be done with the digital ID as it is",
        "content": {"application/problem+json": {}},
    }
}


# --- The digital ID --------------------------------------------------------------------------------------


@reading.get("/digital-id", summary="The digital ID of this node", responses=_DOC)
def show(tools: Tools) -> Json:
    """Never its private key. `sha256` is what `tls_pin` of another node takes; times are epoch seconds.
    `fault`: why the one that is there cannot be read; a temporary one is shown then."""
    return Json(_state(tools))


@changing.post(
    "/digital-id/generate",
    summary="Make a key and a self-signed certificate",
    responses=_DOC | _CONFLICT,
    openapi_extra=documented(Generate, required=False),
)
def generate(tools: Tools, key: CurrentKey, body: Annotated[Generate, Depends(body_of(Generate))]) -> Json:
    """In force at once; open sessions go on."""
    names = _names(body.names, [tools.settings.hostname])
    with _translated():
        now = tools.clock.now()
        done = DigitalIds(tools.settings.data_dir).generate(names, body.days, body.key, now, replace=body.replace)
    return _in_force(tools, key, "digital ID generated", done)


@changing.post(
    "/digital-id/renew",
    summary="Renew a self-signed certificate",
    responses=_DOC | _CONFLICT,
    openapi_extra=documented(Renew, required=False),
)
def renew(tools: Tools, key: CurrentKey, body: Annotated[Renew, Depends(body_of(Renew))]) -> Json:
    """For the same names. One that a CA has issued is renewed by a request and the import of what the CA gives."""
    with _translated():
        ids, now, hostname = DigitalIds(tools.settings.data_dir), tools.clock.now(), tools.settings.hostname
        done = ids.renew(body.days, now, new_key=body.new_key, hostname=hostname)
    return _in_force(tools, key, "digital ID renewed", done)


@changing.post(
    "/digital-id/request",
    summary="Make a certificate request for a CA",
    responses=_example(
        "The request (PKCS #10, PEM)", {"names": ["mx1.example"], "key": "ECDSA P-256", "request": "-"}
    )
    | _CONFLICT,
    openapi_extra=documented(Request, required=False),
)
def request(tools: Tools, key: CurrentKey, body: Annotated[Request, Depends(body_of(Request))]) -> Json:
    """With the key in force or a new one, which waits here for its certificate. The digital ID stays in force.

    One that waits is given again where names and key are the same; another takes its place only by `replace`.
    """
    ids = DigitalIds(tools.settings.data_dir)
    own = ids.certificate()
    before = names_of(own) if own is not None else ()
    names = _names(body.names, before or [tools.settings.hostname])
    with _translated():
        ids.request(names, body.key, new_key=body.new_key, replace=body.replace)
    _note(tools, key, "digital ID requested", {"names": list(names), "new_key": body.new_key})
    return Json(_requested(ids))


@changing.post(
    "/digital-id/import",
    summary="Put a certificate and its key in force",
    responses=_DOC,
    openapi_extra=documented(Import, required=True),
)
def import_(tools: Tools, key: CurrentKey, body: Annotated[Import, Depends(body_of(Import))]) -> Json:
    """Checked whole: all faults at once. The chain is put in order."""
    given = Given(body.certificate.encode(), body.private_key.encode(), body.pkcs12 or b"", body.passphrase)
    settings = tools.settings
    with _translated():
        done = DigitalIds(settings.data_dir).import_(given, settings.hostname, tools.clock.now())
    return _in_force(tools, key, "digital ID imported", done)


# --- Own CAs ---------------------------------------------------------------------------------------------


@reading.get(
    "/certificate-authorities",
    summary="Own CAs, trusted besides those of the system",
    responses=_example("In the order in which they were added", _AUTHORITIES),
)
def list_authorities(tools: Tools) -> Json:
    """By server profiles without `tls_ca`."""
    now = tools.clock.now()
    with _translated():
        items = [_authority(facts, now) for facts in Authorities(tools.settings.data_dir).facts()]
    return Json({"items": items, "next": None})


@changing.post(
    "/certificate-authorities",
    status_code=HTTPStatus.CREATED,
    summary="Trust own CAs",
    responses={201: {"description": "Those given", "content": {"application/json": {"example": _AUTHORITIES}}}},
    openapi_extra=documented(NewAuthority, required=True),
)
def add_authorities(
    tools: Tools, key: CurrentKey, body: Annotated[NewAuthority, Depends(body_of(NewAuthority))]
) -> Json:
    """All certificates of the text. In force for the next connection; those that are there already change nothing."""
    now = tools.clock.now()
    with _translated():
        added = Authorities(tools.settings.data_dir).add(body.certificate.encode(), now)
    _note(tools, key, "own CAs added", {"added": [_audited(facts) for facts in added]})
    return Json({"items": [_authority(facts, now) for facts in added], "next": None}, HTTPStatus.CREATED)


@changing.delete(
    "/certificate-authorities/{id}", status_code=HTTPStatus.NO_CONTENT, summary="Trust an own CA no longer"
)
def remove_authority(
    tools: Tools, key: CurrentKey, id: Annotated[str, Path(description="SHA-256 of its certificate")]
) -> Response:
    """In force for the next connection."""
    with _translated():
        removed = Authorities(tools.settings.data_dir).remove(id)
    if removed is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no own CA of that id.")
    _note(tools, key, "own CA removed", {"removed": _audited(removed)})
    return Response(status_code=HTTPStatus.NO_CONTENT)


# --- What they have in common ----------------------------------------------------------------------------


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        raise invalid(error.faults) from None
    except (Refused, DigitalIdUnusable, AuthoritiesUnusable) as error:
        raise Problem(HTTPStatus.CONFLICT, str(error)) from None
    except OSError as error:
        detail = f"The folder digital-id of the data dir cannot be written: {error.strerror}."
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail) from error


def _names(given: Sequence[str], otherwise: Sequence[str]) -> tuple[str, ...]:
    names, faults = read_names(given or otherwise)
    if faults:
        raise invalid(faults)
    return names


def _in_force(tools: WebTools, key: Key, what: str, done: Renewed) -> Json:
    after, before = facts_of(done.after.certificate), done.before
    _note(
        tools,
        key,
        what,
        {
            "before": None if before is None else _audited(facts_of(before.certificate)),
            "after": _audited(after),
            "same_key": before is not None and before.key.public_key() == done.after.key.public_key(),
        },
    )
    state = _state(tools)
    return Json({**state, "warnings": list(dict.fromkeys([*done.warnings, *_warnings(tools, done.after)]))})


def _note(tools: WebTools, key: Key, what: str, detail: dict[str, object]) -> None:
    tools.inventory.note(by=actor(key), what=what, detail=detail, now=tools.clock.now())


def _audited(facts: CertificateFacts) -> dict[str, object]:
    return {"sha256": facts.sha256, "subject": facts.subject, "not_after": facts.not_after}


def _state(tools: WebTools) -> dict[str, object]:
    ids, now, settings = DigitalIds(tools.settings.data_dir), tools.clock.now(), tools.settings
    fault = ""
    try:
        found = ids.load()
        warnings = [] if found is None else _warnings(tools, found)
    except DigitalIdUnusable as error:
        found, warnings, fault = None, [], f"{error}."
    profiles = [profile.document for profile in tools.inventory.load().profiles]
    return {
        "certificate": None if found is None else facts_json(facts_of(found.certificate), now),
        "chain": [facts_json(facts_of(each), now) for each in found.chain] if found is not None else [],
        "used_by": {
            "listeners": [str(each.listen) for each in settings.listeners if each.tls is not ListenerTls.NONE],
            "server_profiles": [document["name"] for document in profiles if document.get("client_certificate")],
            "console": settings.console_tls,
        },
        "request": _requested(ids),
        "fault": fault,
        "warnings": warnings,
    }


def _warnings(tools: WebTools, found: DigitalId) -> list[str]:
    ending = Ending(DIGITAL_ID, facts_of(found.certificate))
    soon = ending.warning(tools.clock.now())
    told = [f"{soon[0].upper()}{soon[1:]}. {ending.remedy}"] if soon else []
    return told + suitability(found, tools.settings.hostname)


def _requested(ids: DigitalIds) -> dict[str, object] | None:
    pending = ids.requested()
    if pending is None:
        return None
    asked, _ = pending
    return {
        "names": list(alternative_names(asked)),
        "key": key_text(asked.public_key()),
        "request": asked.public_bytes(Encoding.PEM).decode("ascii"),
    }


def facts_json(facts: CertificateFacts, now: float) -> dict[str, object]:
    """One certificate as REST and CLI show it."""
    return {
        "subject": facts.subject,
        "names": list(facts.names),
        "issuer": facts.issuer,
        "serial": facts.serial,
        "sha256": facts.sha256,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "days_left": facts.days_left(now),
        "key": facts.key,
        "self_signed": facts.self_signed,
    }


def _authority(facts: CertificateFacts, now: float) -> dict[str, object]:
    return {**facts_json(facts, now), "id": facts.sha256, "warning": Ending(AUTHORITY, facts).warning(now)}
