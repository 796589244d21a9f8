"""One mail whole, as every page of details tells it: from history, quarantine and failed emails alike.

Source: design 2.12.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

from posthouse.core.details_link import Link, LinkBase, batch_link, details_link
from posthouse.core.fields import name_key
from posthouse.ports import StoredProfile
from posthouse.web.problems import Problem
from posthouse.web.states import Waiting
from posthouse.web.tools import WebTools

Row = Mapping[str, object]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def found_mail(tools: WebTools, mail_id: str) -> Row:
    """As history has it; Problem 404."""
    found = tools.history.mail(mail_id) if _ID.fullmatch(mail_id) else None
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no mail of that id.")
    return found


def quarantined_mail(tools: WebTools, mail_id: str) -> Row:
    """Problem 404."""
    found = found_mail(tools, mail_id)
    if found.get("quarantine") is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no mail of that id in quarantine.")
    return found


def failed_mail(tools: WebTools, mail_id: str) -> Row:
    """Problem 404."""
    found = found_mail(tools, mail_id)
    if found.get("kept_since") is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no failed email of that id whose content is kept.")
    return found


def details(tools: WebTools, found: Row) -> dict[str, object]:
    """With `waits_for` of each queued recipient, and the links of each scan."""
    told = dict(found)
    recipients = rows(found, "recipients")
    if any(r["state"] == "queued" for r in recipients):
        waiting = Waiting(tools)
        told["recipients"] = [
            {**r, "waits_for": waiting.reason(str(r["profile"]))} if r["state"] == "queued" else r for r in recipients
        ]
    if scans := rows(found, "scans"):
        profiles = tools.inventory.load().profiles
        told["scans"] = [{**scan, **_links(scan, profiles)} for scan in scans]
    return told


def rows(document: Row, name: str) -> list[Row]:
    """A list of objects; empty if there is none."""
    value = document.get(name)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _links(scan: Row, profiles: tuple[StoredProfile, ...]) -> dict[str, object]:
    base, only = _base(str(scan["profile"]), profiles)
    server = str(scan["server"]) or only
    of_file = details_link(base, server, str(scan["data_id"]), str(scan["batch_id"]))
    of_batch = batch_link(base, server, str(scan["batch_id"]))
    warning = next((link.warning for link in (of_file, of_batch) if link and link.warning), None)
    return {"details_url": _url(of_file), "batch_url": _url(of_batch), "details_warning": warning}


def _url(link: Link | None) -> str | None:
    return link.url if link is not None else None


def _base(name: str, profiles: tuple[StoredProfile, ...]) -> tuple[LinkBase, str]:
    """Of the profile that has this name, or had it; and its server if it has but one, for what is told of none."""
    for wanted in (lambda p: [str(p.document["name"])], lambda p: list(p.former)):
        for profile in profiles:
            if name_key(name) in map(name_key, wanted(profile)):
                of = profile.document
                servers = of.get("servers")
                only = str(servers[0]) if isinstance(servers, list) and len(servers) == 1 else ""
                texts = [str(of.get(each, "")) for each in ("public_url", "details_pattern", "batch_pattern")]
                return LinkBase(*texts), only
    return LinkBase(), ""
