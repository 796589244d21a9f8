"""posthouse.toml, environment and flags."""

import runpy
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest

from posthouse.core.faults import Fault
from posthouse.core.limits import TABLE, Limit, Limits, table_and_class_agree
from posthouse.settings import (
    Address,
    BareNewlines,
    ListenerSettings,
    ListenerTls,
    NodeSettings,
    OwnMail,
    load_settings,
)


def both(
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    *,
    hostname: str = "mx1.example",
    cores: int = 4,
) -> tuple[NodeSettings | None, tuple[Fault, ...]]:
    return load_settings(text, environ=environ or {}, flags=flags or {}, hostname=hostname, cores=cores)


def settings(
    text: str | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> NodeSettings:
    loaded, faults = both(text, environ, flags)
    assert faults == ()
    assert loaded is not None
    return loaded


def fields(text: str, environ: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None) -> list[str]:
    loaded, faults = both(text, environ, flags)
    assert loaded is None
    return [fault.field for fault in faults]


def test_without_a_file_the_defaults_of_the_design_hold() -> None:
    assert settings() == NodeSettings(
        hostname="mx1.example",
        data_dir="./posthouse-data",
        database="sqlite",
        workers=3,
        listeners=(ListenerSettings(Address("127.0.0.1", 2525)),),
        console=Address("127.0.0.1", 8025),
        own_mail=None,
        trusted_clients=(),
        limits=Limits(),
    )


def test_the_example_of_the_design_is_read_whole() -> None:
    loaded = settings("""
        hostname = "mx1.example"
        data_dir = "/var/lib/posthouse"
        database = "sqlite"
        workers = 1
        own_mail = { profile = "exchange", from = "postmaster@ours.example", postmaster = "admin@ours.example" }
        trusted_clients = ["10.0.0.0/8"]
        [[listeners]]
        listen = "0.0.0.0:25"
        tls = "starttls-optional"
        max_size = "50MiB"
        proxy_protocol_from = []
        [[listeners]]
        listen = "[::]:465"
        tls = "implicit"
        max_size = 1048576
        bare_newlines = "normalise"
        trusted_bare_newlines = "refuse"
        proxy_protocol_from = ["192.0.2.1"]
        xclient_from = ["192.0.2.0/24", "2001:db8::/32"]
        [console]
        listen = "127.0.0.1:8025"
        [limits]
        recipients = 500
        memory_octets = "64MiB"
    """)
    assert (loaded.hostname, loaded.data_dir, loaded.workers) == ("mx1.example", "/var/lib/posthouse", 1)
    assert loaded.own_mail == OwnMail("exchange", "postmaster@ours.example", "admin@ours.example")
    assert loaded.trusted_clients == (ip_network("10.0.0.0/8"),)
    assert loaded.listeners == (
        ListenerSettings(Address("0.0.0.0", 25), ListenerTls.STARTTLS_OPTIONAL, 50 * 1024**2),
        ListenerSettings(
            Address("::", 465),
            ListenerTls.IMPLICIT,
            1048576,
            BareNewlines.NORMALISE,
            BareNewlines.REFUSE,
            (ip_network("192.0.2.1/32"),),
            (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
        ),
    )
    assert (loaded.limits.recipients, loaded.limits.memory_octets) == (500, 64 * 1024**2)


@pytest.mark.parametrize(("cores", "workers"), [(0, 1), (1, 1), (2, 1), (8, 7)])
def test_workers_are_one_less_than_cores_and_at_least_one(cores: int, workers: int) -> None:
    loaded, _ = both(cores=cores)
    assert loaded is not None
    assert loaded.workers == workers


@pytest.mark.parametrize(
    ("machine", "hostname"),
    [
        ("MX1.Example", "mx1.example"),
        ("mx1", "mx1"),
        ("", "localhost"),
        ("10.0.0.1", "localhost"),
        ("a b", "localhost"),
    ],
)
def test_the_machines_name_is_the_default_where_it_is_a_name(machine: str, hostname: str) -> None:
    loaded, faults = both(hostname=machine)
    assert faults == ()
    assert loaded is not None
    assert loaded.hostname == hostname


@pytest.mark.parametrize("hostname", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "mx-1.example"])
def test_names_and_address_literals_are_host_names(hostname: str) -> None:
    assert settings(f'hostname = "{hostname}"').hostname == hostname


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nonsense = 1", ["nonsense"]),
        ("hostname = 5", ["hostname"]),
        ('hostname = "a b"', ["hostname"]),
        ('hostname = "a\\r\\nb"', ["hostname"]),
        ('hostname = "10.0.0.1"', ["hostname"]),
        ('hostname = "[::1]"', ["hostname"]),
        ('hostname = "mx.example."', ["hostname"]),
        ('data_dir = ""', ["data_dir"]),
        ('database = "mysql://x"', ["database"]),
        ('database = "postgresql://"', ["database"]),
        ("workers = 0", ["workers"]),
        ("workers = 257", ["workers"]),
        ('workers = "2"', ["workers"]),
        ('trusted_clients = ["10.0.0.1/8", "x"]', ["trusted_clients[0]", "trusted_clients[1]"]),
        ("own_mail = {}", ["own_mail.profile", "own_mail.from"]),
        (
            'own_mail = { profile = "x", from = "x", postmaster = "postmaster" }',
            ["own_mail.from", "own_mail.postmaster"],
        ),
        ('own_mail = { profile = "x", from = "x@y.example", to = "z" }', ["own_mail.to"]),
        ("listeners = []", ["listeners"]),
        ("[listeners]", ["listeners"]),
        ("[[listeners]]", ["listeners[0].listen"]),
        ('[[listeners]]\nlisten = ""', ["listeners[0].listen"]),
        ('[[listeners]]\nlisten = "0.0.0.0"', ["listeners[0].listen"]),
        ('[[listeners]]\nlisten = ":25"', ["listeners[0].listen"]),
        ('[[listeners]]\nlisten = "h:1"\n[[listeners]]\nlisten = "h:1"', ["listeners[1].listen"]),
        ('[[listeners]]\nlisten = "h:1"\ntls = "yes"', ["listeners[0].tls"]),
        ('[[listeners]]\nlisten = "h:1"\nmax_size = "50MB"', ["listeners[0].max_size"]),
        ('[[listeners]]\nlisten = "h:1"\nmax_size = 1', ["listeners[0].max_size"]),
        ('[[listeners]]\nlisten = "h:1"\nmax_size = "2GiB"', ["listeners[0].max_size"]),
        ('[[listeners]]\nlisten = "h:1"\nbare_newlines = "keep"', ["listeners[0].bare_newlines"]),
        ('[[listeners]]\nlisten = "h:1"\nxclient_from = ["x"]', ["listeners[0].xclient_from[0]"]),
        ('[[listeners]]\nlisten = "h:1"\nproxy_protocol_from = "x"', ["listeners[0].proxy_protocol_from"]),
        ('[console]\nlisten = "x"', ["console.listen"]),
        ("[console]\nport = 80", ["console.port"]),
        ("[limits]\nrecipients = 99\nrecipeints = 5", ["limits.recipeints", "limits.recipients"]),
        ("x = = 1", ["file"]),
    ],
)
def test_every_fault_has_its_field(text: str, expected: list[str]) -> None:
    assert fields(text) == expected


