"""The REST app over stores in memory, with a key for each role and a few mails."""

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass, field
from typing import cast

from fastapi import FastAPI
from starlette.testclient import TestClient

from posthouse.core.inventory import apply_document
from posthouse.core.mail import MailId
from posthouse.core.owner import Start
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard
from posthouse.core.service_type import ServiceType
from posthouse.core.wire_form import wire_form
from posthouse.mailflow.profile_test import ProfileTest
from posthouse.ports import Acted, ServerRows, ServerState, WorkerState
from posthouse.settings import NodeSettings
from posthouse.web.server import create_app
from posthouse.web.tools import WebTools
from support.local_reader import LocalReader
from support.memory_stores import MemoryAccounts, MemoryClock, MemoryCommands, MemoryHistory, MemoryInventory

START = Start("n", "b")
ROLES = ("administrator", "operator", "auditor", "helpdesk")

INVENTORY: dict[str, object] = {
    "server_profiles": [
        {"name": "exchange", "type": "smtp", "servers": ["10.0.0.1", "10.0.0.2:2525"]},
        {"name": "archive", "type": "smtp", "servers": ["10.0.0.3"], "preference": "round-robin"},
    ],
    "rules": [
        {
            "name": "old",
            "enabled": False,
            "match": {"recipients": ["*@old.example"]},
            "relay": {"profile": "archive"},
        },
        {
            "name": "inbound",
            "match": {"clients": ["192.0.2.0/24"], "recipients": ["*@ours.example"]},
            "relay": {"profile": "exchange"},
        },
    ],
}


