"""Links to scan details: what pattern and base make of ids, and which patterns are refused."""

import pytest

from posthouse.core.details_link import Link, LinkBase, batch_link, details_link, parse_details_pattern
from posthouse.core.profile import parse_profile, profile_json

SERVER = "http://10.0.1.1:8008"
PAGE = "#/user/dashboard/processingHistory/dataId"


def test_the_server_that_scanned_is_the_base_unless_there_is_a_public_url() -> None:
    assert details_link(LinkBase(), SERVER, "d1", "b1") == Link(f"{SERVER}/{PAGE}/d1")
    public = LinkBase("https://core.example/a")
    assert details_link(public, SERVER, "d1", "") == Link(f"https://core.example/a/{PAGE}/d1")
    assert details_link(public, "http://127.0.0.1:8008", "d1", "") == Link(f"https://core.example/a/{PAGE}/d1")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_a_link_to_a_loopback_server_has_the_warning_of_the_seed(host: str) -> None:
    link = details_link(LinkBase(), f"http://{host}:8008", "d1", "")
    assert link is not None
    assert link.url == f"http://{host}:8008/{PAGE}/d1"
    assert "broken on any other machine" in link.warning
    assert details_link(LinkBase(details_pattern="https://h/{data_id}"), f"http://{host}:8008", "d1", "") == Link(
        "https://h/d1"
    )


def test_a_batch_has_a_link_of_its_own() -> None:
    assert batch_link(LinkBase(), SERVER, "b1") == Link(f"{SERVER}/file/batch/b1")
    assert batch_link(LinkBase(batch_pattern="{base}/?b={batch_id}"), SERVER, "b 1") == Link(f"{SERVER}/?b=b%201")


def test_there_is_no_link_where_something_is_not_known() -> None:
    assert details_link(LinkBase(), SERVER, "", "b1") is None
    assert details_link(LinkBase(), "", "d1", "b1") is None
    assert details_link(LinkBase(), "clamd://h:3310", "d1", "b1") is None
    assert details_link(LinkBase(details_pattern="{base}/{batch_id}/{data_id}"), SERVER, "d1", "") is None
    assert batch_link(LinkBase(), SERVER, "") is None


def test_nothing_that_a_scanner_says_makes_another_link() -> None:
    link = details_link(LinkBase(details_pattern="https://h/x?{data_id}"), SERVER, '../#{base}&a=\r\n"<é', "")
    assert link == Link("https://h/x?..%2F%23%7Bbase%7D%26a%3D%0D%0A%22%3C%C3%A9")


@pytest.mark.parametrize(
    "text",
    [
        "{base}/#/user/dashboard/processingHistory/dataId/{data_id}",
        "{base}?id={data_id}&batch={batch_id}",
        "https://core.example:8008/x/{data_id}",
        "{base}/#/b/{batch_id}",
    ],
)
def test_a_pattern_stays_as_it_is(text: str) -> None:
    assert parse_details_pattern(text) == text
    document = {"name": "c", "type": "metadefender-core", "servers": ["10.0.1.1"], "details_pattern": text}
    parsed, faults = parse_profile(document, "p")
    assert faults == ()
    assert parsed is not None
    assert profile_json(parsed)["details_pattern"] == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{base}/{id}/{data_id}", ["placeholder"]),
        ("{base}/details", ["placeholder"]),
        ("{base}.evil.example/{data_id}", ["base"]),
        ("{base}{data_id}", ["base"]),
        ("javascript:alert({data_id})", ["scheme"]),
        ("//h/{data_id}", ["scheme"]),
        ("/x/{data_id}", ["scheme"]),
        ("https://{data_id}.example/", ["host"]),
        ("https:///{data_id}", ["host"]),
        ("https://u:p@h/{data_id}", ["user info"]),
        ("{base}/{data_id", ["placeholder", "address"]),
        ("{base}/ {data_id}", ["address"]),
        ('{base}/"{data_id}', ["address"]),
        ("{base}/\n{data_id}", ["address"]),
    ],
)
def test_a_pattern_that_is_none_is_refused_part_by_part(text: str, parts: list[str]) -> None:
    found = parse_details_pattern(text)
    assert isinstance(found, tuple)
    assert [problem.part for problem in found] == parts
    document = {"name": "c", "type": "metadefender-core", "servers": ["10.0.1.1"], "details_pattern": text}
    assert {fault.field for fault in parse_profile(document, "p")[1]} == {"p.details_pattern"}