def test_all_faults_are_told_at_once() -> None:
    text = 'workers = 0\ndatabase = "x"\n[[listeners]]\nlisten = "h"\n[console]\nlisten = "y"\n[limits]\nerrors = 0'
    assert set(fields(text)) == {"workers", "database", "listeners[0].listen", "console.listen", "limits.errors"}


def test_a_password_in_the_database_url_is_not_shown() -> None:
    assert "canary" not in str(both('database = "mysql://user:canary@h/x"')[1])
    assert settings('database = "postgresql://u:p@h/x"').database == "postgresql://u:p@h/x"


def test_two_listeners_on_any_free_port_are_fine() -> None:
    assert len(settings('[[listeners]]\nlisten = "h:0"\n[[listeners]]\nlisten = "h:0"').listeners) == 2


def test_own_mail_without_postmaster_rewrites_none() -> None:
    loaded = settings('own_mail = { profile = "x", from = "p@y.example" }')
    assert loaded.own_mail == OwnMail("x", "p@y.example", "")


# --- console ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "127.9.9.9:0", "[::1]:8025", "localhost:8025"])
def test_the_console_listens_on_loopback(listen: str) -> None:
    assert str(settings(f'[console]\nlisten = "{listen}"').console) == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:8025", "[::]:8025", "10.0.0.1:8025", "console.example:8025"])
def test_plain_http_beyond_loopback_must_be_asked_for(listen: str) -> None:
    assert fields(f'[console]\nlisten = "{listen}"') == ["console.listen"]
    assert str(settings(f'[console]\nlisten = "{listen}"\nallow_plain_http = true').console) == listen


