"""The validator of everything that people write."""

import pytest

from posthouse.core.faults import Fault
from posthouse.core.fields import (
    FieldSpec,
    FieldType,
    Secret,
    has_control,
    name_key,
    near,
    parse_size,
    read,
    shown,
    size_text,
)

TABLE = (
    FieldSpec("name", FieldType.NAME, "", required=True),
    FieldSpec("color", FieldType.TEXT, "", "red", choices=("red", "green")),
    FieldSpec("note", FieldType.TEXT, "", maximum=5),
    FieldSpec("count", FieldType.INTEGER, "", 20, 1, 999),
    FieldSpec("size", FieldType.SIZE, "", 1024, 512, 2048),
    FieldSpec("on", FieldType.BOOLEAN, "", False),
    FieldSpec("texts", FieldType.TEXTS, "", minimum=1, maximum=3),
    FieldSpec("table", FieldType.TABLE, ""),
    FieldSpec("tables", FieldType.TABLES, ""),
    FieldSpec("secret", FieldType.SECRET, ""),
)


def faults(**given: object) -> tuple[Fault, ...]:
    return read({"name": "n", **given}, TABLE, "top")[1]


def test_absent_and_null_fields_have_their_defaults() -> None:
    values, found = read({"name": "n", "count": None, "note": None}, TABLE, "")
    assert found == ()
    assert (values.text("color"), values.integer("count"), values.boolean("on")) == ("red", 20, False)
    assert (values.entries("texts"), values.tables("tables"), values.table("table")) == ((), (), None)
    assert values.given == {"name"}


def test_given_values_are_read() -> None:
    document = {"name": "n", "color": "green", "count": 999, "on": True, "texts": ["a", "b"], "size": "2KiB"}
    values, found = read(document, TABLE, "x")
    assert found == ()
    assert values.entries("texts") == (("x.texts[0]", "a"), ("x.texts[1]", "b"))
    assert (values.integer("size"), values.value("color")) == (2048, "green")


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("color", 5, "top.color"),
        ("color", "blue", "top.color"),
        ("note", "toolong", "top.note"),
        ("note", "a\nb", "top.note"),
        ("note", "\ud800", "top.note"),
        ("note", ["a"], "top.note"),
        ("count", 0, "top.count"),
        ("count", 1000, "top.count"),
        ("count", "20", "top.count"),
        ("count", True, "top.count"),
        ("count", 20.0, "top.count"),
        ("size", 511, "top.size"),
        ("size", "3KiB", "top.size"),
        ("size", "big", "top.size"),
        ("size", True, "top.size"),
        ("on", 1, "top.on"),
        ("on", "true", "top.on"),
        ("texts", "a", "top.texts"),
        ("texts", [], "top.texts"),
        ("texts", ["a", 5], "top.texts[1]"),
        ("texts", ["a", "b", "c", "d"], "top.texts"),
        ("table", [], "top.table"),
        ("tables", {}, "top.tables"),
        ("tables", [{}, "x"], "top.tables[1]"),
        ("secret", 5, "top.secret"),
        ("secret", "", "top.secret"),
        ("secret", "a\0b", "top.secret"),
        ("secret", {"env": ""}, "top.secret"),
        ("secret", {"env": "A", "file": "B"}, "top.secret"),
        ("secret", {"set": False}, "top.secret"),
        ("name", "", "top.name"),
        ("name", "n" * 65, "top.name"),
        ("name", "a/b", "top.name"),
        ("name", "a\tb", "top.name"),
        ("name", " a", "top.name"),
        ("name", "..", "top.name"),
        ("name", "a\u202eb", "top.name"),
        ("name", 5, "top.name"),
    ],
)
def test_a_bad_value_is_one_fault_at_its_path(field: str, value: object, path: str) -> None:
    (fault,) = faults(**{field: value})
    assert fault.field == path
    assert fault.rule.endswith(".")
    assert fault.remedy.endswith((".", "?"))


def test_all_faults_are_told_at_once() -> None:
    _, found = read({"color": "blue", "count": 0, "nmae": "x", "texts": [1, "ok", 2]}, TABLE, "")
    assert {fault.field for fault in found} == {"nmae", "name", "color", "count", "texts[0]", "texts[2]"}


def test_a_bad_entry_does_not_hide_the_good_ones() -> None:
    values, _ = read({"name": "n", "texts": [1, "ok"], "tables": [{}, 5]}, TABLE, "")
    assert values.entries("texts") == (("texts[1]", "ok"),)
    assert values.tables("tables") == (("tables[0]", {}),)


