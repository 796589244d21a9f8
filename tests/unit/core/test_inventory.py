"""The inventory: cross checks, laying a file over what is stored, differences, export."""

import pytest

from posthouse.core.faults import InvalidInput
from posthouse.core.inventory import (
    Change,
    apply_document,
    build_inventory,
    diff,
    export_document,
    load_toml,
    merge,
    parse_inventory,
    rules_using,
)
from posthouse.core.profile import parse_profile, profile_json
from posthouse.core.rule import parse_rule, rule_json


def profile(name: str, *servers: str, **more: object) -> dict[str, object]:
    return {"name": name, "type": "smtp", "servers": list(servers or ("10.0.0.1",)), **more}


def rule(name: str, profile_name: str = "exchange", domain: str = "ours.example") -> dict[str, object]:
    return {"name": name, "match": {"recipients": [f"*@{domain}"]}, "relay": {"profile": profile_name}}


def canonical_profile(name: str, *servers: str, **more: object) -> dict[str, object]:
    parsed, _ = parse_profile(profile(name, *servers, **more), "")
    assert parsed is not None
    return profile_json(parsed)


def canonical_rule(name: str, profile_name: str = "exchange", domain: str = "ours.example") -> dict[str, object]:
    parsed, _ = parse_rule(rule(name, profile_name, domain), "")
    assert parsed is not None
    return rule_json(parsed)


def document(profiles: object = (), rules: object = ()) -> dict[str, object]:
    return {"server_profiles": profiles, "rules": rules}


def test_the_example_of_the_design_is_read_from_toml() -> None:
    text = """
        [[server_profiles]]
        name = "exchange"
        type = "smtp"
        servers = ["smtp://10.0.0.1", "10.0.0.2:2525"]
        preference = "failover"
        client_certificate = false

        [[rules]]
        name = "inbound"
        direction = "inbound"
        match = { clients = ["0.0.0.0/0"], senders = ["*"], recipients = ["*@ours.example"] }
        relay = { profile = "exchange" }
    """
    loaded, fault = load_toml(text)
    assert fault is None
    profiles, rules, faults = parse_inventory(loaded)
    assert faults == ()
    assert profiles[0].server_texts == ("smtp://10.0.0.1:25", "smtp://10.0.0.2:2525")
    assert rules[0].relay_profile == "exchange"


def test_a_fault_in_toml_tells_line_and_column() -> None:
    loaded, fault = load_toml("a = 1\nb = = 2\n")
    assert loaded == {}
    assert fault is not None
    assert "line 2, column 5" in fault.rule
    assert load_toml("a=" + "[" * 100_000)[1] is not None


def test_an_empty_document_is_a_valid_inventory() -> None:
    assert parse_inventory({}) == ((), (), ())


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ([], [""]),
        ({"server_profile": []}, ["server_profile"]),
        ({"server_profiles": {}}, ["server_profiles"]),
        ({"rules": [5]}, ["rules[0]"]),
        (document([profile("a"), profile("A")]), ["server_profiles[1].name"]),
        (document([profile("é"), profile("E\u0301")]), ["server_profiles[1].name"]),
        (document([profile("exchange")], [rule("r"), rule("R")]), ["rules[1].name"]),
        (document([], [rule("r")]), ["rules[0].relay.profile"]),
        (
            document([{"name": "exchange", "type": "clamav", "servers": ["h"]}], [rule("r")]),
            ["rules[0].relay.profile"],
        ),
        (document([{"name": "exchange", "type": ["x"], "servers": ["h"]}], [rule("r")]), ["server_profiles[0].type"]),
        (document([profile("exchange", "a", "a", tls="no")], [rule("r")]),
         ["server_profiles[0].tls", "server_profiles[0].servers[1]"]),
    ],
)  # fmt: skip
def test_every_fault_has_its_field(given: object, fields: list[str]) -> None:
    assert [fault.field for fault in parse_inventory(given)[2]] == fields


