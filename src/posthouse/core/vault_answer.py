"""What a vault answers while it is given attachments. Pure; of its bodies nothing is repeated in sentences.

Each reading gives what was asked for, or a Refusal. Whatever is odd is one: an attachment that is only believed to be
in the vault would be lost.
Standards: REST API of Vault (October 2019), "File Upload"; RFC 3986 section 2.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from posthouse.core.http_ladder import TOO_LONG, Answer, refused

MOST_URL = 2000
"""Characters of a link; mail programs cut longer ones."""
NOT_KEPT = "the vault does not tell where it keeps every attachment"

_ID = re.compile(r"[0-9A-Za-z_.-]{1,100}")
"""Goes back to the vault in a header field and in a path."""
_URL = re.compile(r"https?://[0-9A-Za-z\[%._~:/?#\]@!$&'()*+,;=-]+", re.IGNORECASE)
"""What else there is has no place in a URI, and could end a link in a mail."""
_LATER = (408, 417, 425, 429)
"""417: the vault cannot reach its directory server. The documents know no 429, but a proxy before it does."""
_SENTENCES: Mapping[int, str] = {
    400: "the vault finds the request bad (400): look in its log why; the user of the API key may be in no group or"
    " in several groups that may upload, or the expiry is longer than the vault allows",
    401: "the vault misses a header parameter or finds it invalid (401), which is no matter of the API key: see that"
    " no proxy before it drops header fields with an underscore, else report this as a fault of posthouse",
    404: "the vault does not know what is asked for (404): check path and port in the server specification",
    413: "the vault, or a proxy before it, takes no chunk of that size (413): let it take 8 MiB",
    417: "the vault cannot reach its directory server (417)",
    429: "the vault wants to be asked later (429)",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """No upload, in one sentence."""

    why: str
    again: bool
    """Later it may go well; else an administrator has to mend something."""


def refusal(answer: Answer, *, opened: bool) -> Refusal | None:
    """What an answer says by its status; None if it is a success. `opened`: the transfer, by step 1.

    401 is a header parameter, not the key (403).
    """
    status = answer.status
    if 200 <= status < 300:
        return None if answer.whole else Refusal(TOO_LONG, again=True)
    if 300 <= status < 400:
        why = f"the vault redirects ({status}), which is not followed: correct the server specification"
        return Refusal(why, again=False)
    if status == 403:
        why = f"{refused(status)}: it is wrong or has expired, or its user may not upload; enter a new one"
        return Refusal(why, again=False)
    if status == 404 and opened:
        # Restarted or cleaned up; or it did the last step, and the answer was lost with its connection.
        return Refusal("the vault knows the transfer no more (404)", again=True)
    why = _SENTENCES.get(status, f"the vault answers {status}")
    return Refusal(why, again=status >= 500 or status in _LATER)


def group_opened(answer: Answer, group: str) -> Refusal | None:
    """Step 1, `{"group_id": ...}`: it must be the group that was asked for; newer vaults write it without hyphens."""
    if (fault := refusal(answer, opened=False)) is not None:
        return fault
    told = _object(answer).get("group_id")
    try:
        same = isinstance(told, str) and len(told) <= 64 and UUID(told) == UUID(group)
    except ValueError:
        same = False
    return None if same else Refusal("the vault did not open the transfer that was asked for", again=True)


def file_opened(answer: Answer, before: Sequence[str]) -> str | Refusal:
    """Step 2, `{"file_id": ...}`: the id, which must be none of those `before`."""
    if (fault := refusal(answer, opened=True)) is not None:
        return fault
    told = _object(answer).get("file_id")
    if isinstance(told, str) and _ID.fullmatch(told) and told.strip(".") and told not in before:
        return told
    return Refusal("the vault gave an attachment no id, or one that cannot be", again=True)


def done(answer: Answer) -> Refusal | None:
    """Steps 3 and 4, `{"result": "success"}`. For a chunk the documents show no body: only another result is odd."""
    if (fault := refusal(answer, opened=True)) is not None:
        return fault
    result = _object(answer).get("result", "success")
    well = isinstance(result, str) and result.lower() == "success"
    return None if well else Refusal("the vault says that it has not kept an attachment", again=True)


def links(answer: Answer, files: Sequence[str]) -> tuple[str, ...] | Refusal:
    """Step 5, `{"files": [{"file_id": ..., "file_url": ...}]}`: the links, in the order of `files` (their ids).

    Every file once and no other; the vault may tell them in any order.
    """
    if (fault := refusal(answer, opened=True)) is not None:
        return fault
    told = _object(answer).get("files")
    found: dict[str, str] = {}
    for each in told if isinstance(told, list) and len(told) == len(files) else ():
        file, url = (each.get("file_id"), each.get("file_url")) if isinstance(each, dict) else (None, None)
        if isinstance(file, str) and isinstance(url, str) and is_link(url):
            found[file] = url
    if found.keys() != set(files):
        return Refusal(NOT_KEPT, again=True)
    return tuple(found[file] for file in files)


def is_link(url: str) -> bool:
    """An http or https URI of bounded length with a host, without user info, that can stand in a mail."""
    if len(url) > MOST_URL or not _URL.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def _object(answer: Answer) -> Mapping[str, object]:
    """Empty if it is none. RecursionError: a body may be nested as deep as it is long."""
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