@functools.cache
def _data_dirs() -> str:
    """A folder that is gone when the process ends."""
    folder = tempfile.mkdtemp(prefix="posthouse-rest-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass
class ScriptedTester:
    """ports.ServerTester: every server is good but those in `refusing`; records what was tested."""

    refusing: set[str] = field(default_factory=set)
    tested: list[tuple[ServerProfile, str, Inquiry | None]] = field(default_factory=list)

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        self.tested.append((profile, server, inquiry))
        resolved = StageResult(StageName.RESOLVE, True, 0.0004, {"addresses": ["10.0.0.1"]})
        told([resolved])
        if server in self.refusing:
            return resolved, failed(StageName.CONNECT, 0.25, "connection refused", {"tried": []})
        return resolved, StageResult(StageName.QUIT, True, 0.1, {}, ("C: QUIT", "S: 221 \x1b[2Jbye"))


@dataclass
class Rest:
    """One app and all behind it."""

    clock: MemoryClock = field(default_factory=MemoryClock)
    inventory: MemoryInventory = field(default_factory=MemoryInventory)
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)
    commands: MemoryCommands = field(default_factory=MemoryCommands)
    history: MemoryHistory = field(default_factory=MemoryHistory)
    settings: NodeSettings = field(
        default_factory=lambda: NodeSettings(hostname="mx.test", data_dir=tempfile.mkdtemp(dir=_data_dirs()))
    )
    hosts: tuple[str, ...] = ()
    wait_seconds: float = 0.0
    secrets: dict[str, str] = field(default_factory=dict)
    tester: ScriptedTester = field(default_factory=lambda: ScriptedTester())
    reader: LocalReader = field(default_factory=LocalReader)

    def __post_init__(self) -> None:
        profiles, rules, faults = apply_document([], [], INVENTORY, prune=False)
        assert not faults, faults
        self.inventory.replace(profiles, rules, expected_revision=0, by="test", now=self.clock.now())
        for role in ROLES:
            _, self.secrets[role] = self.accounts.create_key(name=role, role=role, by="test", now=self.clock.now())
        for name, role in (("Root", "administrator"), ("ann", "operator")):
            password = f"the password of {name}"
            self.accounts.add_user(name=name, role=role, password=password, by="test", now=self.clock.now())
        self.heartbeat("n/0/b")
        self.commands.obey = lambda command: Acted(len(command.mails), command.mails)
        for number in range(3):
            self.history.mails.append(mail(number, self.clock.now()))
        self.history.waiting.append(
            {"profile": "exchange", "queued": 2, "held": 1, "oldest_at": self.clock.now() - 60, "next_due": None}
        )

    def heartbeat(self, worker: str, **facts: object) -> None:
        self.commands.heartbeat(WorkerState(worker, self.clock.now(), {"received": 3, "sessions": 1, **facts}))

    def knows(self, worker: str, profile: str, server: str, **facts: object) -> None:
        """A live worker's row of a server; what `facts` leave out is as at rest."""
        circuit = {"phase": "closed", "reason": "", "since": self.clock.now(), "next_probe": None, "faults": 0}
        known: dict[str, object] = {
            "endpoint": circuit,
            "identity": circuit,
            "login_locked_until": None,
            "not_now": "",
            "in_use": 0,
            "limit": 10,
            "ceiling": 10,
            "relayed": 0,
            "served_at": None,
            "last_fault": "",
            "last_fault_at": None,
            "pool": {"idle": 0, "fresh": 0, "reused": 0, "stale": 0, "opened": 0},
            **facts,
        }
        row = ServerState(worker, profile, server, self.clock.now(), known)
        state = WorkerState(worker, self.clock.now(), {"received": 3, "sessions": 1})
        self.commands.heartbeat(state, ServerRows((row,)))

    def scans(self, worker: str, profile: str, server: str, **facts: object) -> None:
        """A live worker's row of a scan server, as `ScanServers.facts` makes it."""
        circuit = {"phase": "closed", "reason": "", "since": self.clock.now(), "next_probe": None, "faults": 0}
        known: dict[str, object] = {
            "endpoint": circuit,
            "identity": circuit,
            "not_now": "",
            "in_use": 0,
            "scanned": 0,
            "last_errors": [],
            "served_at": None,
            "last_fault": "",
            "last_fault_at": None,
            **facts,
        }
        row = ServerState(worker, profile, server, self.clock.now(), known)
        state = WorkerState(worker, self.clock.now(), {"received": 3, "sessions": 1})
        self.commands.heartbeat(state, ServerRows((row,)))

    def circuit(self, reason: str, *, phase: str = "open", next_probe: float | None = None) -> dict[str, object]:
        """For `knows`: a circuit that is not closed."""
        return {
            "phase": phase,
            "reason": reason,
            "since": self.clock.now(),
            "next_probe": next_probe,
            "faults": 3,
        }

    @property
    def tools(self) -> WebTools:
        return WebTools(
            self.inventory,
            self.accounts,
            self.commands,
            self.history,
            self.clock,
            self.settings,
            START,
            "1.2.3",
            self.hosts,
            self.wait_seconds,
            ProfileTest(dict.fromkeys(ServiceType, self.tester), "mx.test"),
            self.reader,
        )

    def keeps(self, mail_id: str, content: bytes, *, failed: bool = False, **more: object) -> dict[str, object]:
        """A mail more, in quarantine or failed, with its content (plain form); `more` is laid over it."""
        known = kept_mail(mail_id, self.clock.now(), failed=failed)
        self.history.mails.append({**known, **more})
        self.history.contents[mail_id, None] = wire_form(content)
        return self.history.mails[-1]

    def app(self) -> FastAPI:
        return create_app(self.tools)

    def client(self, role: str | None = "administrator") -> TestClient:
        """Bugs become answers 500 here, as for real clients."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.secrets[role]}"}
        return TestClient(
            self.app(), base_url="http://127.0.0.1:8025", headers=headers, raise_server_exceptions=False
        )

    def with_live(self, *workers: str) -> "Rest":
        """The same with exactly these live workers."""
        self.commands.live = []
        for worker in workers:
            self.heartbeat(worker)
        return self


def kept_mail(mail_id: str, now: float, *, failed: bool) -> dict[str, object]:
    """One in quarantine, or a failed email whose sender was told, as history gives it."""
    known = mail(0, now)
    recipient = {
        **cast(list[dict[str, object]], known["recipients"])[0],
        "state": "failed" if failed else "quarantined",
        "detail": "550 5.1.1 no such user" if failed else "Eicar-Test-Signature",
    }
    row = {
        "at": now,
        "cause": "blocked",
        "why": "Eicar-Test-Signature",
        "rule": "inbound",
        "expires_at": now + 2592000.0,
        "pinned": False,
    }
    scan = {
        "n": 0,
        "at": now,
        "rule": "inbound",
        "profile": "core",
        "server": "http://10.0.1.1:8008",
        "path": "2",
        "part": "2",
        "name": "eicar.com",
        "size": 68,
        "sha256": "ab" * 32,
        "verdict": "blocked",
        "threat": "Eicar-Test-Signature",
        "reason": "",
        "failure": "",
        "data_id": "d1",
        "batch_id": "b1",
        "cached": False,
        "engines": [["ClamAV", "infected", "Eicar-Test-Signature"]],
    }
    told = {"at": now, "kind": "dsn", "detail": {"kind": "failure", "mail": "01dsn", "recipients": [0]}}
    return {
        **known,
        "id": MailId(mail_id),
        "open": False,
        "status": recipient["state"],
        "recipients": [recipient],
        "verdict": "" if failed else "blocked",
        "scans": [] if failed else [scan],
        "uploads": [],
        "quarantine": None if failed else row,
        "kept_since": now if failed else None,
        "trail": [*cast(list[dict[str, object]], known["trail"]), *([told] if failed else [])],
    }


def mail(number: int, now: float) -> dict[str, object]:
    """One mail as history gives it: the second is waiting, the others are relayed."""
    state = "queued" if number == 1 else "relayed"
    address = f"user{number}@ours.example"
    return {
        "id": MailId(f"01mail{number:04d}"),
        "received_at": now - 100 + number,
        "session": {
            "client_address": "192.0.2.7",
            "client_port": 1234,
            "helo": "mx.example.net",
            "protocol": "ESMTP",
            "listener": "127.0.0.1:2525",
            "tls": "",
            "trusted": False,
            "peer_address": "",
        },
        "reverse_path": f"sender{number}@example.net",
        "body": "",
        "smtputf8": False,
        "ret": "",
        "envid": "",
        "size": 1234,
        "subject": f"Offer {number}",
        "message_id": f"<{number}@example.net>",
        "own": False,
        "open": state == "queued",
        "status": state,
        "recipient_count": 1,
        "recipients": [
            {
                "seq": 0,
                "address": address,
                "rule": "inbound",
                "profile": "exchange",
                "state": state,
                "due_at": now + 60,
                "tries": 1,
                "detail": "451 4.7.1 busy" if state == "queued" else "250 2.0.0 ok",
            }
        ],
        "contents": [{"version": 0, "kind": "inline", "size": 1234}],
        "attempts": [
            {
                "started_at": now - 99 + number,
                "seconds": 0.25,
                "profile": "exchange",
                "server": "smtp://10.0.0.1:25",
                "order": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"],
                "outcome": "transient" if state == "queued" else "relayed",
                "summary": "451 4.7.1 busy" if state == "queued" else "250 2.0.0 ok",
                "replies": [[0, "transient", "451 4.7.1 busy"]]
                if state == "queued"
                else [[0, "relayed", "250 2.0.0 ok"]],
                "transcript": ["< 220 next", "> MAIL FROM:<sender@example.net>", "< 451 4.7.1 busy"]
                if state == "queued"
                else [],
                "marks": [],
                "way": {
                    "local": "10.0.0.9:40001",
                    "remote": "10.0.0.1:25",
                    "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
                    "certificate": "verified",
                    "login": "relay",
                },
                "mail_number": 3,
            }
        ],
        "trail": [
            {"at": now - 100 + number, "kind": "received", "detail": {"reply": "250 2.0.0 queued as 01mail"}},
            {
                "at": now - 100 + number,
                "kind": "matched",
                "detail": {
                    "recipients": [
                        {
                            "seq": 0,
                            "address": address,
                            "rule": "inbound",
                            "profile": "exchange",
                            "reasons": [{"rule": "old", "why": "disabled"}, {"rule": "inbound", "why": "matched"}],
                        }
                    ]
                },
            },
        ],
    }
