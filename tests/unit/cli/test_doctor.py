"""Each check of `doctor`: what is ok, what is a warning, what is a fault, and that each has a remedy."""

import shutil
import socket
from pathlib import Path

import pytest

from posthouse.cli import checks
from posthouse.core.inventory import Inventory, apply_document, build_inventory
from posthouse.settings import Address, ListenerSettings, NodeSettings, OwnMail
from support.command_line import CommandLine, command_line


def _settings(folder: Path | str = "/nowhere", **values: object) -> NodeSettings:
    return NodeSettings(**{"hostname": "mx1.example", "data_dir": str(folder), **values})  # type: ignore[arg-type]


OTHERS: tuple[dict[str, object], ...] = (
    {"name": "core", "type": "metadefender-core", "servers": ["http://10.0.1.1"]},
    {"name": "vault", "type": "metadefender-vault", "servers": ["https://10.0.2.1"], "api_key": {"env": "K"}},
    {"name": "clamav", "type": "clamav", "servers": ["clamd://127.0.0.1:2525", "/run/clamd.ctl"]},
)


def _inventory(
    *servers: str, rules: list[dict[str, object]] | None = None, others: tuple[dict[str, object], ...] = ()
) -> Inventory:
    document = {
        "server_profiles": [{"name": "next", "type": "smtp", "servers": list(servers or ("10.0.0.1",))}, *others],
        "rules": rules or [],
    }
    profiles, stored_rules, faults = apply_document([], [], document, prune=False)
    assert not faults, faults
    return build_inventory(1, [(profile, 1) for profile in profiles], stored_rules)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("hostname", "status"), [("mx1.example", "ok"), ("[192.0.2.1]", "ok"), ("localhost", "warn"), ("mx1", "warn")]
)
def test_a_hostname_that_is_no_full_name_is_a_warning(hostname: str, status: str) -> None:
    assert checks.check_hostname(_settings(hostname=hostname)).status == status


