"""The policy: first match per recipient, reasons, postmaster."""

import pytest

from posthouse.core import policy as policy_module
from posthouse.core.explanation import explain, explanation_json
from posthouse.core.policy import Policy, Reason, Why, reasons_json
from posthouse.core.rule import Rule, parse_rule

CLIENT, SENDER = "192.0.2.7", "a@outside.example"


def rule(name: str, *, enabled: bool = True, profile: str = "x", **match: list[str]) -> Rule:
    document = {"name": name, "enabled": enabled, "match": match, "relay": {"profile": profile}, "open_relay": True}
    parsed, faults = parse_rule(document, name)
    assert faults == ()
    assert parsed is not None
    return parsed


def matched(policy: Policy, address: str, *, client: str = CLIENT, sender: str = SENDER) -> str | None:
    decision = policy.decide(client, sender, address)
    return decision.rule.name if decision.rule else None


def test_without_rules_nothing_matches() -> None:
    assert matched(Policy(()), "bob@ours.example") is None


def test_the_first_rule_in_order_matches_each_recipient_for_itself() -> None:
    policy = Policy([rule("bob", recipients=["bob@ours.example"]), rule("all", recipients=["*@ours.example"])])
    assert matched(policy, "bob@ours.example") == "bob"
    assert matched(policy, "eve@ours.example") == "all"
    assert matched(policy, "eve@theirs.example") is None


def test_a_rule_without_conditions_matches_everything() -> None:
    policy = Policy([rule("any")])
    assert matched(policy, "x@y.example", client="") == "any"
    assert matched(policy, "postmaster", sender="") == "any"


def test_all_given_conditions_must_be_met() -> None:
    policy = Policy(
        [rule("r", clients=["10.0.0.0/8", "2001:db8::/32"], senders=["*@a.example"], recipients=["*@b.example"])]
    )
    assert matched(policy, "x@b.example", client="10.1.2.3", sender="y@a.example") == "r"
    assert matched(policy, "x@b.example", client="2001:db8::5", sender="Y@A.EXAMPLE") == "r"
    assert matched(policy, "x@b.example", client="11.1.2.3", sender="y@a.example") is None
    assert matched(policy, "x@b.example", client="10.1.2.3", sender="y@b.example") is None
    assert matched(policy, "x@a.example", client="10.1.2.3", sender="y@a.example") is None


def test_an_ipv4_mapped_client_is_its_ipv4_address() -> None:
    assert matched(Policy([rule("r", clients=["10.0.0.0/8"])]), "x@y", client="::ffff:10.0.0.1") == "r"


@pytest.mark.parametrize("client", ["", "unknown", "10.0.0.300"])
def test_a_client_without_address_meets_no_network(client: str) -> None:
    assert matched(Policy([rule("r", clients=["0.0.0.0/0", "::/0"])]), "x@y", client=client) is None


def test_the_null_reverse_path_has_a_pattern_of_its_own() -> None:
    policy = Policy([rule("null", senders=["<>"]), rule("address", senders=["*@*"]), rule("any", senders=["*"])])
    assert matched(policy, "x@y", sender="") == "null"
    assert matched(policy, "x@y", sender="a@b.example") == "address"
    assert matched(Policy([rule("any", senders=["*"])]), "x@y", sender="") == "any"


def test_a_disabled_rule_matches_nothing() -> None:
    policy = Policy([rule("off", enabled=False), rule("on")])
    decision = policy.decide(CLIENT, SENDER, "x@y")
    assert decision.reasons == (Reason("off", Why.DISABLED), Reason("on", Why.MATCHED))


def test_the_reasons_tell_the_condition_that_failed_for_every_rule_up_to_the_match() -> None:
    policy = Policy(
        [
            rule("off", enabled=False),
            rule("inside", clients=["10.0.0.0/8"]),
            rule("from", senders=["*@inside.example"]),
            rule("to", recipients=["*@theirs.example"]),
            rule("ours", recipients=["*@ours.example"]),
            rule("never"),
        ]
    )
    decision = policy.decide(CLIENT, SENDER, "bob@ours.example")
    assert reasons_json(decision) == [
        {"rule": "off", "why": "disabled"},
        {"rule": "inside", "why": "client"},
        {"rule": "from", "why": "sender"},
        {"rule": "to", "why": "recipient"},
        {"rule": "ours", "why": "matched"},
    ]
    assert decision.address == "bob@ours.example"


@pytest.mark.parametrize("patterns", [["*@a.example", "b@x.example", "c*@x.example", "*@*.sub.example", r"/d.@x/"]])
def test_any_of_several_patterns_is_enough(patterns: list[str]) -> None:
    policy = Policy([rule("r", recipients=patterns)])
    for address in ("z@a.example", "b@x.example", "cc@x.example", "z@y.sub.example", "dd@x"):
        assert matched(policy, address) == "r"
    assert matched(policy, "z@x.example") is None


def test_the_memory_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "CLIENTS_REMEMBERED", 3)
    policy = Policy([rule("r", clients=["10.0.0.0/30"])])
    answers = [matched(policy, "x@y", client=f"10.0.0.{at % 8}") for at in range(40)]
    assert answers == (["r"] * 4 + [None] * 4) * 5
    assert len(policy._by_client) <= 3


# --- postmaster -------------------------------------------------------------------------------------------

OURS = rule("ours", recipients=["bob@ours.example", "*@*.below.example", r"/x.*@regex\.example$/"])


def test_a_rule_that_matches_postmaster_wins_over_rewriting() -> None:
    policy = Policy([rule("all", recipients=["*@ours.example", "postmaster"])])
    for address in ("postmaster@ours.example", "postmaster"):
        decision = policy.resolve(CLIENT, SENDER, address, "admin@ours.example")
        assert decision.rule is not None
        assert (decision.address, decision.own_postmaster) == (address, False)