def test_a_misspelt_profile_gets_the_one_that_was_meant() -> None:
    (fault,) = parse_inventory(document([profile("exchange")], [rule("r", "exchagne")]))[2]
    assert fault.remedy == "Did you mean exchange?"


def test_rules_name_profiles_ignoring_case_and_get_the_profiles_spelling() -> None:
    _, rules, faults = parse_inventory(document([profile("Exchange")], [rule("r", "EXCHANGE")]))
    assert faults == ()
    assert rules[0].relay_profile == "Exchange"


def test_the_snapshot_has_profiles_by_name_with_their_revisions() -> None:
    inventory = build_inventory(7, [(profile("Exchange"), 3), (profile("b"), 7)], [rule("r", "exchange")])
    assert inventory.revision == 7
    assert {name: p.revision for name, p in inventory.profiles.items()} == {"Exchange": 3, "b": 7}
    found = inventory.policy.decide("192.0.2.1", "", "bob@ours.example").rule
    assert found is not None
    assert inventory.profiles[found.relay_profile].name == "Exchange"


def test_a_stored_inventory_that_does_not_hold_is_told_and_not_used() -> None:
    with pytest.raises(InvalidInput) as caught:
        build_inventory(1, [(profile("a", "x y"), 1)], [rule("r")])
    assert [fault.field for fault in caught.value.faults] == [
        "server_profiles[0].servers[0]",
        "rules[0].relay.profile",
    ]


# --- a file over what is stored ---------------------------------------------------------------------------

STORED_PROFILES = [canonical_profile("exchange"), canonical_profile("other", "10.0.0.9")]
STORED_RULES = [canonical_rule("one"), canonical_rule("two", domain="two.example")]


def test_what_a_file_names_is_overwritten_and_what_it_does_not_name_stays_after_it() -> None:
    given = document([profile("EXCHANGE", "10.0.0.5")], [rule("new", domain="new.example"), rule("two")])
    profiles, rules, faults = apply_document(STORED_PROFILES, STORED_RULES, given, prune=False)
    assert faults == ()
    assert [(p["name"], p["servers"]) for p in profiles] == [
        ("EXCHANGE", ["smtp://10.0.0.5:25"]),
        ("other", ["smtp://10.0.0.9:25"]),
    ]
    assert [r["name"] for r in rules] == ["new", "two", "one"]
    assert rules[1]["match"] == {"recipients": ["*@ours.example"]}
    assert {str(r["relay"]) for r in rules} == {"{'profile': 'EXCHANGE'}"}


def test_prune_removes_what_the_file_does_not_name() -> None:
    profiles, rules, faults = apply_document(
        STORED_PROFILES, STORED_RULES, document([profile("exchange")], [rule("new")]), prune=True
    )
    assert faults == ()
    assert [p["name"] for p in profiles] == ["exchange"]
    assert [r["name"] for r in rules] == ["new"]


def test_a_rule_of_the_file_may_name_a_stored_profile() -> None:
    assert apply_document(STORED_PROFILES, [], {"rules": [rule("r", "other")]}, prune=False)[2] == ()
    assert apply_document(STORED_PROFILES, [], {"rules": [rule("r", "other")]}, prune=True)[2] != ()


def test_an_empty_file_changes_nothing_and_pruned_empties_all() -> None:
    assert apply_document(STORED_PROFILES, STORED_RULES, {}, prune=False) == (STORED_PROFILES, STORED_RULES, ())
    assert apply_document(STORED_PROFILES, STORED_RULES, {}, prune=True) == ([], [], ())


def test_applying_the_same_file_twice_changes_nothing() -> None:
    given = document([profile("exchange")], [rule("two")])
    once = apply_document(STORED_PROFILES, STORED_RULES, given, prune=False)
    assert apply_document(once[0], once[1], given, prune=False) == once


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (document([profile("exchange", "x y")], [rule("two")]), ["server_profiles[0].servers[0]"]),
        (document([profile("a"), profile("A")]), ["server_profiles[1].name"]),
        ({"server_profile": [profile("a")]}, ["server_profile"]),
        ({"rules": "x"}, ["rules"]),
        ({"rule": [], "rules": [rule("r", "other"), rule("s", "gone")]}, ["rule", "rules[1].relay.profile"]),
        (5, [""]),
    ],
)
def test_faults_of_a_file_have_the_files_own_paths(given: object, fields: list[str]) -> None:
    assert [f.field for f in apply_document(STORED_PROFILES, STORED_RULES, given, prune=False)[2]] == fields


