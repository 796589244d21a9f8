"""`rule-explanations`: which rule would match and why, and where the mail would really go first now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, WithJsonSchema

from posthouse.core.addressed_now import Addressable, Now, Refusals, ServerNow, addressed_now
from posthouse.core.explanation import explain, explanation_json
from posthouse.core.faults import Fault
from posthouse.core.fields import name_key
from posthouse.core.inventory import Inventory
from posthouse.core.network import parse_client
from posthouse.core.policy import Decision
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_aspect import connects_alike
from posthouse.core.smtp_path import parse_mailbox
from posthouse.ports import ServerState
from posthouse.settings import NodeSettings
from posthouse.web.auth import Right, guarded
from posthouse.web.heavy import TOO_MANY, HeavyWork
from posthouse.web.inventory import snapshot
from posthouse.web.problems import Json, invalid
from posthouse.web.schemas import INVENTORY
from posthouse.web.states import profile_state, text, why_not_now
from posthouse.web.tools import Tools, WebTools
from posthouse.web.unsaved import UNSAVED, Prune, laid_over

router = guarded(Right.CONFIG_READ)

RECIPIENTS_EXPLAINED = 100

NEW_SERVER = "it is not in force, so no worker knows it"
OTHER_CONNECTION = "the workers know it with other TLS settings or another login"
NOT_TOLD = "no worker has told of it yet"
NO_WORKER = "no worker is running"

_Text = Annotated[str, StringConstraints(strict=True, max_length=1000)]
_STATE_FACTS = ("server", "circuit", "reason", "next_probe", "in_use", "limit")

_QUESTION: dict[str, JsonValue] = {
    "client": "192.0.2.7",
    "from": "a@example.net",
    "to": ["b@ours.example"],
    "helo": "mx",
}
_SKIPPED = "circuit open: connection refused, next probe 12:00:10Z"
_ITEM = {
    "asked": "b@ours.example",
    "address": "b@ours.example",
    "rule": "inbound",
    "profile": "exchange",
    "outcome": 'rule "inbound" relays by server profile "exchange".',
    "rules": [
        {
            "rule": "inbound",
            "looked_at": True,
            "matched": True,
            "conditions": [{"name": "clients", "met": True, "sentence": "Any client is allowed."}],
        }
    ],
    "accepted": True,
    "preference": "failover",
    "servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"],
    "start": "",
    "now": f"smtp://10.0.0.1:25 is skipped: {_SKIPPED}; the mail goes to smtp://10.0.0.2:2525.",
    "goes_to": ["smtp://10.0.0.2:2525"],
    "states": [
        {
            "server": "smtp://10.0.0.1:25",
            "circuit": "open",
            "reason": "connection refused",
            "next_probe": 1764072010.0,
            "in_use": 0,
            "limit": 20,
            "may_be_addressed": "no",
            "why": _SKIPPED,
        },
        {
            "server": "smtp://10.0.0.2:2525",
            "circuit": "closed",
            "reason": "",
            "next_probe": None,
            "in_use": 3,
            "limit": 20,
            "may_be_addressed": "yes",
            "why": "",
        },
    ],
}


class Question(BaseModel):
    """A mail that might come."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"examples": [_QUESTION, {**_QUESTION, "inventory": UNSAVED, "prune": True}]},
    )

    client: Annotated[_Text, Field(description="IP address of the client")]
    sender: Annotated[_Text, Field(alias="from", description="reverse-path; empty for the null reverse-path")]
    to: Annotated[list[_Text], Field(min_length=1, max_length=RECIPIENTS_EXPLAINED, description="recipients")]
    helo: Annotated[_Text, Field(description="name given at EHLO; no condition looks at it")] = ""
    inventory: Annotated[
        dict[str, object] | None,
        Field(description="asks about this inventory, laid over what is in force; nothing is saved"),
        WithJsonSchema({"anyOf": [INVENTORY, {"type": "null"}]}),
    ] = None
    prune: Prune = False


@router.post(
    "/rule-explanations",
    summary="Why which rule matches, what would happen, and where the mail would go first now",
    responses={
        200: {
            "description": "One item per recipient",
            "content": {"application/json": {"example": {"items": [_ITEM], "next": None}}},
        },
        **TOO_MANY,
    },
)
async def explain_rules(tools: Tools, heavy: HeavyWork, question: Question) -> Json:
    """Nothing is sent and nothing is kept.

    `servers` is the preference order, `start` what is assumed of its start (that of round-robin is known to each
    worker alone, that of random-start to nobody). `states` are as the workers told of them, at most two seconds ago:
    `may_be_addressed` is `yes`, `no`, `on some workers` or `not known`, with `why` in the last three. `goes_to`: the
    servers that may get the mail first, several where worker or chance decides; empty: it would wait, or is refused.

    With `inventory` servers that only that one has are `not known`.
    """
    return await heavy.run(partial(_explained, tools, question))


