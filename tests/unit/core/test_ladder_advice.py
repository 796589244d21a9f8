"""Each row of the table of advice, by a fault that it is for."""

import pytest

from posthouse.core import ladder_advice
from posthouse.core.clamd_reply import NO_SIGNATURES, NOT_CLAMD, NOT_FOUND
from posthouse.core.http_ladder import (
    KEY_UNSEEN,
    LICENCE_EXPIRED,
    LOST,
    LOST_IN_CLEAR,
    NO_ANSWER,
    NO_ENGINE,
    NO_LICENCE,
    NOT_CORE,
    NOT_HTTP,
    NOT_HTTP_SMTP,
    NOT_HTTP_TLS,
    NOT_READY,
    NOT_VAULT,
    TOO_LONG,
    refused,
)
from posthouse.core.ladder_advice import DOWNGRADED, EXPIRES, IN_CLEAR, ROWS, UNVERIFIED, advise
from posthouse.core.own_address import LINK_LOCAL, OWN_LISTENER, refusal
from posthouse.core.profile_test import StageName, StageResult, failed
from posthouse.core.service_type import ServiceType
from posthouse.core.smtp_client import INJECTED
from posthouse.core.smtp_ladder import NOT_SMTP, NOT_SMTP_HTTP, NOT_SMTP_TLS
from posthouse.core.smtp_opening import NO_AUTH, NO_TLS_FOR_LOGIN, NOT_OFFERED, NOT_TLS