def test_merge_passes_over_what_is_no_table() -> None:
    assert merge([profile("a")], [], {"server_profiles": [5, profile("b")], "rules": 3}, prune=False) == (
        [profile("b"), profile("a")],
        [],
    )


# --- differences, use, export -----------------------------------------------------------------------------


def differences(
    old: tuple[list[dict[str, object]], list[dict[str, object]]],
    new: tuple[list[dict[str, object]], list[dict[str, object]]],
) -> list[tuple[str, str]]:
    return [(d.change.value, d.field) for d in diff(old[0], old[1], new[0], new[1])]


def test_equal_inventories_have_no_difference() -> None:
    same = (STORED_PROFILES, STORED_RULES)
    assert differences(same, same) == []


def test_added_removed_and_changed_are_told_with_their_fields() -> None:
    old = ([canonical_profile("a"), canonical_profile("b", "h1", "h2")], [canonical_rule("r")])
    new = (
        [canonical_profile("B", "h1", "h3", preference="round-robin"), canonical_profile("c")],
        [canonical_rule("r", domain="x.example")],
    )
    assert differences(old, new) == [
        ("removed", "server_profiles[a]"),
        ("changed", "server_profiles[B].name"),
        ("changed", "server_profiles[B].servers[1]"),
        ("changed", "server_profiles[B].preference"),
        ("added", "server_profiles[c]"),
        ("changed", "rules[r].match.recipients[0]"),
    ]


def test_a_list_of_another_length_and_a_new_field_are_told_whole() -> None:
    old = ([canonical_profile("a")], [canonical_rule("r")])
    new = ([canonical_profile("a", "h1", "h2")], [{**canonical_rule("r"), "direction": "inbound"}])
    (servers, direction) = diff(old[0], old[1], new[0], new[1])
    assert (servers.field, servers.old) == ("server_profiles[a].servers", ["smtp://10.0.0.1:25"])
    assert (direction.change, direction.field, direction.new) == (Change.ADDED, "rules[r].direction", "inbound")
    assert diff(new[0], new[1], old[0], old[1])[1].change is Change.REMOVED


def test_another_order_of_rules_is_a_difference() -> None:
    a, b, c = canonical_rule("a"), canonical_rule("b"), canonical_rule("c")
    (moved,) = diff([], [a, b], [], [b, a])
    assert (moved.change, moved.field, moved.old, moved.new) == (Change.MOVED, "rules", ["a", "b"], ["b", "a"])
    assert differences(([], [a, c]), ([], [a, b, c])) == [("added", "rules[b]")]


def test_another_order_of_profiles_is_none() -> None:
    assert differences((STORED_PROFILES, []), (STORED_PROFILES[::-1], [])) == []


def test_rules_that_use_a_profile_are_found_ignoring_case() -> None:
    used = rules_using("EXCHANGE", [*STORED_RULES, canonical_rule("x", "other")])
    assert [(rule, by.field) for rule, by in used] == [("one", "relay.profile"), ("two", "relay.profile")]
    assert rules_using("gone", STORED_RULES) == ()
    assert rules_using("x", [{"name": "r"}, {"name": "s", "relay": {"profile": 5}}]) == ()


def test_export_has_no_defaults_and_applies_to_the_same_inventory() -> None:
    exported = export_document(STORED_PROFILES, STORED_RULES)
    assert exported == document(
        [profile("exchange", "smtp://10.0.0.1:25"), profile("other", "smtp://10.0.0.9:25")],
        [rule("one"), rule("two", domain="two.example")],
    )
    assert apply_document([], [], exported, prune=True) == (STORED_PROFILES, STORED_RULES, ())
