"""The policy: ordered security rules, first match per recipient, with the reasons kept.

`decide` is called twice per recipient and mail, so everything is prepared by `Policy`: which rules a client meets
is found once per client, and patterns are sorted into look-ups by domain and by address.
Standards: design sections 1 and 3 (own mail: postmaster, RFC 5321 section 4.5.1).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.network import parse_client
from posthouse.core.pattern import Kind, Pattern, normalise
from posthouse.core.rule import Rule
from posthouse.core.scan_section import OnFailed, OnVerdict

CLIENTS_REMEMBERED = 10_000
"""Client addresses whose rules are remembered; past it all are forgotten."""


class Why(StrEnum):
    """Why a rule matched or did not: the first condition, in this order, that was not met."""

    DISABLED = "disabled"
    CLIENT = "client"
    SENDER = "sender"
    RECIPIENT = "recipient"
    MATCHED = "matched"


@dataclass(frozen=True, slots=True)
class Reason:
    """What became of one rule."""

    rule: str
    why: Why


@dataclass(frozen=True, slots=True)
class Decision:
    """The first rule that matches one recipient, and why those before it did not."""

    rule: Rule | None
    reasons: tuple[Reason, ...]
    """One for each rule up to the match; all rules if none matched."""
    address: str
    """The recipient as it goes on: another than was asked for only if a postmaster was rewritten."""
    own_postmaster: bool = False
    """No rule matches, but it is mail to our own postmaster: relayed by `own_mail.profile`."""


class Condition:
    """Patterns of which any must match, arranged for quick look-up."""

    __slots__ = ("_addresses", "_domains", "_others", "_patterns")

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        self._addresses = frozenset(p.key for p in patterns if p.kind is Kind.ADDRESS)
        self._domains = frozenset(p.key for p in patterns if p.kind is Kind.DOMAIN)
        self._others = tuple(p.matches for p in patterns if p.kind not in (Kind.ADDRESS, Kind.DOMAIN))

    def met(self, text: str, domain: str) -> bool:
        """`text` and `domain` as `normalise` gives them."""
        if domain in self._domains or text in self._addresses:
            return True
        return any(matches(text, domain) for matches in self._others) if self._others else False

    def find(self, text: str, domain: str) -> Pattern | None:
        """The first pattern that matches, in the order written."""
        return next((pattern for pattern in self._patterns if pattern.matches(text, domain)), None)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A rule with all that one look needs; None for a condition that every mail meets."""

    rule: Rule
    senders: Condition | None
    recipients: Condition | None
    client: Reason
    sender: Reason
    recipient: Reason
    matched: Reason


class Policy:
    """Rules in their order of priority. Immutable but for the memory of clients."""

    __slots__ = ("_ask_sender", "_by_client", "_named_domains", "_prepared", "rules", "strictest_scan")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._prepared = tuple(_prepare(rule) for rule in self.rules)
        self._ask_sender = any(prepared.senders is not None for prepared in self._prepared)
        self._named_domains = frozenset(
            pattern.domain for rule in self.rules if rule.enabled for pattern in rule.recipients if pattern.domain
        )
        self._by_client: dict[str, tuple[tuple[_Prepared, Reason | None], ...]] = {}
        self.strictest_scan = strictest_scan(self.rules)

    def decide(self, client: str, reverse_path: str, address: str) -> Decision:
        """The first rule whose conditions are all met. `reverse_path` is empty for the null reverse-path."""
        candidates = self._by_client.get(client)
        if candidates is None:
            candidates = self._remember(client)
        sender, sender_domain = normalise(reverse_path) if self._ask_sender else ("", "")
        text, domain = normalise(address)
        reasons: list[Reason] = []
        for prepared, missed in candidates:
            if missed is not None:
                reasons.append(missed)
            elif prepared.senders is not None and not prepared.senders.met(sender, sender_domain):
                reasons.append(prepared.sender)
            elif prepared.recipients is not None and not prepared.recipients.met(text, domain):
                reasons.append(prepared.recipient)
            else:
                reasons.append(prepared.matched)
                return Decision(prepared.rule, tuple(reasons), address)
        return Decision(None, tuple(reasons), address)

    def resolve(self, client: str, reverse_path: str, address: str, own_postmaster: str | None) -> Decision:
        """`decide`, and for a postmaster whom no rule matches once more for `own_postmaster` when that is set:
        for bare `postmaster` and for the postmaster of a domain that an enabled rule names as recipient's."""
        decision = self.decide(client, reverse_path, address)
        if decision.rule is not None or not own_postmaster or not self.is_own_postmaster(address):
            return decision
        again = self.decide(client, reverse_path, own_postmaster)
        return Decision(again.rule, again.reasons, own_postmaster, own_postmaster=again.rule is None)

    def is_own_postmaster(self, address: str) -> bool:
        """RFC 5321 section 4.5.1: bare, or at a domain of ours."""
        text, domain = normalise(address)
        return text == "postmaster" or (domain in self._named_domains and text == f"postmaster@{domain}")

    def _remember(self, client: str) -> tuple[tuple[_Prepared, Reason | None], ...]:
        """Every rule with the reason why this client cannot match it, or None."""
        address = parse_client(client)
        candidates = []
        for prepared in self._prepared:
            rule = prepared.rule
            missed = None
            if not rule.enabled:
                missed = Reason(rule.name, Why.DISABLED)
            elif rule.clients and (address is None or not any(address in network for network in rule.clients)):
                missed = prepared.client
            candidates.append((prepared, missed))
        if len(self._by_client) >= CLIENTS_REMEMBERED:
            self._by_client.clear()
        return self._by_client.setdefault(client, tuple(candidates))


def strictest_scan(rules: Iterable[Rule]) -> Rule | None:
    """Of enabled rules the one that lets the least through unscanned: whose failures hold the mail, that asks the
    most scanners, that quarantines the most. None if none scans. For mail to our own postmaster that no rule
    matches."""

    def strictness(rule: Rule) -> tuple[bool, int, int, int]:
        scan = rule.scan
        assert scan is not None
        actions = [*scan.on.values()]
        holds = scan.on_failed is not OnFailed.BYPASS and OnFailed.BYPASS not in scan.on_errors.values()
        filters = len(scan.block_names) + len(scan.block_types)
        return holds, len(scan.profiles), -actions.count(OnVerdict.MARK), filters

    return max((rule for rule in rules if rule.enabled and rule.scan is not None), key=strictness, default=None)


def reasons_json(decision: Decision) -> list[dict[str, str]]:
    """The reasons as they go into the trail: `[{rule, why}]`."""
    return [{"rule": reason.rule, "why": reason.why.value} for reason in decision.reasons]


def _prepare(rule: Rule) -> _Prepared:
    return _Prepared(
        rule,
        _condition(rule.senders),
        _condition(rule.recipients),
        *(Reason(rule.name, why) for why in (Why.CLIENT, Why.SENDER, Why.RECIPIENT, Why.MATCHED)),
    )


def _condition(patterns: tuple[Pattern, ...]) -> Condition | None:
    """None if every mail meets it."""
    return None if not patterns or any(p.kind is Kind.ANY for p in patterns) else Condition(patterns)