WORDS = {"host": "mail.example", "port": "2525", "username": "relay", "hostname": "mx1.example"}
S = StageName
Case = tuple[StageName, str] | tuple[StageName, str, ServiceType] | tuple[StageName, str, ServiceType, str]
"""Stage and fault; the type if it is not the first that the row is for, and the port."""
CORE, VAULT, CLAMAV = ServiceType.METADEFENDER_CORE, ServiceType.METADEFENDER_VAULT, ServiceType.CLAMAV
FAULTS: list[Case] = [
    (S.VERSION, NOT_HTTP_SMTP, CORE),
    (S.READY, NOT_HTTP_TLS, VAULT),
    (S.VERSION, NOT_HTTP, CORE),
    (S.READY, "the server redirects (302), which is not followed", CORE),
    (S.KEY, NO_ANSWER, VAULT),
    (S.READY, LOST_IN_CLEAR, VAULT),
    (S.READY, LOST, VAULT),
    (S.VERSION, TOO_LONG, CORE),
    (S.RESOLVE, OWN_LISTENER, CORE),
    (S.RESOLVE, OWN_LISTENER),
    (S.RESOLVE, LINK_LOCAL),
    (S.RESOLVE, "name not found"),
    (S.RESOLVE, "name not resolved in time"),
    (S.CONNECT, "socket /run/clamav/clamd.ctl: no such file or directory"),
    (S.CONNECT, "connection refused", CLAMAV),
    (S.CONNECT, "connection refused", VAULT, "8000"),
    (S.CONNECT, "connection refused"),
    (S.CONNECT, "no answer to connect within 10 s"),
    (S.CONNECT, "host unreachable"),
    (S.CONNECT, "too many open files here"),
    (S.CONNECT, "connection reset"),
    (S.GREETING, NOT_SMTP_HTTP),
    (S.GREETING, NOT_SMTP_TLS),
    (S.GREETING, NOT_SMTP),
    (S.GREETING, "no greeting within the 10 s of the test"),
    (S.GREETING, "421 4.3.2 too busy"),
    (S.GREETING, "554 5.7.1 not you"),
    (S.GREETING, "connection lost before the greeting"),
    (S.EHLO, "at EHLO: 550 5.7.1 who are you"),
    (S.EHLO, "no reply to EHLO within the 10 s of the test"),
    (S.TLS, "tls_ca: /etc/self-signed.pem cannot be read: No such file or directory"),
    (S.TLS, NOT_OFFERED),
    (S.TLS, "at STARTTLS: 454 4.7.0 TLS not available"),
    (S.TLS, INJECTED),
    (S.TLS, NOT_TLS, CORE),
    (S.TLS, NOT_TLS),
    (S.TLS, "certificate not valid before 2030-01-01"),
    (S.TLS, "certificate expired on 2024-02-29"),
    (S.TLS, "self-signed certificate"),
    (S.TLS, "certificate issued by an unknown CA: Ours"),
    (S.TLS, "the certificate is for a.example, not b.example"),
    (S.TLS, "the certificate is revoked"),
    (S.TLS, "no TLS within the 10 s of the test"),
    (S.TLS, "no common TLS version (the server may only speak TLS 1.1)"),
    (S.TLS, "the certificate has the fingerprint 00…, pinned is 11…"),
    (S.TLS, "no common cipher, or the server wants a client certificate"),
    (S.TLS, "the server wants a client certificate", VAULT),
    (S.TLS, "the server wants a client certificate"),
    (S.TLS, "the server does not know the CA of the client certificate"),
    (S.TLS, "the server does not know the name it was asked for"),
    (S.TLS, "the server closed the connection during the handshake"),
    (S.AUTH, NO_TLS_FOR_LOGIN),
    (S.AUTH, NO_AUTH),
    (S.AUTH, "at AUTH: 535 5.7.8 wrong"),
    (S.AUTH, "at AUTH: 454 4.7.0 later"),
    (S.AUTH, "the password's variable X is not set in the environment"),
    (S.AUTH, "the stored secret fits no key of the environment"),
    (S.AUTH, "at AUTH: 504 5.5.4 no such mechanism"),
    (S.MAIL, "at MAIL: 530 5.7.0 authentication required"),
    (S.MAIL, "at MAIL: 550 5.1.8 no such sender"),
    (S.MAIL, "at RCPT: 550 5.1.1 no such user"),
    (S.MAIL, "at RCPT: 450 4.2.0 greylisted"),
    (S.MAIL, "no reply to RCPT within the 10 s of the test"),
    (S.PING, NOT_CLAMD),
    (S.PING, "connection lost before the reply"),
    (S.VERSION, NOT_CORE, CORE),
    (S.VERSION, "connection lost before the reply"),
    (S.EICAR, NO_SIGNATURES),
    (S.EICAR, NOT_FOUND),
    (S.EICAR, "INSTREAM size limit exceeded. ERROR"),
    (S.READY, NOT_VAULT, VAULT, "8000"),
    (S.READY, NOT_VAULT, VAULT),
    (S.READY, NO_LICENCE, CORE),
    (S.READY, NO_ENGINE, CORE),
    (S.READY, NOT_READY, CORE),
    (S.KEY, KEY_UNSEEN, VAULT),
    (S.KEY, refused(403), VAULT),
    (S.KEY, refused(403), CORE),
    (S.KEY, "the API key's variable X is not set in the environment", CORE),
    (S.KEY, "the API key is not stored", VAULT),
    (S.KEY, "the server answers 500", CORE),
    (S.LICENCE, LICENCE_EXPIRED, CORE),
    (S.LICENCE, "the server answers 500", CORE),
]
_OF_CLAMD = {S.PING, S.VERSION, S.EICAR}
FACTS = {
    "sha256": "ab" * 32,
    "names": "a.example",
    "issuer": "Ours",
    "mail_from": "me@a.example",
    "rcpt_to": "b@b.example",
}


@pytest.mark.parametrize("at", range(len(FAULTS)), ids=[f"{case[0]}-{case[1][:30]}" for case in FAULTS])
def test_each_fault_gets_the_advice_of_its_own_row(at: int) -> None:
    stage, fault, *more = FAULTS[at]
    service_type = ServiceType(more[0]) if more else CLAMAV if stage in _OF_CLAMD else ServiceType.SMTP
    words = {**WORDS, "port": str(more[1])} if len(more) > 1 else WORDS
    said = advise(failed(stage, 0.0, fault, FACTS), words, service_type)
    product = ladder_advice._PRODUCTS[service_type]
    assert said == ROWS[at].advice.format(**FACTS, **words, product=product, tls_name="a.example")
    assert said.endswith(".")
    assert len(said) < 260


def test_no_row_is_without_a_fault_that_leads_to_it() -> None:
    assert len(FAULTS) == len(ROWS)


_EVERYWHERE = {S.RESOLVE, S.CONNECT}
_STAGES = {
    ServiceType.SMTP: _EVERYWHERE | {S.GREETING, S.EHLO, S.TLS, S.AUTH, S.MAIL},
    CLAMAV: _EVERYWHERE | _OF_CLAMD,
    CORE: _EVERYWHERE | {S.TLS, S.VERSION, S.READY, S.KEY, S.LICENCE},
    VAULT: _EVERYWHERE | {S.TLS, S.READY, S.KEY},
}


