"""An inventory that people keep in a file, brought up to date: what of it stays, what changes, and where."""

import pytest

from posthouse.cli.inventory_file import NotMergeable, faults_of, merge_into
from posthouse.core.inventory import apply_document, export_document, load_toml

FILE = """\
# Kept in git: mail@ours.example

# --- next hops ---

# The two Exchange servers in Bern.
[[server_profiles]]
name = "exchange"                    # as the network plan calls it
type = "smtp"
servers = [
  "10.0.0.1",       # first floor
  "10.0.0.2:2525",  # cellar
]
preference = "failover"              # the default, on purpose
tls = 'starttls-required'
username = "relay"
password = "a text that only this file has"

# Mails older than a year.
[[server_profiles]]
name = "archive"
type = "smtp"
servers = ["10.0.0.3"]
# pool = { enabled = true }

# --- rules ---

# What comes in.
[[rules]]
name = "inbound"
relay = { profile = "Exchange" }     # not the archive
[rules.match]
clients = [
  "192.0.2.0/24",   # the provider
  "198.51.100.7",   # its backup
]
recipients = ["*@ours.example"]

# What the printers send.
[[rules]]
name = "printers"
match = { clients = ["10.1.0.0/16"], recipients = ["*"] }
relay = { profile = "exchange" }
# end
"""


def _exported(text: str, **changes: object) -> dict[str, object]:
    document = load_toml(text)[0]
    profiles, rules, faults = apply_document([], [], {**document, **changes}, prune=True)
    assert not faults, faults
    return export_document(profiles, rules)


def _wanted() -> tuple[dict[str, dict[str, object]], list[dict[str, object]]]:
    """Profiles by name, and rules, to be changed by a test."""
    document = _exported(FILE)
    profiles, rules = document["server_profiles"], document["rules"]
    assert isinstance(profiles, list)
    assert isinstance(rules, list)
    return {profile["name"]: profile for profile in profiles}, rules


