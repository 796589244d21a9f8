"""The prepared policy decides as a naive reading of the rules does; confined patterns never leave their domain."""

import re
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.pattern import Kind, Pattern, normalise, parse_pattern
from posthouse.core.policy import Policy, Why
from posthouse.core.rule import Rule, is_open_relay, parse_rule

LOCALS = ["a", "b", "ab", "A", "postmaster"]
DOMAINS = ["x.example", "y.x.example", "evilx.example", "X.EXAMPLE", "z"]
ADDRESSES = st.builds(lambda local, domain: f"{local}@{domain}", st.sampled_from(LOCALS), st.sampled_from(DOMAINS))
PATTERNS = st.one_of(
    st.sampled_from(
        ["*", "*@x.example", "*@*.x.example", "a@x.example", "*x.example", "a*@*", r"/(a|b)@x\.example$/"]
    ),
    st.builds(
        lambda local, domain: f"{local}@{domain}",
        st.text(alphabet="ab*", min_size=1, max_size=4),
        st.sampled_from(["x.example", "*.example", "*", "*x.example", "y.*.example"]),
    ),
)
CLIENTS = ["10.0.0.1", "10.1.0.1", "192.0.2.1", "2001:db8::1"]
NETWORKS = ["10.0.0.0/8", "10.0.0.0/16", "192.0.2.1", "2001:db8::/32", "0.0.0.0/0"]
RULES = st.builds(
    lambda name, enabled, clients, senders, recipients: _rule(name, enabled, clients, senders, recipients),
    st.integers(0, 99).map(str),
    st.booleans(),
    st.lists(st.sampled_from(NETWORKS), max_size=2),
    st.lists(PATTERNS, max_size=3),
    st.lists(PATTERNS, max_size=3),
)


def _rule(name: str, enabled: bool, clients: list[str], senders: list[str], recipients: list[str]) -> Rule:
    match = {"clients": clients or None, "senders": senders or None, "recipients": recipients or None}
    document = {"name": name, "enabled": enabled, "match": match, "relay": {"profile": "x"}, "open_relay": True}
    rule, faults = parse_rule(document, "r")
    assert rule is not None, faults
    return rule


def _naive_pattern(text: str, address: str) -> bool:
    address = address.lower() or "<>"
    if text.startswith("/"):
        return re.fullmatch(text[1:-1], address, re.IGNORECASE) is not None
    return re.fullmatch(".*".join(re.escape(run) for run in text.lower().split("*")), address) is not None


def _naive(rules: list[Rule], client: str, sender: str, address: str) -> Rule | None:
    for rule in rules:
        if (
            rule.enabled
            and (not rule.clients or any(ip_address(client) in network for network in rule.clients))
            and (not rule.senders or any(_naive_pattern(p.text, sender) for p in rule.senders))
            and (not rule.recipients or any(_naive_pattern(p.text, address) for p in rule.recipients))
        ):
            return rule
    return None


@given(
    st.lists(RULES, max_size=5),
    st.sampled_from(CLIENTS),
    st.one_of(st.just(""), ADDRESSES),
    st.one_of(st.just("postmaster"), ADDRESSES),
)
def test_the_policy_decides_as_a_naive_reading_does(
    rules: list[Rule], client: str, sender: str, address: str
) -> None:
    policy = Policy(rules)
    decision = policy.decide(client, sender, address)
    assert decision.rule is _naive(rules, client, sender, address)
    assert policy.decide(client, sender, address) == decision
    looked_at = rules if decision.rule is None else rules[: rules.index(decision.rule) + 1]
    assert [reason.rule for reason in decision.reasons] == [rule.name for rule in looked_at]
    assert [reason.why is Why.MATCHED for reason in decision.reasons] == [rule is decision.rule for rule in looked_at]


@given(PATTERNS, ADDRESSES)
def test_a_confined_pattern_matches_only_in_or_below_its_domain(text: str, address: str) -> None:
    pattern = parse_pattern(text, null_path=False)
    assert isinstance(pattern, Pattern)
    normal, domain = normalise(address)
    if pattern.confined and pattern.kind is not Kind.ADDRESS and pattern.matches(normal, domain):
        assert domain == pattern.domain or domain.endswith(f".{pattern.domain}")


@given(st.text(alphabet=r"ab@.x\|()[]^$?*:-Q", max_size=24), ADDRESSES)
def test_no_regular_expression_escapes_the_open_relay_guard(body: str, address: str) -> None:
    """If the guard calls an expression confined, it cannot match another domain."""
    pattern = parse_pattern(f"/{body}@x\\.example$/", null_path=False)
    if isinstance(pattern, Pattern) and not is_open_relay((), (pattern,)):
        normal, domain = normalise(address)
        assert not pattern.matches(normal, domain) or domain == "x.example"


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_has_a_remedy(text: str) -> None:
    parsed = parse_pattern(text, null_path=True)
    assert isinstance(parsed, Pattern) or all(parsed)


@given(st.text(max_size=30))
def test_any_address_can_be_normalised(address: str) -> None:
    text, domain = normalise(address)
    assert text.endswith(domain)