@pytest.mark.parametrize(
    "address",
    [
        "postmaster",
        "POSTMASTER",
        "Postmaster@OURS.example",
        '"postmaster"@ours.example',
        "postmaster@below.example",
        "postmaster@regex.example",
    ],
)
def test_an_unmatched_postmaster_is_rewritten_and_matched_again(address: str) -> None:
    decision = Policy([OURS]).resolve(CLIENT, SENDER, address, "bob@ours.example")
    assert decision.rule is OURS
    assert (decision.address, decision.own_postmaster) == ("bob@ours.example", False)
    assert decision.reasons == (Reason("ours", Why.MATCHED),)


def test_an_own_postmaster_whom_no_rule_matches_goes_by_own_mail() -> None:
    decision = Policy([OURS]).resolve(CLIENT, SENDER, "postmaster", "admin@elsewhere.example")
    assert decision.rule is None
    assert (decision.address, decision.own_postmaster) == ("admin@elsewhere.example", True)
    assert decision.reasons == (Reason("ours", Why.RECIPIENT),)


def test_an_own_postmaster_that_is_a_postmaster_is_not_rewritten_for_ever() -> None:
    decision = Policy([OURS]).resolve(CLIENT, SENDER, "postmaster", "postmaster@ours.example")
    assert (decision.address, decision.own_postmaster) == ("postmaster@ours.example", True)


@pytest.mark.parametrize("own", [None, ""])
def test_without_own_mail_an_unmatched_postmaster_is_refused(own: str | None) -> None:
    decision = Policy([OURS]).resolve(CLIENT, SENDER, "postmaster", own)
    assert decision.rule is None
    assert (decision.address, decision.own_postmaster) == ("postmaster", False)


@pytest.mark.parametrize(
    "address", ["postmaster@theirs.example", "postmasters@ours.example", "eve@ours.example", "postmaster@[192.0.2.1]"]
)
def test_nobody_else_is_rewritten(address: str) -> None:
    decision = Policy([OURS]).resolve(CLIENT, SENDER, address, "bob@ours.example")
    assert decision.rule is None
    assert (decision.address, decision.own_postmaster) == (address, False)


def test_domains_of_senders_and_of_disabled_rules_are_not_ours() -> None:
    policy = Policy(
        [
            rule("s", senders=["*@ours.example"], recipients=["z@z.example"]),
            rule("d", enabled=False, recipients=["*@d.example"]),
        ]
    )
    for domain in ("ours.example", "d.example"):
        assert policy.resolve(CLIENT, SENDER, f"postmaster@{domain}", "b@b.example").own_postmaster is False


# --- explanation ------------------------------------------------------------------------------------------


def test_an_explanation_tells_every_condition_of_every_rule() -> None:
    policy = Policy(
        [
            rule("off", enabled=False, recipients=["*@ours.example"]),
            rule("inside", clients=["10.0.0.0/8"], senders=["x@y.example"]),
            rule("ours", clients=["192.0.2.0/24"], senders=["*@outside.example"], recipients=["*@ours.example"]),
            rule("late"),
        ]
    )
    told = explain(policy, CLIENT, SENDER, "Bob@ours.example")
    assert [(r.rule, r.looked_at, r.matched) for r in told.rules] == [
        ("off", True, False),
        ("inside", True, False),
        ("ours", True, True),
        ("late", False, False),
    ]
    assert [c.sentence for c in told.rules[0].conditions] == [
        "The rule is disabled.",
        "Any client is allowed.",
        "Any sender is allowed.",
        "Recipient bob@ours.example matches *@ours.example.",
    ]
    assert [c.sentence for c in told.rules[1].conditions if not c.met] == [
        "Client 192.0.2.7 is not in 10.0.0.0/8.",
        "Sender a@outside.example matches none of x@y.example.",
    ]
    assert told.rules[2].conditions[1].sentence == "Client 192.0.2.7 is in 192.0.2.0/24."
    assert told.outcome == 'rule "ours" relays by server profile "x".'


def test_an_explanation_tells_what_happens_when_nothing_matches() -> None:
    told = explain(Policy([OURS]), CLIENT, SENDER, "a@b.example")
    assert "550 5.7.1" in told.outcome
    assert explanation_json(told)["rule"] is None


def test_an_explanation_tells_a_rewritten_postmaster() -> None:
    told = explain(Policy([OURS]), CLIENT, SENDER, "postmaster", "admin@x.example")
    assert told.outcome.startswith("postmaster is rewritten to admin@x.example; no rule matches")
    assert explanation_json(told)["address"] == "admin@x.example"


def test_an_explanation_agrees_with_the_reasons_in_json() -> None:
    document = explanation_json(explain(Policy([OURS]), "", "", "bob@ours.example"))
    assert (document["rule"], document["profile"]) == ("ours", "x")
    assert document["rules"] == [
        {
            "rule": "ours",
            "looked_at": True,
            "matched": True,
            "conditions": [
                {"name": "enabled", "met": True, "sentence": "The rule is enabled."},
                {"name": "clients", "met": True, "sentence": "Any client is allowed."},
                {"name": "senders", "met": True, "sentence": "Any sender is allowed."},
                {
                    "name": "recipients",
                    "met": True,
                    "sentence": "Recipient bob@ours.example matches bob@ours.example.",
                },
            ],
        }
    ]


def test_long_lists_are_cut_in_sentences() -> None:
    policy = Policy([rule("r", recipients=[f"*@d{at}.example" for at in range(30)])])
    sentence = explain(policy, CLIENT, SENDER, "a@b.example").rules[0].conditions[3].sentence
    assert sentence.endswith("and 20 more.")