def _merged(profiles: dict[str, dict[str, object]], rules: list[dict[str, object]]) -> str:
    return merge_into(FILE, {"server_profiles": [profiles[name] for name in sorted(profiles)], "rules": rules})


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Lines of the file that are gone, and lines that are new."""
    old, new = FILE.splitlines(), text.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_what_is_in_force_already_changes_nothing_not_even_spelling_and_defaults() -> None:
    assert _merged(*_wanted()) == FILE


def test_a_changed_value_changes_its_line_only() -> None:
    profiles, rules = _wanted()
    profiles["exchange"]["preference"] = "round-robin"
    rules[0]["relay"] = {"profile": "archive"}
    gone, new = _lines(_merged(profiles, rules))
    assert gone == [
        'preference = "failover"              # the default, on purpose',
        'relay = { profile = "Exchange" }     # not the archive',
    ]
    assert new == [
        'preference = "round-robin"              # the default, on purpose',
        'relay = { profile = "archive" }     # not the archive',
    ]


def test_entries_of_a_list_come_and_go_with_their_comments() -> None:
    profiles, rules = _wanted()
    profiles["exchange"]["servers"] = ["smtp://10.0.0.9:25", "smtp://10.0.0.1:25"]
    rules[0]["match"] = {"clients": ["198.51.100.7/32", "203.0.113.0/24"], "recipients": ["*@ours.example"]}
    text = _merged(profiles, rules)
    assert '"10.0.0.1",       # first floor' in text
    assert '"198.51.100.7",   # its backup' in text
    assert "cellar" not in text
    assert _exported(text)["rules"] == rules


def test_what_is_removed_goes_and_what_is_new_comes_at_the_end_of_its_table() -> None:
    profiles, rules = _wanted()
    del profiles["exchange"]["username"], profiles["exchange"]["password"]
    profiles["exchange"]["tls_min"] = "1.3"
    rules[0]["direction"] = "inbound"
    gone, new = _lines(_merged(profiles, rules))
    assert gone == ['username = "relay"', 'password = "a text that only this file has"']
    assert new == ['tls_min = "1.3"', 'direction = "inbound"']


def test_a_secret_that_the_file_has_as_a_text_stays_since_nobody_can_read_the_stored_one() -> None:
    profiles, rules = _wanted()
    assert profiles["exchange"]["password"] == {"set": True}
    profiles["exchange"]["username"] = "other"
    assert _lines(_merged(profiles, rules)) == (['username = "relay"'], ['username = "other"'])
    profiles["exchange"]["password"] = {"env": "RELAY_PASSWORD"}
    assert 'password = {env = "RELAY_PASSWORD"}' in _merged(profiles, rules)


def test_an_entry_that_is_gone_goes_with_the_comment_above_it_and_nothing_else() -> None:
    profiles, rules = _wanted()
    del profiles["archive"], rules[1]
    gone, new = _lines(_merged(profiles, rules))
    assert new == []
    assert gone == [
        "# Mails older than a year.",
        'name = "archive"',
        'servers = ["10.0.0.3"]',
        "# pool = { enabled = true }",
        "# What the printers send.",
        'name = "printers"',
        'match = { clients = ["10.1.0.0/16"], recipients = ["*"] }',
        'relay = { profile = "exchange" }',
        "# end",
    ]


def test_new_entries_stand_after_the_profiles_and_where_their_priority_says() -> None:
    profiles, rules = _wanted()
    profiles["backup"] = {"name": "backup", "type": "smtp", "servers": ["smtp://10.0.0.4:25"]}
    new_rule: dict[str, object] = {
        "name": "new",
        "match": {"recipients": ["*@new.example"]},
        "relay": {"profile": "backup"},
    }
    text = _merged(profiles, [rules[0], new_rule, rules[1]])
    headings = [line for line in text.splitlines() if line.startswith(("name", "# -"))]
    assert [line.partition("  ")[0] for line in headings] == [
        "# --- next hops ---",
        'name = "exchange"',
        'name = "archive"',
        'name = "backup"',
        "# --- rules ---",
        'name = "inbound"',
        'name = "new"',
        'name = "printers"',
    ]
    assert '\n\n[[server_profiles]]\nname = "backup"\n' in text
    assert 'relay = {profile = "backup"}\n\n# What the printers send.\n' in text


def test_rules_that_moved_take_their_comments_with_them() -> None:
    profiles, rules = _wanted()
    text = _merged(profiles, rules[::-1])
    assert text.index("# --- rules ---") < text.index("# What the printers send.\n[[rules]]")
    assert text.index('name = "printers"') < text.index("# What comes in.\n[[rules]]")
    assert _lines(text) == ([], [])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_empty_file_and_one_of_comments_are_filled(newline: str) -> None:
    wanted = _exported(FILE.replace('password = "a text that only this file has"\n', 'password = { env = "P" }\n'))
    for text in ("", f"# only this{newline}", f"# no newline at the end{newline}# x"):
        merged = merge_into(text, wanted)
        assert merged.startswith(text)
        assert _exported(merged) == wanted


def test_windows_line_ends_stay() -> None:
    text = FILE.replace("\n", "\r\n")
    profiles, rules = _wanted()
    profiles["exchange"]["preference"] = "round-robin"
    merged = merge_into(text, {"server_profiles": [profiles["archive"], profiles["exchange"]], "rules": rules})
    assert merged == text.replace('"failover" ', '"round-robin" ')


@pytest.mark.parametrize(
    "text",
    [
        'server_profiles = [{ name = "a", type = "smtp", servers = ["h"] }]\n',
        'rules = []\n[[server_profiles]]\nname = "a"\ntype = "smtp"\nservers = ["h"]\n',
        '[[server_profiles]]\nname = "a"\ntype = "smtp"\nusername = """\n[[rules]]\n"""\nservers = ["h"]\n',
    ],
)
def test_a_file_that_is_written_otherwise_is_not_touched(text: str) -> None:
    with pytest.raises(NotMergeable):
        merge_into(text, _exported(FILE))


def test_a_file_with_faults_tells_them() -> None:
    assert [fault.field for fault in faults_of("no = = toml")] == ["file"]
    assert [fault.field for fault in faults_of('[[rules]]\nname = "a"\n')] == [
        "rules[0].relay",
        "rules[0].match.recipients",
    ]