@pytest.mark.parametrize(("service_type", "stages"), _STAGES.items())
def test_every_stage_has_advice_for_a_fault_that_nobody_foresaw(
    service_type: ServiceType, stages: set[StageName]
) -> None:
    for stage in stages:
        assert advise(failed(stage, 0.0, "the moon is full"), WORDS, service_type), stage


def test_every_stage_belongs_to_a_service_type() -> None:
    assert {S.QUIT}.union(*_STAGES.values()) == set(StageName)


@pytest.mark.parametrize(
    ("names", "offered"),
    [
        ("*.ours.example, mx.ours.example", "mx.ours.example"),
        ("*.ours.example, *.b.example, c.example and 4 more", "c.example"),
        ("a.example and 2 more", "a.example"),
        ("*.ours.example", "mail.ours.example"),
    ],
)
def test_the_name_that_is_offered_for_tls_name_is_one(names: str, offered: str) -> None:
    fault = f"the certificate is for {names}, not mail.example"
    assert f'(tls_name = "{offered}")' in advise(failed(S.TLS, 0.0, fault, {"names": names}), WORDS, CORE)


def test_a_fact_that_is_missing_is_a_question_mark_and_no_error() -> None:
    assert 'tls_pin = "?"' in advise(failed(S.TLS, 0.0, "self-signed certificate"), WORDS, ServiceType.SMTP)


def test_braces_in_what_a_server_says_are_only_text() -> None:
    facts = {"issuer": "{host.__class__}", "sha256": "ab"}
    said = advise(failed(S.TLS, 0.0, "certificate issued by an unknown CA: {x}", facts), WORDS, ServiceType.SMTP)
    assert "({host.__class__})" in said


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ({"downgraded": True}, DOWNGRADED),
        ({"in_clear": True}, IN_CLEAR),
        ({"certificate": "unverified", "sha256": "ab", "days_left": 90}, UNVERIFIED.format(sha256="ab")),
        ({"certificate": "verified", "days_left": ladder_advice.EXPIRY_DAYS - 1}, EXPIRES.format(days_left=29)),
        ({"certificate": "verified", "days_left": ladder_advice.EXPIRY_DAYS}, ""),
        ({}, ""),
    ],
)
def test_a_stage_that_succeeded_may_leave_something_to_do(detail: dict[str, object], said: str) -> None:
    assert advise(StageResult(S.TLS, True, 0.0, detail), WORDS, ServiceType.SMTP) == said


@pytest.mark.parametrize(
    ("seconds", "stage", "slow"), [(5.0, S.GREETING, True), (2.9, S.GREETING, False), (5.0, S.EHLO, False)]
)
def test_a_greeting_after_five_seconds_is_good_and_spoken_of(seconds: float, stage: StageName, slow: bool) -> None:
    said = advise(StageResult(stage, True, seconds), WORDS, ServiceType.SMTP)
    assert ("takes 5 s to greet" in said) == slow
    assert bool(said) == slow


OURS = [("0.0.0.0", 25), ("192.0.2.1", 2525), ("::1", 26)]


@pytest.mark.parametrize(
    ("address", "port", "local", "why"),
    [
        ("127.0.0.1", 25, True, OWN_LISTENER),
        ("192.0.2.7", 25, True, OWN_LISTENER),
        ("192.0.2.7", 25, False, ""),
        ("192.0.2.1", 2525, False, OWN_LISTENER),
        ("::ffff:192.0.2.1", 2525, False, OWN_LISTENER),
        ("192.0.2.1", 2526, True, ""),
        ("0.0.0.0", 2525, True, OWN_LISTENER),
        ("::1", 26, True, OWN_LISTENER),
        ("10.0.0.1", 25, False, ""),
        ("127.0.0.1", 24, True, ""),
        ("169.254.169.254", 80, False, LINK_LOCAL),
        ("::ffff:169.254.169.254", 80, False, LINK_LOCAL),
        ("fe80::1%lo", 80, False, LINK_LOCAL),
    ],
)
def test_what_a_test_does_not_connect_to(address: str, port: int, local: bool, why: str) -> None:
    assert refusal(address, port, OURS, local=local) == why