def _explained(tools: WebTools, question: Question) -> Json:
    faults = _question_faults(question)
    stored = tools.inventory.load()
    asked = None
    if question.inventory is not None:
        asked, found = laid_over(stored, question.inventory, question.prune)
        faults += found
    if faults:
        raise invalid(faults)
    in_force = snapshot(stored)
    now = tools.clock.now()
    states, running = tools.commands.server_states(now), bool(tools.commands.workers(now))
    answering = _Answering(asked or in_force, in_force, states, running, tools.settings)
    return Json({"items": [answering.answer(question, to) for to in question.to], "next": None})


@dataclass(frozen=True, slots=True)
class _Answering:
    asked: Inventory
    in_force: Inventory
    states: Sequence[ServerState]
    running: bool
    """A worker is."""
    settings: NodeSettings

    def answer(self, question: Question, to: str) -> dict[str, object]:
        own = self.settings.own_mail
        explanation = explain(
            self.asked.policy, question.client, question.sender, to, own.postmaster if own else None
        )
        name = _relay_profile(explanation.decision, self.settings)
        profile = self.asked.next_hop(name)
        return {
            "asked": to,
            **explanation_json(explanation),
            "accepted": bool(name),
            "profile": name or None,
            "preference": profile.preference.value if profile else None,
            **(self._now(profile) if profile else _nowhere(name)),
        }

    def _now(self, profile: ServerProfile) -> dict[str, object]:
        live, unknown = self._live(profile)
        workers: dict[str, dict[str, str]] = {}
        for row in live:
            why = why_not_now(row.facts) if text(row.facts, "not_now") else ""
            workers.setdefault(row.worker, {})[row.server] = why
        refusals: list[Refusals] = list(workers.values())
        now = addressed_now(profile.preference, profile.server_texts, refusals)
        return _now_json(now, profile_state(profile.name, profile.server_texts, live), unknown)

    def _live(self, profile: ServerProfile) -> tuple[list[ServerState], Mapping[str, str]]:
        """The workers' rows that hold for this profile, under its name, and why there are none of other servers."""
        key = name_key(profile.name)
        before = next((p for p in self.in_force.next_hops() if name_key(p.name) == key), None)
        if before is None:
            return [], dict.fromkeys(profile.server_texts, NEW_SERVER)
        in_force = before.server_texts
        alike = connects_alike(before, profile)
        not_told = NOT_TOLD if self.running else NO_WORKER
        unknown = {
            server: NEW_SERVER if server not in in_force else not_told if alike else OTHER_CONNECTION
            for server in profile.server_texts
        }
        live = [
            ServerState(row.worker, profile.name, row.server, row.at, row.facts)
            for row in self.states
            if alike and row.profile == before.name and row.server in unknown
        ]
        return live, unknown


def _relay_profile(decision: Decision, settings: NodeSettings) -> str:
    if decision.rule is not None:
        return decision.rule.relay_profile
    return settings.own_mail.profile if decision.own_postmaster and settings.own_mail else ""


def _nowhere(name: str) -> dict[str, object]:
    """Refused, or `own_mail` names no profile that relays."""
    sentence = f"There is no SMTP server profile {name}, so the mail waits." if name else ""
    return {"servers": [], "start": "", "now": sentence, "goes_to": [], "states": []}


def _now_json(now: Now, state: Mapping[str, object], unknown: Mapping[str, str]) -> dict[str, object]:
    found = state["servers"]
    assert isinstance(found, list)
    facts = {each["server"]: {name: each[name] for name in _STATE_FACTS} for each in found}
    return {
        "servers": [each.server for each in now.servers],
        "start": now.start,
        "now": now.sentence,
        "goes_to": list(now.goes_to),
        "states": [
            {
                **facts[each.server],
                "may_be_addressed": each.addressable.value,
                "why": unknown[each.server] if each.addressable is Addressable.NOT_KNOWN else _why(each),
            }
            for each in now.servers
        ],
    }


def _why(server: ServerNow) -> str:
    if server.addressable is not Addressable.SOME:
        return server.why_not
    return f"{server.why_not} (on {server.refused_by} of {server.known_to} workers)"


def _question_faults(question: Question) -> list[Fault]:
    faults = []
    if parse_client(question.client) is None:
        rule = "The client is no IP address."
        faults.append(Fault("client", question.client[:200], rule, "Write it like 192.0.2.7 or 2001:db8::7."))
    addresses = [("from", question.sender)] if question.sender else []
    addresses += [(f"to[{at}]", address) for at, address in enumerate(question.to)]
    for field, address in addresses:
        if address.casefold() == "postmaster" and field != "from":
            continue
        if parse_mailbox(address, smtputf8=True) is None:
            faults.append(Fault(field, address[:200], "This is no mail address.", "Write it like local@domain."))
    return faults