def test_an_unknown_name_gets_a_suggestion_and_its_value_is_not_shown() -> None:
    (fault,) = faults(sekret="canary")
    assert fault.field == "top.sekret"
    assert "secret" in fault.remedy
    assert "canary" not in str(fault)


def test_an_unknown_name_unlike_any_lists_the_known_ones() -> None:
    (fault,) = faults(zzz=1)
    assert "color" in fault.remedy
    assert "count" in fault.remedy


def test_a_missing_required_field_is_a_fault() -> None:
    (fault,) = read({}, TABLE, "x")[1]
    assert (fault.field, fault.rule) == ("x.name", "This is required.")


@pytest.mark.parametrize("document", [None, 5, "text", [], True])
def test_anything_but_a_table_is_one_fault(document: object) -> None:
    values, found = read(document, TABLE, "x")
    assert [fault.field for fault in found] == ["x"]
    assert values.integer("count") == 20


def test_a_choice_tells_the_remedy_for_likely_mistakes() -> None:
    table = (FieldSpec("tls", FieldType.TEXT, "", "none", choices=("none",), remedies=(("starttls", "Say more."),)),)
    assert read({"tls": "StartTLS"}, table, "")[1][0].remedy == "Say more."
    assert read({"tls": "none "}, table, "")[1][0].remedy == "Did you mean none?"


@pytest.mark.parametrize("value", ["canary", {"env": "canary", "x": 1}, ["canary"], "can\0ary"])
def test_secrets_are_never_shown(value: object) -> None:
    found = read({"name": "n", "secret": value}, TABLE, "")
    assert "canary" not in repr(found[0].secret("secret"))
    assert all("ary" not in str(fault) for fault in found[1])


def test_references_to_secrets_are_read() -> None:
    for source in ("env", "file"):
        assert read({"name": "n", "secret": {source: "X"}}, TABLE, "")[0].secret("secret") == Secret(source, "X")
    assert read({"name": "n", "secret": {"set": True}}, TABLE, "")[0].secret("secret") == Secret("set", "")


def test_names_become_nfc() -> None:
    assert read({"name": "Poste\u0301"}, TABLE, "")[0].text("name") == "Posté"


@pytest.mark.parametrize("name", ["a", "n" * 64, "Postfach 7", "郵便", "a.b"])
def test_good_names_pass(name: str) -> None:
    assert faults(name=name) == ()


def test_names_are_the_same_ignoring_case_and_composition() -> None:
    assert name_key("ÉCOLE") == name_key("e\u0301cole")
    assert name_key("Straße") == name_key("STRASSE")
    assert name_key("a") != name_key("b")


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("50MiB", 50 * 1024**2),
        ("10 KiB", 10240),
        ("1GiB", 1024**3),
        ("4096", 4096),
        ("4096 octets", 4096),
        ("", None),
        ("MiB", None),
        ("50MB", None),
        ("1.5MiB", None),
        ("-1", None),
        ("٣MiB", None),
        ("9" * 16, None),
    ],
)
def test_sizes_are_read_strictly(text: str, octets: int | None) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize(("octets", "text"), [(50 * 1024**2, "50MiB"), (1024**3, "1GiB"), (1536, "1536"), (0, "0")])
def test_sizes_are_written_short_and_exact(octets: int, text: str) -> None:
    assert size_text(octets) == text
    assert parse_size(text) == octets


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) == 200
    assert shown([1, "a"]) == '[1, "a"]'


def test_of_tables_only_names_are_shown_and_of_user_info_nothing() -> None:
    assert shown([{"passwort": ["canary"]}, 1]) == '[{"passwort": "***"}, 1]'
    for written in ("smtp://u:canary@h", "smtp://u:can/ary@canary@h", "u:canary@h", "u:can/canary@h:25"):
        assert "canary" not in shown(written) + shown([[written]])
        assert "@h" in shown(written)
    assert shown("you@ours.example") == "you@ours.example"
    assert shown({1, 2}).startswith('"')


def test_near_ignores_case_and_hyphens() -> None:
    assert near("Server-Profiles", ["rules", "server_profiles"]) == "server_profiles"
    assert near("qqq", ["rules"]) == ""


@pytest.mark.parametrize("text", ["\0", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\ud800"])
def test_control_characters_are_seen(text: str) -> None:
    assert has_control(f"a{text}b")


@pytest.mark.parametrize("text", ["plain", "blank between", "é", "👩‍💻", "\u00a0"])
def test_other_characters_are_no_control_characters(text: str) -> None:
    assert not has_control(text)
