"""The console's ports in memory: for tests of REST and CLI, where only the contract of `ports.py` matters."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock

from posthouse.core.drain import Drain, after_change, drains_in, lost_drains
from posthouse.core.fields import Secret, name_key
from posthouse.core.inventory import diff, former_names, respelt, secrets_replaced
from posthouse.core.kept_secret import Secrets
from posthouse.core.mail import MailId
from posthouse.core.owner import Start
from posthouse.core.past_mail import PastMail, PastRecipient
from posthouse.core.profile import KEPT, SECRET_FIELDS
from posthouse.core.profile_mark import Mark, mark_after, saved_untested
from posthouse.ports import (
    Acted,
    AuditFilter,
    CommandProgress,
    KeptQuery,
    Key,
    LastAdministrator,
    MailQuery,
    NameTaken,
    NoSuchServer,
    QueueCommand,
    RevisionConflict,
    Rotated,
    ServerRows,
    ServerState,
    StoredInventory,
    StoredProfile,
    User,
    UserChanged,
    WorkerState,
)


@dataclass
class MemoryClock:
    """A clock that stands still until a test moves it."""

    epoch: float = 1_764_000_000.0
    steady: float = 0.0

    def now(self) -> float:
        return self.epoch

    def monotonic(self) -> float:
        return self.steady


@dataclass
class MemoryInventory:
    """ports.InventoryStore."""

    stored: StoredInventory = field(default_factory=lambda: StoredInventory(0, (), ()))
    rows: list[Mapping[str, object]] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)
    texts: dict[str, str] = field(default_factory=dict)
    """Of stored secrets, by id."""

    def load(self) -> StoredInventory:
        return self.stored

    def revision(self) -> int:
        return self.stored.revision

    def replace(
        self,
        profiles: Sequence[Mapping[str, object]],
        rules: Sequence[Mapping[str, object]],
        *,
        expected_revision: int,
        by: str,
        now: float,
        secrets: Secrets | None = None,
        what: str = "inventory changed",
        tested: Mapping[str, Mark] | None = None,
        renamed: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> int:
        with self.lock:
            if expected_revision != self.stored.revision:
                raise RevisionConflict
            before = {str(p.document["name"]): p for p in self.stored.profiles}
            new = [self._stored(document, before, secrets or {}) for document in profiles]
            old = [(p.document, p.secrets) for p in self.stored.profiles]
            unordered = [
                {str(d["name"]): (d, s) for d, s in each} for each in (old, [(p.document, p.secrets) for p in new])
            ]
            if unordered[0] == unordered[1] and list(self.stored.rules) == list(rules):
                return self.stored.revision
            revision = self.stored.revision + 1
            renamed = {**respelt(before, [str(document["name"]) for document in profiles]), **(renamed or {})}
            former = former_names(
                [(name, p.former) for name, p in before.items()],
                renamed,
                [str(document["name"]) for document in profiles],
            )
            was = {name_key(renamed.get(name, name)): p for name, p in before.items()}
            kept = [
                replace(
                    p,
                    revision=p.revision or revision,
                    former=former.get(_key(p), ()),
                    tested=_mark(p, was.get(_key(p)), (tested or {}).get(_key(p)), by, now, revision),
                )
                for p in new
            ]
            moved = [replace(d, profile=renamed.get(d.profile, d.profile)) for d in self.stored.drains]
            drains, lost = after_change(moved, [p.document for p in kept], now)
            differences = (
                *diff([document for document, _ in old], self.stored.rules, profiles, rules, renamed),
                *secrets_replaced(old, [(p.document, p.secrets) for p in new], renamed),
            )
            self.stored = StoredInventory(revision, tuple(kept), tuple(rules), tuple(drains))
            detail = {
                "revision": revision,
                "changes": [difference.json() for difference in differences],
                **lost_drains(lost),
                **saved_untested(profiles, tested or {}, reason),
            }
            self.note(by=by, what=what, detail=detail, now=now)
            return revision

    def mark(self, name: str, was: Mark | None, mark: Mark) -> bool:
        with self.lock:
            found = [p for p in self.stored.profiles if p.document["name"] == name and p.tested == was]
            marked = tuple(replace(p, tested=mark) if p in found else p for p in self.stored.profiles)
            self.stored = replace(self.stored, profiles=marked)
            return bool(found)

    def drain(self, drain: Drain) -> Drain | None:
        if not any(drains_in(p.document, [drain]) for p in self.stored.profiles):
            raise NoSuchServer
        for known in self.stored.drains:
            if drain.repeats(known):
                return known
        return self._drained(drain.profile, drain.server, drain, drain.by, drain.at)

    def undrain(self, profile: str, server: str, *, by: str, now: float) -> Drain | None:
        return self._drained(profile, server, None, by, now)

    def _drained(self, profile: str, server: str, after: Drain | None, by: str, now: float) -> Drain | None:
        others = [d for d in self.stored.drains if (d.profile, d.server) != (profile, server)]
        found = [d for d in self.stored.drains if d not in others and d.holds(now)]
        if found or after:
            drains = (*others, *([after] if after else []))
            self.stored = replace(self.stored, revision=self.stored.revision + 1, drains=drains)
            self.note(by=by, what="server drained" if after else "server undrained", detail={}, now=now)
        return found[0] if found else None

    def note(self, *, by: str, what: str, detail: Mapping[str, object], now: float) -> None:
        self.rows.insert(0, {"id": len(self.rows) + 1, "at": now, "by": by, "what": what, "detail": detail})

    def _stored(
        self, document: Mapping[str, object], before: Mapping[str, StoredProfile], secrets: Secrets
    ) -> StoredProfile:
        """At revision 0 if it is not as it was."""
        old = before.get(str(document["name"]))
        kept: dict[str, Secret] = {}
        for name in [name for name in SECRET_FIELDS if document.get(name) == KEPT]:
            given = secrets.get(name_key(str(document["name"])), {}).get(name)
            was = old.secrets.get(name) if old is not None else None
            if given is not None and given.source == "stored":
                was = given
            elif given is not None and not (was is not None and self.same_secret(was, given.value)):
                self.texts[str(len(self.texts))] = given.value
                was = Secret("stored", str(len(self.texts) - 1), "a token")
            assert was is not None
            kept[name] = was
        same = old is not None and (old.document, old.secrets) == (document, kept)
        return old if old is not None and same else StoredProfile(document, 0, kept)

    def same_secret(self, stored: Secret, text: str) -> bool:
        return self.texts[stored.value] == text

    def rotate_secrets(self, *, by: str, now: float) -> Rotated:
        return Rotated(len(self.texts), "memory", 0)

    def audit(self, limit: int, before: int | None, wanted: AuditFilter | None = None) -> list[Mapping[str, object]]:
        asked = wanted or AuditFilter()
        return [
            row
            for row in self.rows
            if (before is None or int(str(row["id"])) < before)
            and all(
                part.lower() in (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)).lower()
                for part, text in ((asked.by, row["by"]), (asked.what, row["what"]), (asked.about, row["detail"]))
            )
            and (asked.since is None or float(str(row["at"])) >= asked.since)
            and (asked.until is None or float(str(row["at"])) < asked.until)
        ][:limit]

    def audit_row(self, number: int) -> Mapping[str, object] | None:
        return next((row for row in self.rows if row["id"] == number), None)

    def forget_audit(self, before: float, most: int) -> int:
        old = [row for row in reversed(self.rows) if float(str(row["at"])) < before][:most]
        self.rows = [row for row in self.rows if row not in old]
        return len(old)


@dataclass
class MemoryAccounts:
    """ports.Accounts; `done` has what would be audited, and who did it."""

    by_hash: dict[str, Key] = field(default_factory=dict)
    by_name: dict[str, tuple[User, str]] = field(default_factory=dict)
    """Users and their passwords, by `name_key`."""
    done: list[tuple[str, str]] = field(default_factory=list)

    def create_key(self, *, name: str, role: str, by: str, now: float) -> tuple[Key, str]:
        number = len(self.by_hash) + 1
        secret = f"ph_{number:043d}"
        key = Key(f"k{number}", name, role, now)
        self.by_hash[_hash(secret)] = key
        self.done.append(("key created", by))
        return key, secret

    def keys(self) -> list[Key]:
        return list(self.by_hash.values())

    def revoke_key(self, key_id: str, *, by: str, now: float) -> Key | None:
        for digest, key in self.by_hash.items():
            if key.id == key_id and key.revoked_at is None:
                self.by_hash[digest] = replace(key, revoked_at=now)
                self.done.append(("key revoked", by))
                return self.by_hash[digest]
        return None

    def authenticate(self, secret: str) -> Key | None:
        key = self.by_hash.get(_hash(secret))
        return key if key is not None and key.revoked_at is None else None

    def users(self) -> list[User]:
        return [self.by_name[key][0] for key in sorted(self.by_name)]

    def add_user(self, *, name: str, role: str, password: str, by: str, now: float) -> User:
        if name_key(name) in self.by_name:
            raise NameTaken(name)
        self.by_name[name_key(name)] = (User(name, role, now), password)
        self.done.append(("user added", by))
        return self.by_name[name_key(name)][0]

    def change_user(self, old: User, *, name: str, role: str, by: str, now: float) -> User:
        self._check(old, gone=role != "administrator")
        if name_key(name) != name_key(old.name) and name_key(name) in self.by_name:
            raise NameTaken(name)
        _, password = self.by_name.pop(name_key(old.name))
        self.by_name[name_key(name)] = (User(name, role, old.created_at), password)
        self.done.append(("user changed", by))
        return self.by_name[name_key(name)][0]

    def set_password(self, name: str, password: str, *, by: str, now: float) -> bool:
        if name_key(name) not in self.by_name:
            return False
        self.by_name[name_key(name)] = (self.by_name[name_key(name)][0], password)
        self.done.append(("password set", by))
        return True

    def remove_user(self, old: User, *, by: str, now: float, last_too: bool = False) -> None:
        self._check(old, gone=not last_too)
        del self.by_name[name_key(old.name)]
        self.done.append(("user removed", by))

    def verify_user(self, name: str, password: str) -> User | None:
        user, stored = self.by_name.get(name_key(name), (None, None))
        return user if stored == password else None

    def _check(self, old: User, *, gone: bool) -> None:
        if self.by_name.get(name_key(old.name), (None, ""))[0] != old:
            raise UserChanged
        others = [user for user in self.users() if user != old and user.role == "administrator"]
        if gone and old.role == "administrator" and not others:
            raise LastAdministrator


@dataclass
class MemoryCommands:
    """ports.Commands; `obey` plays all live workers when a command is submitted."""

    live: list[WorkerState] = field(default_factory=list)
    submitted: list[QueueCommand] = field(default_factory=list)
    reports: dict[int, dict[str, Acted]] = field(default_factory=dict)
    obey: Callable[[QueueCommand], Acted] | None = None
    servers: list[ServerState] = field(default_factory=list)

    def submit(self, command: QueueCommand, now: float) -> int:
        number = len(self.submitted) + 1
        self.submitted.append(replace(command, id=number))
        self.reports[number] = {}
        if self.obey is not None:
            for worker in self.live:
                self.report(worker.worker, number, self.obey(command), now)
        return number

    def pending(self, worker: str, since: float) -> list[QueueCommand]:
        return [command for command in self.submitted if worker not in self.reports[command.id]]

    def report(self, worker: str, command_id: int, acted: Acted, now: float) -> None:
        self.reports[command_id][worker] = acted

    def progress(self, command_id: int, now: float) -> CommandProgress:
        reports = self.reports[command_id].values()
        mails = tuple(mail for acted in reports for mail in acted.mails)
        return CommandProgress(len(self.workers(now)), len(reports), sum(a.recipients for a in reports), mails)

    def begin(self, start: Start) -> None:
        self.live = [worker for worker in self.live if Start.of(worker.worker).node != start.node]
        self.servers = [row for row in self.servers if Start.of(row.worker).node != start.node]

    def heartbeat(self, state: WorkerState, servers: ServerRows = ServerRows()) -> None:
        self.live = [worker for worker in self.live if worker.worker != state.worker] + [state]
        fresh = {(row.worker, row.profile, row.server) for row in servers.rows}
        self.servers = [
            row
            for row in self.servers
            if (row.worker, row.profile, row.server) not in fresh and not (servers.all and row.worker == state.worker)
        ] + list(servers.rows)

    def workers(self, now: float) -> list[WorkerState]:
        return [worker for worker in self.live if now - worker.at < 15]

    def server_states(self, now: float) -> list[ServerState]:
        alive = {worker.worker for worker in self.workers(now)}
        found = [row for row in self.servers if row.worker in alive]
        return sorted(found, key=lambda row: (row.profile, row.server, row.worker))


@dataclass
class MemoryHistory:
    """ports.History over dicts shaped as the storage gives them."""

    mails: list[dict[str, object]] = field(default_factory=list)
    waiting: list[Mapping[str, object]] = field(default_factory=list)
    asked: list[MailQuery] = field(default_factory=list)
    asked_kept: list[KeptQuery] = field(default_factory=list)
    contents: dict[tuple[str, int | None], bytes] = field(default_factory=dict)
    """What `kept_content` gives, by mail and version."""

    def search(self, query: MailQuery) -> list[Mapping[str, object]]:
        self.asked.append(query)
        found: list[Mapping[str, object]] = [mail for mail in self.mails if _matches(mail, query)]
        return sorted(found, key=lambda mail: str(mail["id"]), reverse=True)[: query.limit]

    def mail(self, mail_id: str) -> Mapping[str, object] | None:
        return next((mail for mail in self.mails if mail["id"] == mail_id), None)

    def past_mails(self, limit: int, before: str = "") -> list[PastMail]:
        found = sorted(
            (mail for mail in self.mails if not mail["own"]), key=lambda mail: str(mail["id"]), reverse=True
        )
        return [_past(mail) for mail in found if not before or str(mail["id"]) < before][:limit]

    def quarantined(self, query: KeptQuery) -> list[Mapping[str, object]]:
        return self._kept(query, [mail for mail in self.mails if _is_wanted(mail.get("quarantine"), query)])

    def failed(self, query: KeptQuery) -> list[Mapping[str, object]]:
        return self._kept(query, [mail for mail in self.mails if mail.get("kept_since") is not None])

    def _kept(self, query: KeptQuery, mails: list[dict[str, object]]) -> list[Mapping[str, object]]:
        self.asked_kept.append(query)
        asked = MailQuery(query.sender, query.recipient, query.subject, before=query.before)
        found: list[Mapping[str, object]] = [mail for mail in mails if _matches(mail, asked)]
        return sorted(found, key=lambda mail: str(mail["id"]), reverse=True)[: query.limit]

    def kept_content(self, mail_id: str, version: int | None = None) -> Iterator[bytes] | None:
        found = self.contents.get((mail_id, version))
        return iter([found]) if found is not None else None

    def queue(self) -> list[Mapping[str, object]]:
        return self.waiting


def _is_wanted(quarantine: object, query: KeptQuery) -> bool:
    return (
        isinstance(quarantine, dict)
        and (not query.rule or quarantine["rule"] == query.rule)
        and (not query.cause or quarantine["cause"] == query.cause)
        and (query.pinned is None or quarantine["pinned"] == query.pinned)
        and (query.since is None or quarantine["at"] >= query.since)
        and (query.until is None or quarantine["at"] < query.until)
    )


def _past(mail: Mapping[str, object]) -> PastMail:
    session, recipients = mail["session"], mail["recipients"]
    assert isinstance(session, dict)
    assert isinstance(recipients, list)
    return PastMail(
        MailId(str(mail["id"])),
        float(str(mail["received_at"])),
        session["client_address"],
        str(mail["reverse_path"]),
        tuple(PastRecipient(r["address"], r["rule"], r["profile"]) for r in recipients),
    )


def _matches(mail: Mapping[str, object], query: MailQuery) -> bool:
    recipients = mail["recipients"]
    assert isinstance(recipients, list)
    at = float(str(mail["received_at"]))
    return (
        (not query.before or str(mail["id"]) < query.before)
        and query.sender.lower() in str(mail["reverse_path"]).lower()
        and query.subject.lower() in str(mail["subject"]).lower()
        and any(query.recipient.lower() in str(r["address"]).lower() for r in recipients)
        and (not query.status or any(r["state"] == query.status for r in recipients))
        and (not query.rule or any(r["rule"] == query.rule for r in recipients))
        and (query.since is None or at >= query.since)
        and (query.until is None or at < query.until)
    )


def _key(profile: StoredProfile) -> str:
    return name_key(str(profile.document["name"]))


def _mark(
    profile: StoredProfile, was: StoredProfile | None, given: Mark | None, by: str, now: float, revision: int
) -> Mark:
    return mark_after(
        given,
        (was.document, was.tested) if was is not None else None,
        profile.document,
        same_secrets=was is not None and was.secrets == profile.secrets,
        by=by,
        at=now,
        revision=revision,
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