def test_a_console_with_tls_listens_anywhere() -> None:
    loaded = settings('[console]\nlisten = "0.0.0.0:8025"\ntls = true')
    assert (str(loaded.console), loaded.console_tls) == ("0.0.0.0:8025", True)
    assert settings(None).console_tls is False


# --- environment and flags --------------------------------------------------------------------------------


def test_environment_wins_over_the_file_and_flags_over_environment() -> None:
    text = 'hostname = "file.example"\ndata_dir = "/file"\nworkers = 2'
    environ = {"POSTHOUSE_DATA_DIR": "/env", "POSTHOUSE_WORKERS": "5", "POSTHOUSE_API_KEY": "x", "HOME": "/"}
    loaded = settings(text, environ, {"workers": "7"})
    assert (loaded.hostname, loaded.data_dir, loaded.workers) == ("file.example", "/env", 7)


def test_every_scalar_can_come_from_the_environment() -> None:
    loaded = settings(
        None,
        {
            "POSTHOUSE_HOSTNAME": "env.example",
            "POSTHOUSE_DATABASE": "postgresql://h/d",
            "POSTHOUSE_SMTP": "127.0.0.2:0",
            "POSTHOUSE_CONSOLE": "127.0.0.3:0",
        },
    )
    assert (loaded.hostname, loaded.database) == ("env.example", "postgresql://h/d")
    assert (loaded.listeners[0].listen, loaded.console) == (Address("127.0.0.2", 0), Address("127.0.0.3", 0))


def test_an_empty_variable_counts_as_absent() -> None:
    assert settings("workers = 2", {"POSTHOUSE_WORKERS": ""}).workers == 2


def test_smtp_moves_the_first_listener_and_keeps_its_other_settings() -> None:
    text = '[[listeners]]\nlisten = "h:25"\ntls = "implicit"\n[[listeners]]\nlisten = "h:26"'
    first, second = settings(text, None, {"smtp": "127.0.0.1:0"}).listeners
    assert (first.listen, first.tls) == (Address("127.0.0.1", 0), ListenerTls.IMPLICIT)
    assert second.listen == Address("h", 26)


def test_console_keeps_its_other_settings() -> None:
    text = '[console]\nlisten = "127.0.0.1:1"\nallow_plain_http = true'
    assert settings(text, None, {"console": "0.0.0.0:2"}).console == Address("0.0.0.0", 2)


@pytest.mark.parametrize(
    ("environ", "flags", "field"),
    [
        ({"POSTHOUSE_WORKERS": "two"}, {}, "POSTHOUSE_WORKERS"),
        ({"POSTHOUSE_WORKERS": "0"}, {"workers": "x"}, "--workers"),
        ({"POSTHOUSE_SMTP": "25"}, {}, "POSTHOUSE_SMTP"),
        ({}, {"smtp": "h:x"}, "--smtp"),
        ({}, {"console": "0.0.0.0:80"}, "--console"),
        ({"POSTHOUSE_DATABASE": "x"}, {}, "POSTHOUSE_DATABASE"),
        ({}, {"data_dir": "x" * 5000}, "--data-dir"),
    ],
)
def test_a_fault_names_the_variable_or_flag_it_came_from(
    environ: dict[str, str], flags: dict[str, str], field: str
) -> None:
    assert set(fields("", environ, flags)) == {field}


def test_overrides_of_a_faulty_file_do_not_hide_its_faults() -> None:
    assert fields("listeners = 5\nconsole = 5", None, {"smtp": "h:1", "console": "127.0.0.1:2"}) == [
        "listeners",
        "console",
    ]
    assert fields("listeners = [5]", None, {"smtp": "h:1"}) == ["listeners[0]"]


# --- limits and the generated page ------------------------------------------------------------------------


def test_table_and_class_of_limits_agree() -> None:
    assert table_and_class_agree()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_limit_takes_its_range_and_no_more(row: Limit) -> None:
    for value in (row.minimum, row.maximum):
        assert getattr(settings(f"[limits]\n{row.name} = {value}").limits, row.name) == value
    for value in (row.minimum - 1, row.maximum + 1):
        assert fields(f"[limits]\n{row.name} = {value}") == [f"limits.{row.name}"]


def test_the_settings_page_is_what_the_tables_say() -> None:
    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "docs_settings.py"))
    assert script["main"](["--check"]) == 0
