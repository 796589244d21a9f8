"""The values of the variables that texts of a rule have."""

from dataclasses import replace

from posthouse.core.disposition import Finding
from posthouse.core.mime.notice_text import VARIABLES
from posthouse.core.scan import Verdict
from posthouse.core.scan_variables import variables
from support.flow import mail

HEADER = {
    "Date": "Wed, 25 Nov 2026 12:00:00 +0000",
    "From": "Ann <ann@example.net>",
    "Subject": "Hällo",
    "Message-ID": "<1@example.net>",
}
MAIL = replace(mail(), reverse_path="bounces@example.net", subject="raw subject", message_id="<raw@x>")


def test_every_variable_has_its_value() -> None:
    values = variables(MAIL, ["a@ours.example", "b@ours.example"], HEADER, [])
    assert values == {
        "email_date": HEADER["Date"],
        "email_sender": "bounces@example.net",
        "email_recipients": "a@ours.example, b@ours.example",
        "email_subject": "Hällo",
        "email_message_id": "<1@example.net>",
        "origin_ip": MAIL.session.client_address,
        "scan_verdicts": "clean",
    }
    assert values.keys() == VARIABLES.keys()


def test_the_null_reverse_path_is_told_by_the_from_field() -> None:
    assert variables(replace(MAIL, reverse_path=""), [], HEADER, [])["email_sender"] == HEADER["From"]
    assert variables(replace(MAIL, reverse_path=""), [], {}, [])["email_sender"] == ""


def test_what_the_examiner_did_not_tell_is_as_at_intake() -> None:
    values = variables(MAIL, [], {}, [])
    assert (values["email_subject"], values["email_message_id"], values["email_date"]) == (
        "raw subject",
        "<raw@x>",
        "",
    )


def test_verdicts_are_told_once_each_without_the_clean_ones() -> None:
    findings = [
        Finding("", Verdict.CLEAN, ""),
        Finding("1", Verdict.BLOCKED, "Eicar"),
        Finding("1", Verdict.BLOCKED, "Eicar"),
        Finding("2", Verdict.ENCRYPTED, ""),
    ]
    assert variables(MAIL, [], {}, findings)["scan_verdicts"] == "blocked: Eicar, encrypted"


def test_long_lists_are_cut_and_tell_how_many_more_there_are() -> None:
    values = variables(MAIL, [f"u{n}@a.example" for n in range(23)], {}, [])
    assert values["email_recipients"].endswith("u19@a.example and 3 more")
    many = [Finding(str(n), Verdict.BLOCKED, f"Threat.{n}") for n in range(21)]
    assert variables(MAIL, [], {}, many)["scan_verdicts"].endswith("Threat.19 and 1 more")


def test_what_others_say_is_one_line_and_short() -> None:
    values = variables(MAIL, [], {"Subject": "a\r\nBcc: x\x00" + "y" * 9999}, [Finding("", Verdict.BLOCKED, "a\nb")])
    assert values["email_subject"].startswith("a??Bcc: x?yyy")
    assert len(values["email_subject"]) == 500
    assert values["scan_verdicts"] == "blocked: a?b"
