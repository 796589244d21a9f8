"""What the rows of several workers say of one server together."""

from posthouse.core.histogram import ERROR, Recent
from posthouse.settings import NodeSettings, OwnMail
from support.rest import Rest

FIRST = "smtp://10.0.0.1:25"
NONE = {"samples": 0, "p50": None, "p95": None}


def server(rest: Rest) -> dict[str, object]:
    found = rest.client().get("/api/v1/server-profiles/exchange/state").json()["servers"][0]
    assert isinstance(found, dict)
    return found


def measured(*seconds: float) -> dict[str, object]:
    recent = Recent()
    for each in seconds:
        recent.add(each, 0.0)
    return {"transaction": {str(number): count for number, count in recent.counts(0.0).items()}}


def test_a_stale_connection_has_saved_nothing() -> None:
    rest = Rest()
    for worker, stale in (("w/0", 0), ("w/1", 10)):
        pool = {"idle": 0, "fresh": 15, "reused": 40, "stale": stale, "opened": 20, "tls": 20, "tls_saved": 35}
        rest.knows(worker, "exchange", FIRST, pool=pool)
    assert server(rest)["reuse"] == {
        "transactions": 100,
        "rate": 0.7,
        "tcp_saved": 70,
        "tls_saved": 70,
        "opened": 40,
        "tls": 40,
    }


def test_times_of_all_workers_are_told_as_quantiles() -> None:
    rest = Rest()
    rest.knows("w/0", "exchange", FIRST, times=measured(*[0.010] * 60))
    rest.knows("w/1", "exchange", FIRST, times=measured(*[0.010] * 30, *[2.0] * 10))
    found = server(rest)
    times = found["times"]
    assert isinstance(times, dict)
    assert (times["connect"], times["tls"]) == (NONE, NONE)
    told = times["transaction"]
    assert told["samples"] == 100
    assert abs(told["p50"] - 0.010) <= 0.010 * ERROR + 0.0001
    assert abs(told["p95"] - 2.0) <= 2.0 * ERROR + 0.01
    workers = found["workers"]
    assert isinstance(workers, list)
    assert [row["times"]["transaction"]["samples"] for row in workers] == [60, 40]


def test_the_same_error_of_two_workers_is_one_and_five_are_told() -> None:
    rest = Rest()
    now = rest.clock.now()

    def error(ago: float, said: str, times: int = 1) -> dict[str, object]:
        return {"at": now - ago, "stage": "connect", "text": said, "times": times}

    rest.knows("w/0", "exchange", FIRST, last_errors=[error(1, "refused", 3), error(9, "a"), error(10, "b")])
    rest.knows("w/1", "exchange", FIRST, last_errors=[error(2, "refused", 4), error(3, "c"), error(4, "d")])
    rest.knows("w/2", "exchange", FIRST, last_errors=[error(0, "e")])
    assert server(rest)["last_errors"] == [
        error(0, "e"),
        error(1, "refused", 7),
        error(3, "c"),
        error(4, "d"),
        error(9, "a"),
    ]


def test_of_certificates_the_one_that_ends_last_is_told_with_whole_days_left() -> None:
    rest = Rest()
    now = rest.clock.now()
    for worker, days in (("w/0", 3.0), ("w/1", 13.9)):
        shown = {"names": f"{worker}.example", "expires_at": now + days * 86400}
        rest.knows(worker, "exchange", FIRST, certificate=shown)
    rest.knows("w/2", "exchange", FIRST, certificate=None)
    assert server(rest)["certificate"] == {
        "names": "w/1.example",
        "expires_at": now + 13.9 * 86400,
        "days_left": 13,
    }
    rest = Rest()
    rest.knows("w/0", "exchange", FIRST, certificate={"names": "x", "expires_at": rest.clock.now() - 1})
    assert server(rest)["certificate"] == {"names": "x", "expires_at": rest.clock.now() - 1, "days_left": -1}


