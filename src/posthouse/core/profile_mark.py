"""The mark of a server profile: what came of its last TEST, or that it has had none, by whom and why.

A profile that is added or changed is tested first, unless what changed cannot make a server fail (`needs_test`). One
that comes from a file is validated only: it is `untested` and due for a test in the background. One that was saved by
force is `untested`, too, and stays so until somebody tests it.
Standards: seed 3.7 ("If the test fails, then the server profile can not be added"); design 2.11.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from posthouse.core.fields import name_key
from posthouse.core.profile_test import ProfileResult

Document = Mapping[str, object]

UNTESTED_PROPERTIES = frozenset({"name", "preference", "pool", "public_url", "details_pattern", "batch_pattern"})
"""Properties that no server is asked about: what is changed in them needs no test."""


_LOGIN_REFUSED = ("at AUTH: 534", "at AUTH: 535")


class MarkState(StrEnum):
    """What is known of a profile's servers."""

    PASSED = "passed"
    FAILED = "failed"
    UNTESTED = "untested"
    TESTING = "testing"
    """A test in the background is under way."""


@dataclass(frozen=True, slots=True)
class FailedServer:
    """A server that could not be used, and why."""

    server: str
    """Canonical specification."""
    stage: str
    fault: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark; the same value is the same mark."""

    state: MarkState
    at: float
    """Epoch seconds: of the test, or since when it is untested."""
    by: str
    """Who tested it, or saved it untested."""
    reason: str = ""
    """Why it was saved untested, as somebody has told."""
    forced: bool = False
    """Saved by force: nobody tests it unasked."""
    revision: int = 0
    """Of the profile that the mark was made for; 0 while it is not saved."""
    failed: tuple[FailedServer, ...] = ()
    attempts: int = 0
    """Tests in the background that were begun since the profile was untested; of `testing` only."""

    @property
    def due(self) -> bool:
        """To be tested in the background."""
        return self.state is MarkState.UNTESTED and not self.forced


def mark_of(result: ProfileResult, *, at: float, by: str, revision: int = 0) -> Mark:
    """What a test that has ended says."""
    failed = tuple(
        FailedServer(server.server, server.stages[-1].name.value, server.stages[-1].fault)
        for server in result.servers
        if not server.ok
    )
    return Mark(MarkState.FAILED if failed else MarkState.PASSED, at, by, revision=revision, failed=failed)


def refused_logins(mark: Mark) -> tuple[str, ...]:
    """Servers that refused the login itself (534, 535), which a mail server counts against the account."""
    return tuple(f.server for f in mark.failed if f.fault.startswith(_LOGIN_REFUSED))


def needs_test(old: Document | None, new: Document, *, same_secrets: bool) -> bool:
    """Whether a change may make servers fail that were well; False too if they stand in another order only.

    Canonical documents; `old` is None for a profile that is added. `same_secrets`: the stored secrets are the same.
    """
    if old is None or not same_secrets:
        return True
    return _tested_part(old) != _tested_part(new)


def mark_after(
    given: Mark | None,
    old: tuple[Document, Mark | None] | None,
    new: Document,
    *,
    same_secrets: bool,
    by: str,
    at: float,
    revision: int,
) -> Mark:
    """The mark of a profile once it is saved at this revision, by whom and when.

    `given`: by who saves it. Without one, that of the profile as it was stays where nothing changed that a test would
    look at; else it is untested and due.
    """
    if given is not None:
        return replace(given, revision=given.revision or revision)
    if old is not None and old[1] is not None and not needs_test(old[0], new, same_secrets=same_secrets):
        return old[1]
    return Mark(MarkState.UNTESTED, at, by, revision=revision)


def saved_untested(profiles: Iterable[Document], given: Mapping[str, Mark], reason: str) -> dict[str, object]:
    """What the audit row of a change tells besides the change: the marks are lost with the next test."""
    names = [str(document["name"]) for document in profiles]
    forced = {name: mark.reason for name in names if (mark := given.get(name_key(name))) and mark.forced}
    return {**({"forced": forced} if forced else {}), **({"reason": reason} if reason else {})}


def mark_json(mark: Mark | None) -> dict[str, object] | None:
    """As REST shows it and the database keeps it."""
    if mark is None:
        return None
    return {
        "state": mark.state.value,
        "at": float(mark.at),
        "by": mark.by,
        "reason": mark.reason,
        "forced": mark.forced,
        "revision": mark.revision,
        "failed": [{"server": f.server, "stage": f.stage, "fault": f.fault} for f in mark.failed],
        **({"attempts": mark.attempts} if mark.attempts else {}),
    }


def read_mark(document: Document) -> Mark:
    """What `mark_json` has written."""
    failed = document["failed"]
    return Mark(
        MarkState(str(document["state"])),
        float(str(document["at"])),
        str(document["by"]),
        str(document["reason"]),
        bool(document["forced"]),
        int(str(document["revision"])),
        tuple(
            FailedServer(str(server["server"]), str(server["stage"]), str(server["fault"]))
            for server in (failed if isinstance(failed, list) else ())
        ),
        int(str(document.get("attempts", 0))),
    )


def _tested_part(document: Document) -> dict[str, object]:
    kept = {name: value for name, value in document.items() if name not in UNTESTED_PROPERTIES}
    servers = document.get("servers")
    if isinstance(servers, list | tuple):
        kept["servers"] = sorted(str(server) for server in servers)
    return kept
