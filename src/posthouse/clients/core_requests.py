"""The requests of MetaDefender Core that scan a mail: paths and header fields.

Values that are texts of people are percent-encoded UTF-8, so that nothing in them can be a header field of its own.
Standards: OpenAPI of MetaDefender Core 4.18 (`/file`, `/file/batch`).
"""

import json
from collections.abc import Mapping
from itertools import islice
from urllib.parse import quote

from posthouse.clients.http_client import HttpRequest
from posthouse.core.examination import Item, ItemKind
from posthouse.scan_ports import Asked, ScanOrder

USER_AGENT = "posthouse"
"""By which rules of a Core can be kept for us."""
_USER_DATA_OCTETS = 1024
_METADATA_OCTETS = 4096
"""A header with more is refused by web servers before it is read."""
_METADATA_VALUE = 300
"""Characters."""
_PASSWORDS = 20
_PASSWORD = 200
"""Characters; a longer one opens nothing and would fill the header."""


def open_batch(key: Mapping[str, str], order: ScanOrder) -> HttpRequest:
    """A batch holds the items of one mail together: its page shows all of them."""
    user_data = {"user-data": _encoded(order.mail)[:_USER_DATA_OCTETS]}
    return HttpRequest("POST", "/file/batch", {**key, **_rule(order), **user_data})


def submit(key: Mapping[str, str], order: ScanOrder, batch: str, asked: Asked) -> HttpRequest:
    """The octets of one item as they are."""
    headers = {
        **key,
        **_rule(order),
        "batch": batch,
        "filename": _encoded(shown_name(asked.item)),
        "Content-Type": "application/octet-stream",
        **_metadata(order),
        **_passwords(order),
    }
    return HttpRequest("POST", "/file", headers, asked.octets)


def fetch_result(key: Mapping[str, str], data_id: str) -> HttpRequest:
    """Until it is finished."""
    return HttpRequest("GET", f"/file/{data_id}", key)


def fetch_sanitized(key: Mapping[str, str], data_id: str) -> HttpRequest:
    """The file in the place of the one submitted."""
    return HttpRequest("GET", f"/file/converted/{data_id}", {**key, "Accept": "*/*"})


def close_batch(key: Mapping[str, str], batch: str) -> tuple[HttpRequest, ...]:
    """No more files come."""
    return (HttpRequest("POST", f"/file/batch/{batch}/close", key),)


def cancel_batch(key: Mapping[str, str], batch: str) -> tuple[HttpRequest, ...]:
    """What is not finished need not be. The second is for a Core that does not know the first: newer ones have the
    path beside that of closing (inferred)."""
    return HttpRequest("POST", f"/file/{batch}/cancel", key), HttpRequest("POST", f"/file/batch/{batch}/cancel", key)


def shown_name(item: Item) -> str:
    """For people, and for Core's check of name against content; an item without a name gets none with a dot."""
    if item.names and item.names[0]:
        return item.names[0]
    return "mail.eml" if item.kind is ItemKind.MAIL else f"part-{item.path.replace('.', '-').replace('/', '-')}"


def _rule(order: ScanOrder) -> dict[str, str]:
    return {"user_agent": USER_AGENT, **({"rule": _encoded(order.core_rule)} if order.core_rule else {})}


def _metadata(order: ScanOrder) -> dict[str, str]:
    if not order.metadata:
        return {}
    text = json.dumps({name: value[:_METADATA_VALUE] for name, value in order.metadata.items()})
    return {"metadata": text} if len(text) <= _METADATA_OCTETS else {}


def _passwords(order: ScanOrder) -> dict[str, str]:
    """`archivepwd`, or `archivepwd1` and so on."""
    encoded = [_encoded(each) for each in islice(order.passwords, _PASSWORDS) if 0 < len(each) <= _PASSWORD]
    if len(encoded) == 1:
        return {"archivepwd": encoded[0]}
    return {f"archivepwd{number}": each for number, each in enumerate(encoded, 1)}


def _encoded(text: str) -> str:
    return quote(text, safe="", errors="replace")
