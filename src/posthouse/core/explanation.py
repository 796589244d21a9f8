"""Why a policy decides as it does, in sentences: what `rule explain` and REST show.

Every rule is told condition by condition, also those after the match, which were not looked at for the decision.
"""

from dataclasses import dataclass

from posthouse.core.network import parse_client
from posthouse.core.pattern import Pattern, normalise
from posthouse.core.policy import Condition, Decision, Policy
from posthouse.core.rule import Rule


@dataclass(frozen=True, slots=True)
class ConditionTold:
    """One condition of one rule."""

    name: str
    """enabled, clients, senders or recipients."""
    met: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class RuleTold:
    """One rule with all its conditions."""

    rule: str
    looked_at: bool
    """False for the rules after the match."""
    matched: bool
    conditions: tuple[ConditionTold, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision, the rules as they were met for `decision.address`, and what would happen."""

    decision: Decision
    rules: tuple[RuleTold, ...]
    outcome: str


def explain(
    policy: Policy, client: str, reverse_path: str, address: str, own_postmaster: str | None = None
) -> Explanation:
    """What `policy.resolve` with the same arguments decides, and why."""
    decision = policy.resolve(client, reverse_path, address, own_postmaster)
    told: list[RuleTold] = []
    found = False
    for rule in policy.rules:
        conditions = _conditions(rule, client, reverse_path, decision.address)
        met = all(condition.met for condition in conditions)
        told.append(RuleTold(rule.name, not found, met and not found, conditions))
        found = found or met
    return Explanation(decision, tuple(told), _outcome(decision, address))


def explanation_json(explanation: Explanation) -> dict[str, object]:
    """The explanation as REST and `--json` give it."""
    decision = explanation.decision
    return {
        "address": decision.address,
        "rule": decision.rule.name if decision.rule else None,
        "profile": decision.rule.relay_profile if decision.rule else None,
        "outcome": explanation.outcome,
        "rules": [
            {
                "rule": told.rule,
                "looked_at": told.looked_at,
                "matched": told.matched,
                "conditions": [{"name": c.name, "met": c.met, "sentence": c.sentence} for c in told.conditions],
            }
            for told in explanation.rules
        ],
    }


def _outcome(decision: Decision, asked: str) -> str:
    rewritten = f"{asked} is rewritten to {decision.address}; " if decision.address != asked else ""
    if decision.rule is not None:
        return f'{rewritten}rule "{decision.rule.name}" relays by server profile "{decision.rule.relay_profile}".'
    if decision.own_postmaster:
        return f"{rewritten}no rule matches; it is relayed by the server profile of own_mail."
    return 'No rule matches: refused with 550 5.7.1 "No policy for recipient".'


def _conditions(rule: Rule, client: str, reverse_path: str, address: str) -> tuple[ConditionTold, ...]:
    return (
        ConditionTold("enabled", rule.enabled, "The rule is enabled." if rule.enabled else "The rule is disabled."),
        _clients(rule, client),
        _patterns("senders", rule.senders, reverse_path),
        _patterns("recipients", rule.recipients, address),
    )


def _clients(rule: Rule, client: str) -> ConditionTold:
    if not rule.clients:
        return ConditionTold("clients", True, "Any client is allowed.")
    address = parse_client(client)
    for network in rule.clients:
        if address is not None and address in network:
            return ConditionTold("clients", True, f"Client {client} is in {network}.")
    listed = _listed(tuple(str(network) for network in rule.clients))
    return ConditionTold("clients", False, f"Client {client or 'unknown'} is not in {listed}.")


def _patterns(name: str, patterns: tuple[Pattern, ...], address: str) -> ConditionTold:
    what = "Sender" if name == "senders" else "Recipient"
    if not patterns:
        return ConditionTold(name, True, f"Any {what.lower()} is allowed.")
    text, domain = normalise(address)
    found = Condition(patterns).find(text, domain)
    if found is not None:
        return ConditionTold(name, True, f"{what} {text} matches {found.text}.")
    return ConditionTold(name, False, f"{what} {text} matches none of {_listed(tuple(p.text for p in patterns))}.")


def _listed(entries: tuple[str, ...]) -> str:
    shown = ", ".join(entries[:10])
    return f"{shown} and {len(entries) - 10} more" if len(entries) > 10 else shown
