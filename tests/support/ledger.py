"""Bookkeeping of a drill: acknowledged mails (in a file, synced before they count), arrivals, and the difference.

A mail is known by its queue id: the one in the 250 to content, and in our Received field at the next hop.
"""

import os
import random
import re
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from support.contents import queue_id
from support.recording import Recorder, Taken

SMALL, HELD, LARGE = 4 * 1024, 400 * 1024, 1400 * 1024
"""Octets: content kept in the database, in a file written by the commit, in a file written as it comes."""
_KEY = re.compile(rb"\r\nMessage-ID: <([a-z0-9-]+)\.([0-9]+)@drill\.test>\r\n")


def drill_mail(key: str, size: int) -> bytes:
    """The content that belongs to a key; about `size` octets, never the same for two keys."""
    head = f"Subject: drill {key}\r\nMessage-ID: <{key}.{size}@drill.test>\r\n\r\n".encode()
    line = random.Random(key).randbytes(36).hex().encode() + b"\r\n"
    return head + b"..\r\n" + line * (size // len(line)) + b"end of " + key.encode() + b"\r\n"


class Ledger:
    """Acknowledged mails; written and synced by the sender before it counts them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self.acknowledged: dict[str, tuple[str, ...]] = {}
        """Recipients by queue id."""
        self.keys: dict[str, str] = {}
        """Which content was acknowledged, by queue id."""

    def acknowledge(self, mail_id: str, key: str, recipients: Sequence[str]) -> None:
        with self._lock:
            self._file.write(f"{mail_id} {key} {','.join(recipients)}\n".encode())
            os.fsync(self._file.fileno())
            assert mail_id not in self.acknowledged, f"two mails with the id {mail_id}"
            self.acknowledged[mail_id] = tuple(recipients)
            self.keys[mail_id] = key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One mail taken by the next hop."""

    at: float
    """Seconds of the monotonic clock."""
    mail_id: str
    recipients: tuple[str, ...]
    key: str
    """Of the content."""
    whole: bool
    """The content is the one that belongs to its key, to the last octet."""


@dataclass
class Arrivals(Recorder):
    """A recorder that keeps no contents."""

    arrivals: list[Arrival] = field(default_factory=list)

    def take(self, taken: Taken) -> None:
        key = _KEY.search(taken.content)
        whole = key is not None and taken.content.endswith(drill_mail(key[1].decode(), int(key[2])))
        name = key[1].decode() if key is not None else ""
        self.arrivals.append(Arrival(time.monotonic(), queue_id(taken.content), taken.recipients, name, whole))


@dataclass(frozen=True, slots=True)
class Account:
    """What the set arithmetic says at the end."""

    acknowledged: int
    arrived: int
    """Different mails at the next hop."""
    unacknowledged: int
    """Arrived though the sender saw no 250: the connection broke in between."""
    lost: tuple[tuple[str, str], ...]
    """(queue id, recipient) acknowledged and never arrived."""
    damaged: tuple[str, ...]
    """Arrived with octets that were not sent, or with another mail's content."""
    duplicates: dict[str, tuple[float, ...]]
    """Times of arrival of each mail that arrived more than once."""


def settle(ledger: Ledger, arrivals: Sequence[Arrival]) -> Account:
    """Compares the ledger with what arrived. Call it once the queue is empty."""
    got = Counter((arrival.mail_id, recipient) for arrival in arrivals for recipient in arrival.recipients)
    owed = {(mail_id, recipient) for mail_id, to in ledger.acknowledged.items() for recipient in to}
    ids = {arrival.mail_id for arrival in arrivals}
    twice = {mail_id for (mail_id, _), times in got.items() if times > 1}
    return Account(
        acknowledged=len(ledger.acknowledged),
        arrived=len(ids),
        unacknowledged=len(ids - ledger.acknowledged.keys()),
        lost=tuple(sorted(owed - got.keys())),
        damaged=tuple(
            sorted(
                arrival.mail_id
                for arrival in arrivals
                if not arrival.whole or ledger.keys.get(arrival.mail_id, arrival.key) != arrival.key
            )
        ),
        duplicates={
            mail_id: tuple(sorted(arrival.at for arrival in arrivals if arrival.mail_id == mail_id))
            for mail_id in sorted(twice)
        },
    )


def send_one(client: smtplib.SMTP, key: str, size: int, recipients: Sequence[str], ledger: Ledger) -> tuple[int, str]:
    """One mail in an open session; acknowledged in the ledger on 250. The decisive reply; OSError or
    SMTPException if the connection breaks."""
    content = drill_mail(key, size)
    client.ehlo_or_helo_if_needed()
    code, text = client.mail("drill@sender.test", [f"SIZE={len(content)}"])
    for recipient in recipients:
        if code == 250:
            code, text = client.rcpt(recipient)
    if code != 250:
        client.rset()
        return code, text.decode()
    try:
        code, text = client.data(content)
    except smtplib.SMTPDataError as refusal:
        return refusal.smtp_code, str(refusal.smtp_error)
    if code == 250:
        ledger.acknowledge(text.decode().rpartition(" ")[2], key, recipients)
    return code, text.decode()