def test_a_data_dir_is_ok_if_it_is_closed_and_a_warning_if_it_is_open(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = next(iter(checks.check_data_dir(_settings(folder))))
    assert (first.status, "is not there yet" in first.detail) == ("ok", True)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    assert next(iter(checks.check_data_dir(_settings(folder)))).remedy == f"chmod 700 {folder}"
    folder.chmod(0o700)
    assert next(iter(checks.check_data_dir(_settings(folder)))).status == "ok"


def test_a_data_dir_that_is_a_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (found,) = checks.check_data_dir(_settings(tmp_path / "file"))
    assert found.status == "fault"
    assert found.remedy


@pytest.mark.parametrize(("free", "status"), [(1, "fault"), (600, "warn"), (100_000, "ok")])
def test_free_space_below_what_reception_asks_for_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    usage = type("usage", (), {"free": free * 1024 * 1024})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert list(checks.check_data_dir(_settings(tmp_path)))[1].status == status


def test_a_port_in_use_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = _settings(
            listeners=(ListenerSettings(Address("127.0.0.1", port)),), console=Address("127.0.0.1", 0)
        )
        listener, console = checks.check_ports(settings)
    assert (listener.status, console.status) == ("fault", "ok")
    assert str(port) in listener.remedy


def test_own_mail_is_looked_at(tmp_path: Path) -> None:
    inventory = _inventory()
    own = OwnMail("next", "postmaster@ours.example", "admin@ours.example")
    assert checks.check_own_mail(_settings(), inventory).status == "warn"
    assert checks.check_own_mail(_settings(own_mail=own), inventory).status == "ok"
    nosuch = OwnMail("nosuch", "postmaster@ours.example", "admin@ours.example")
    assert checks.check_own_mail(_settings(own_mail=nosuch), inventory).status == "fault"
    core = OwnMail("core", "postmaster@ours.example", "admin@ours.example")
    found = checks.check_own_mail(_settings(own_mail=core), _inventory(others=OTHERS))
    assert (found.status, "no server profile of type smtp" in found.detail) == ("fault", True)


def test_no_rules_is_a_warning_and_an_open_relay_a_fault() -> None:
    (found,) = checks.check_rules(_inventory())
    assert (found.status, "every recipient is refused" in found.detail) == ("warn", True)
    open_rule: dict[str, object] = {"name": "any", "relay": {"profile": "next"}, "open_relay": True}
    closed: dict[str, object] = {"name": "in", "match": {"recipients": ["*@a.example"]}, "relay": {"profile": "next"}}
    found, *_ = checks.check_rules(_inventory(rules=[open_rule, closed]))
    assert (found.check, found.status) == ("rule any", "fault")
    assert [f.status for f in checks.check_rules(_inventory(rules=[closed]))] == ["ok"]


def test_servers_that_do_not_resolve_or_are_ourselves_are_faults() -> None:
    def resolve(host: str) -> list[str]:
        if host == "gone.example":
            raise OSError(2, "Name not known")
        return [host]

    settings = _settings(listeners=(ListenerSettings(Address("0.0.0.0", 2525)),))
    inventory = _inventory("10.0.0.1", "gone.example", "127.0.0.1:2525", "127.0.0.1:2526")
    found = list(checks.check_servers(settings, inventory, resolve))
    assert [f.status for f in found] == ["ok", "fault", "fault", "ok"]
    assert "loop" in found[2].detail


def test_servers_of_other_types_are_looked_up_and_only_mail_can_loop() -> None:
    settings = _settings(listeners=(ListenerSettings(Address("0.0.0.0", 2525)),))
    found = list(checks.check_servers(settings, _inventory(others=OTHERS), lambda host: [host]))
    assert [(f.check, f.status) for f in found] == [
        ("profile next", "ok"),
        ("profile core", "ok"),
        ("profile vault", "ok"),
        ("profile clamav", "ok"),
    ]


def test_advice_on_profiles_is_a_warning_and_grave_advice_a_fault() -> None:
    assert list(checks.check_profiles(_inventory(others=OTHERS))) == []
    login = {"username": "u", "password": {"env": "P"}, "allow_plaintext_auth": True}
    relay: dict[str, object] = {"name": "relay", "type": "smtp", "servers": ["h:465"], **login}
    advised, grave = checks.check_profiles(_inventory(others=(relay,)))
    assert (advised.check, advised.status, "smtps" in advised.remedy) == ("profile relay", "warn", True)
    assert (grave.status, "allow_plaintext_auth" in grave.detail) == ("fault", True)
    assert "clear text" in grave.remedy


def test_doctor_reports_and_ends_with_1_on_a_fault(cli: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "posthouse.toml"
    config.write_text('hostname = "mx1.example"\nworkers = 0\nnonsense = 1\n')
    ran = cli("doctor", "--config", str(config), "--json")
    assert ran.code == 1
    assert {check["status"] for check in ran.json["checks"]} == {"fault"}
    assert len(ran.json["checks"]) == 2
    assert all(check["remedy"] for check in ran.json["checks"])
    assert cli("doctor", "--config", str(tmp_path / "nosuch.toml")).code == 1


def test_doctor_looks_at_an_inventory_file(cli: CommandLine, tmp_path: Path) -> None:
    config, inventory = tmp_path / "posthouse.toml", tmp_path / "inventory.toml"
    config.write_text(
        'hostname = "mx1.example"\nlisteners = [{ listen = "127.0.0.1:0" }]\nconsole = { listen = "127.0.0.1:0" }\n'
        'own_mail = { profile = "next", from = "p@ours.example", postmaster = "a@ours.example" }\n'
    )
    inventory.write_text(
        '[[server_profiles]]\nname = "next"\ntype = "smtp"\nservers = ["127.0.0.1:2526"]\n'
        '[[rules]]\nname = "in"\nmatch = { recipients = ["*@ours.example"] }\nrelay = { profile = "next" }\n'
        '[[server_profiles]]\nname = "old vault"\ntype = "metadefender-vault"\n'
        'servers = ["http://127.0.0.1:8000"]\napi_key = { env = "K" }\n'
    )
    arguments = ["--config", str(config), "--inventory", str(inventory)]
    ran = cli("doctor", *arguments, "--json")
    by_name = {check["check"]: check["status"] for check in ran.json["checks"]}
    assert by_name["profile next"] == by_name["own mail"] == by_name["rules"] == by_name["inventory"] == "ok"
    assert [check["remedy"] for check in ran.json["checks"] if check["check"] == "profile old vault"] == [
        "MetaDefender Vault listens on 8010 since 1.3.7; 8000 was its port before.",
        "",
    ]
    assert not (tmp_path / "data").exists(), "a look makes nothing"
    assert "checks:" in cli("doctor", *arguments).out
    inventory.write_text('[[rules]]\nname = "in"\nrelay = { profile = "nosuch" }\n')
    assert cli("doctor", *arguments).code == 1


def test_doctor_does_not_try_the_ports_of_a_running_node(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("doctor", "--json", "--data-dir", str(cli.folder))
    names = [check["check"] for check in ran.json["checks"]]
    assert "node" in names
    assert not any(name.startswith("listener") for name in names)
