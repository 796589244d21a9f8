"""`config export -o FILE` into a file that people keep: what they wrote stays, and what is in force stands there."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posthouse.cli.inventory_file import faults_of, merge_into
from posthouse.core.fields import name_key
from posthouse.core.inventory import apply_document, diff, export_document, load_toml

Document = Mapping[str, Any]

SERVERS = ["10.0.0.1", "smtp://10.0.0.2:25", "mail.example:2525", "[2001:db8::1]", "10.0.0.3"]
PATTERNS = ["*@ours.example", "a@ours.example", r"/^x.*@ours\.example$/", "*@Räte.example"]
NETWORKS = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/64"]


def _some(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=4, unique=True)


PROFILES = st.fixed_dictionaries(
    {"type": st.just("smtp"), "servers": _some(SERVERS)},
    optional={
        "preference": st.sampled_from(["failover", "round-robin"]),
        "tls": st.just("starttls-required"),
        "pool": st.fixed_dictionaries(
            {},
            optional={"enabled": st.booleans(), "connections": st.sampled_from([20, 30]), "max_messages": st.just(9)},
        ),
        "client_certificate": st.just(False),
    },
)
RULES = st.fixed_dictionaries(
    {"relay": st.just({"profile": "HOP"})},
    optional={
        "enabled": st.booleans(),
        "direction": st.sampled_from(["inbound", "outbound"]),
        "open_relay": st.just(False),
        "senders": _some(PATTERNS),
        "clients": _some(NETWORKS),
    },
)


def _named(entries: st.SearchStrategy[Any], names: Sequence[str]) -> st.SearchStrategy[list[Any]]:
    each = st.tuples(st.sampled_from(names), entries)
    drawn = st.lists(each, max_size=5, unique_by=lambda one: name_key(one[0]))
    return drawn.map(lambda found: [{"name": name, **entry} for name, entry in found])


def _rule(rule: Document) -> Document:
    conditions = {name: rule[name] for name in ("clients", "senders") if name in rule}
    kept = {name: value for name, value in rule.items() if name not in conditions}
    return {**kept, "match": {**conditions, "recipients": ["*@ours.example"]}}


INVENTORIES = st.builds(
    lambda profiles, rules: {
        "server_profiles": [*profiles, {"name": "hop", "type": "smtp", "servers": ["10.9.9.9"]}],
        "rules": [_rule(rule) for rule in rules],
    },
    _named(PROFILES, ["a", "B", "c d", "Ä", 'q"uote']),
    _named(RULES, ["in", "Out", "x y", "ü", "#5", "[[rules]]"]),
)


class Writer:
    """Writes an inventory as somebody might, each comment with a number of its own."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.count = 0
        self.between: list[str] = []
        self.entries: dict[tuple[str, str], list[str]] = {}
        """Comments in and right above an entry."""

    def _yes(self) -> bool:
        return self._data.draw(st.booleans())

    def _comment(self, to: list[str]) -> str:
        self.count += 1
        to.append(f"# comment {self.count};")
        return to[-1]

    def document(self, inventory: Document) -> str:
        kinds = ["server_profiles", "rules"]
        if self._yes():
            kinds.reverse()
        text = f"{self._comment(self.between)}\n" if self._yes() else ""
        text += "\n" if self._yes() or text else ""
        for kind in kinds:
            for entry in inventory[kind]:
                text += self._entry(kind, entry)
        return text

    def _entry(self, kind: str, entry: Document) -> str:
        own = self.entries.setdefault((kind, name_key(entry["name"])), [])
        text = f"\n{self._comment(self.between)}\n\n" if self._yes() else ""
        text += f"{self._comment(own)}\n" if self._yes() else ""
        if text.startswith("#"):
            text = "\n" + text
        text += f"[[{kind}]]{'  ' + self._comment(own) if self._yes() else ''}\n"
        later = ""
        for name, value in entry.items():
            if isinstance(value, Mapping) and value and self._yes():
                later += f"[{kind}.{name}]\n" + "".join(self._value(k, v, own) for k, v in value.items())
            else:
                text += self._value(name, value, own)
        text += later
        return text + (f"{self._comment(own)}\n" if self._yes() else "") + "\n"

    def _value(self, name: str, value: object, own: list[str]) -> str:
        if isinstance(value, list) and self._yes():
            lines = "".join(f"  {_text(each)},  {self._comment(own)}\n" for each in value)
            return f"{name} = [\n{lines}]\n"
        return f"{name} = {_text(value)}{'  ' + self._comment(own) if self._yes() else ''}\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_text(each) for each in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_text(each)}" for name, each in value.items()) + " }"
    return str(value) if isinstance(value, int) else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _exported(inventory: Document) -> dict[str, Any]:
    profiles, rules, faults = apply_document([], [], inventory, prune=True)
    assert not faults, faults
    return export_document(profiles, rules)


@given(INVENTORIES, INVENTORIES, st.data())
def test_the_file_becomes_what_is_in_force_and_keeps_the_comments_of_what_did_not_change(
    old: Document, new: Document, data: st.DataObject
) -> None:
    writer = Writer(data)
    text = writer.document(old)
    before, wanted = _exported(old), _exported(new)
    assert faults_of(text) == (), text
    merged = merge_into(text, wanted)
    assert _exported(load_toml(merged)[0]) == wanted
    assert merge_into(merged, wanted) == merged
    for comment in writer.between:
        assert comment in merged, (text, merged)
    for kind in ("server_profiles", "rules"):
        after = {name_key(entry["name"]): entry for entry in wanted[kind]}
        for entry in before[kind]:
            key = name_key(entry["name"])
            if after.get(key) == entry:
                assert [c for c in writer.entries[kind, key] if c not in merged] == [], (text, merged)


@given(INVENTORIES, st.data())
def test_what_is_in_force_already_changes_no_octet(inventory: Document, data: st.DataObject) -> None:
    text = Writer(data).document(inventory)
    assert merge_into(text, _exported(inventory)) == text


@given(INVENTORIES)
def test_an_export_applied_changes_nothing_and_two_exports_are_the_same(inventory: Document) -> None:
    profiles, rules, _ = apply_document([], [], inventory, prune=True)
    exported = export_document(profiles, rules)
    again_profiles, again_rules, faults = apply_document(profiles, rules, exported, prune=True)
    assert not faults
    assert diff(profiles, rules, again_profiles, again_rules) == ()
    assert export_document(again_profiles, again_rules) == exported
    assert export_document(list(reversed(profiles)), rules) == exported