def test_who_else_uses_the_endpoint_and_the_profile() -> None:
    rest = Rest(settings=NodeSettings("mx.test", own_mail=OwnMail("exchange", "a@x.example", "b@x.example")))
    others = [
        {"name": "second", "type": "smtp", "servers": ["10.0.0.9", "smtps://10.0.0.1:25"]},
        {"name": "third", "type": "smtp", "servers": ["10.0.0.1:26"]},
        {"name": "core", "type": "metadefender-core", "servers": ["http://10.0.0.1:25"]},
    ]
    rules = [{"name": "more", "match": {"recipients": ["*@more.example"]}, "relay": {"profile": "Exchange"}}]
    applied = rest.client().post("/api/v1/config/apply", json={"server_profiles": others, "rules": rules})
    assert applied.status_code == 200, applied.text
    state = rest.client().get("/api/v1/server-profiles/exchange/state").json()
    assert [one["also_used_by"] for one in state["servers"]] == [["second"], []]
    assert (state["rules"], state["own_mail"]) == (["more", "inbound"], True)


SCANNER = "clamd://10.0.0.7:3310"


def scanning() -> Rest:
    rest = Rest()
    profiles = [
        {"name": "clam", "type": "clamav", "servers": [SCANNER, "10.0.0.8"]},
        {"name": "vault", "type": "metadefender-vault", "servers": ["10.0.0.9"], "api_key": {"env": "KEY"}},
    ]
    rule = {
        "name": "scanned",
        "match": {"recipients": ["*@x.example"]},
        "scan": {"profiles": ["CLAM"]},
        "vault": {"profile": "vault", "attachments": "all"},
        "relay": {"profile": "exchange"},
    }
    applied = rest.client().post("/api/v1/config/apply", json={"server_profiles": profiles, "rules": [rule]})
    assert applied.status_code == 200, applied.text
    return rest


def test_a_scanner_has_no_number_that_it_does_not_have() -> None:
    rest = scanning()
    now = rest.clock.now()
    opened = rest.circuit("connection refused", next_probe=now + 40)
    rest.scans("w/0", "clam", SCANNER, in_use=2, scanned=40, served_at=now - 5)
    error = {"at": now, "stage": "scan", "text": "connection refused", "times": 3}
    rest.scans("w/1", "clam", SCANNER, endpoint=opened, identity=opened, scanned=2, last_errors=[error])
    state = rest.client().get("/api/v1/server-profiles/clam/state").json()
    assert (state["rules"], state["own_mail"]) == (["scanned"], False)
    one, other = state["servers"]
    assert [(row["worker"], row["scanned"]) for row in one.pop("workers")] == [("w/0", 40), ("w/1", 2)]
    assert one == {
        "server": SCANNER,
        "circuit": "open",
        "reason": "connection refused",
        "since": now,
        "next_probe": now + 40,
        "in_use": 2,
        "scanned": 42,
        "served_at": now - 5,
        "last_fault": "",
        "last_fault_at": None,
        "last_errors": [error],
        "drain": None,
    }
    assert (other["circuit"], other["in_use"], other["scanned"], other["workers"]) == (None, None, None, [])


def test_of_a_vault_workers_tell_nothing() -> None:
    state = scanning().client().get("/api/v1/server-profiles/vault/state").json()
    assert state["rules"] == ["scanned"]
    (server,) = state["servers"]
    assert (server["circuit"], server["in_use"], server["scanned"], server["workers"]) == (None, None, None, [])


def test_every_rule_that_names_a_profile_is_told_in_the_order_of_the_rules() -> None:
    rest = scanning()
    document = {
        "rules": [{"name": "two", "match": {"recipients": ["*@y.example"]}, "relay": {"profile": "exchange"}}]
    }
    assert rest.client().post("/api/v1/config/apply", json=document).status_code == 200
    assert rest.client().get("/api/v1/server-profiles/exchange/state").json()["rules"] == [
        "two",
        "scanned",
        "inbound",
    ]
