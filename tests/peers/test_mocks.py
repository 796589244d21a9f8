"""The mocks of MetaDefender Core and Vault answer as the vendor's documents say, and are asked what stands there.

Where the OpenAPI is not at hand, the shapes taken from it must be those that were taken.
"""

import hashlib
import re
from urllib.parse import urlsplit

import pytest

from posthouse.clients import core_requests, metadefender
from posthouse.clients.metadefender import core_key_field
from posthouse.scan_ports import ScanOrder
from support.http_servers import Request, Response
from support.mock_core import KEY, NO_LICENCE, MockCore
from support.openapi_shapes import PATHS, SHAPES, document, extracted, faults, header_fields, recorded
from support.scripted_scanner import items

DIGEST = "c8b6fab05169adb2e4bee5d47864b6674fba14b3f13bc1c526534bddd5163dea"
BESIDE = ("/readyz",)
"""Asked though the OpenAPI of 4.18 does not know it: since 5.0."""


def answered(core: MockCore, path: str, key: str = KEY) -> Response:
    return core.answer(Request("GET", path, dict([core_key_field(key)])))


def test_the_shapes_are_those_of_the_document() -> None:
    openapi = document()
    if openapi is not None:
        assert extracted(openapi) == recorded()
    assert hashlib.sha256(SHAPES.read_bytes()).hexdigest() == DIGEST


def test_nothing_is_asked_of_a_core_that_the_document_does_not_have() -> None:
    asked = {urlsplit(each.path).path for each in metadefender._QUESTIONS}
    asked |= {urlsplit(each.otherwise.path).path for each in metadefender._QUESTIONS if each.otherwise is not None}
    assert asked == {*PATHS, *BESIDE}


def test_a_scan_sends_header_fields_that_the_document_has() -> None:
    """Where it is at hand; the paths are held against it by the stateful mock."""
    order = ScanOrder("m", core_rule="r", passwords=("a", "b"), metadata={"a": "b"})
    key = {"apikey": "k"}
    (asked,) = items("a.txt")
    made = {
        "/file/batch": core_requests.open_batch(key, order),
        "/file": core_requests.submit(key, order, "b", asked),
        "/file/{data_id}": core_requests.fetch_result(key, "d"),
        "/file/converted/{data_id}": core_requests.fetch_sanitized(key, "d"),
        "/file/batch/{batchId}/close": core_requests.close_batch(key, "b")[0],
        "/file/{batchId}/cancel": core_requests.cancel_batch(key, "b")[0],
    }
    assert {f"{each.method} {path}" for path, each in made.items()} == {name for name in recorded() if " " in name}
    openapi = document()
    if openapi is not None:
        for path, request in made.items():
            sent = {re.sub(r"\d$", "", name) for name in request.headers} - {"Content-Type", "Accept"}
            assert sent <= header_fields(openapi, path, request.method.lower())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("core", [MockCore(), MockCore(key="another"), MockCore(version="5.19.0")])
def test_the_mock_of_core_answers_in_the_shape_of_the_document(core: MockCore, path: str) -> None:
    response = answered(core, path)
    assert faults(response.document, recorded()[path][str(response.status)]) == []


def test_a_key_without_rights_is_answered_as_the_document_has_it_for_nodes() -> None:
    """For the licence the page on error messages has 405, the OpenAPI 403 only."""
    response = answered(MockCore(rights=False), "/stat/nodes")
    assert response.status == 405
    assert faults(response.document, recorded()["/stat/nodes"]["405"]) == []


def test_the_answer_without_a_licence_is_the_one_thing_that_is_beside_the_document() -> None:
    """The page "Get Current License Information" has it; the OpenAPI calls the field `deployment`."""
    response = answered(MockCore(licence=NO_LICENCE), "/admin/license")
    assert faults(response.document, recorded()["/admin/license"]["200"]) == [".deployment_id: not in the document"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"product_id": "MSCL", "version": 4}, ".version: 4 is no string"),
        ({"product": "MSCL"}, ".product: not in the document"),
        ([], ": no table"),
    ],
)
def test_another_shape_is_a_fault(value: object, fault: str) -> None:
    assert faults(value, recorded()["/version"]["200"]) == [fault]
