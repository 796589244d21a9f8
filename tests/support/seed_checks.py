"""What the page of server profiles asks, one function a statement; `test_seed_server_profiles` says of which line.

Functions with arguments return the check. Where the page disagrees with itself, or is bettered, section 2 of the
design rules; the check says so.
"""

import asyncio
from collections.abc import Callable
from dataclasses import fields, replace

from posthouse.client_tls import TlsPolicy
from posthouse.clients.way import Way, way_to
from posthouse.core.encryption import Tls, TlsVerify, encryption_of
from posthouse.core.faults import Fault
from posthouse.core.fields import Secret
from posthouse.core.inventory import parse_inventory
from posthouse.core.limits import Limits
from posthouse.core.pool import ConnectionPool
from posthouse.core.preference import Rotation, order, served
from posthouse.core.profile import POOL_FIELDS, PROFILE_FIELDS, Pool, Preference, ServerProfile, parse_profile
from posthouse.core.profile_advice import advise_profile
from posthouse.core.profile_test import StageName
from posthouse.core.rule import parse_rule
from posthouse.core.service_type import ROWS, Encryption, ServiceType
from posthouse.core.smtp_ladder import LadderSession
from posthouse.core.smtp_opening import Login, Phase, Security
from posthouse.core.uri import Specification, parse_specification
from posthouse.settings import load_settings
from support.flow import FAULT, A, B, C, flow, mail
from support.rest import Rest

SMTP, CORE, VAULT = ServiceType.SMTP, ServiceType.METADEFENDER_CORE, ServiceType.METADEFENDER_VAULT
OF_THE_SEED = (SMTP, CORE, VAULT)
EXAMPLE = "http://10.0.0.10:25/vault_rest"
CORES = tuple(f"http://core{number}:8008" for number in range(1, 6))

Check = Callable[[], None]


# --- What a check asks --------------------------------------------------------------------------------


def given(service_type: ServiceType = SMTP, **values: object) -> dict[str, object]:
    """A profile's document, valid unless `values` spoil it; None leaves a property out."""
    document: dict[str, object] = {"name": "x", "type": service_type.value, "servers": ["10.0.0.1"]}
    if service_type is VAULT:
        document["api_key"] = {"file": "/run/credentials/vault"}
    return document | values


def profile(service_type: ServiceType = SMTP, **values: object) -> ServerProfile:
    parsed, found = parse_profile(given(service_type, **values), "")
    assert parsed is not None, found
    return parsed


def faults(service_type: ServiceType = SMTP, **values: object) -> tuple[Fault, ...]:
    parsed, found = parse_profile(given(service_type, **values), "")
    assert (parsed is None) == bool(found)
    assert all(fault.rule and fault.remedy for fault in found)
    return found


def faulty(service_type: ServiceType = SMTP, **values: object) -> list[str]:
    """The fields with a fault."""
    return [fault.field for fault in faults(service_type, **values)]


def specification(text: str, service_type: ServiceType) -> Specification:
    parsed = parse_specification(text, service_type)
    assert isinstance(parsed, Specification), parsed
    return parsed


def problems(text: str, service_type: ServiceType) -> list[str]:
    """The faulty parts."""
    parsed = parse_specification(text, service_type)
    assert not isinstance(parsed, Specification), str(parsed)
    return [problem.part for problem in parsed]


DIGITAL_ID = ("digital-id.crt", "digital-id.key")


def way(**values: object) -> Way:
    """How delivery and TEST reach the first server of an SMTP profile."""
    return way_of(profile(SMTP, **values))


def way_of(reached: ServerProfile) -> Way:
    """With `opened TOKEN` for a stored password."""
    return way_to(reached, reached.server_texts[0], lambda: DIGITAL_ID, lambda token: f"opened {token}")


def advised(service_type: ServiceType = SMTP, **values: object) -> dict[str, str]:
    return {advice.field: advice.sentence for advice in advise_profile(profile(service_type, **values))}


# --- Profiles, types, names ---------------------------------------------------------------------------


def profiles_group_servers_by_type() -> None:
    for service_type in OF_THE_SEED:
        parsed = profile(service_type)
        assert (parsed.type, len(parsed.servers)) == (service_type, 1)
    assert len(profile(servers=["10.0.0.1", "10.0.0.2"]).servers) == 2


def a_rule_names_a_profile_of_several_relays() -> None:
    rule = {"name": "in", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "relays"}}
    relays = given(name="relays", servers=["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    profiles, rules, found = parse_inventory({"server_profiles": [relays], "rules": [rule]})
    assert found == ()
    assert rules[0].relay_profile == profiles[0].name
    assert len(profiles[0].servers) == 3


def more_types_than_these_are_allowed() -> None:
    """The page names the Vault, too (design 2.1): it disagrees with itself."""
    assert {SMTP, CORE} < set(ServiceType)


def a_profile_needs_a_type() -> None:
    assert faulty(type=None) == ["type"]


def the_type_holds_for_every_profile() -> None:
    assert all("type" not in row.properties for row in ROWS.values())
    assert next(spec for spec in PROFILE_FIELDS if spec.name == "type").required


def the_type_is_one_of_the_service_types() -> None:
    (fault,) = faults(type="imap")
    assert (fault.field, fault.value) == ("type", "imap")
    assert all(service_type in fault.rule for service_type in ServiceType)


def the_types_of_the_seed_come_first() -> None:
    assert tuple(ServiceType)[:3] == OF_THE_SEED


def type_is_taken(service_type: ServiceType) -> Check:
    def check() -> None:
        assert profile(service_type).type is service_type

    return check


def needed_by_every_type(name: str) -> Check:
    def check() -> None:
        for service_type in OF_THE_SEED:
            assert faulty(service_type, **{name: None}) == [name]

    return check


def names_are_unique() -> None:
    documents = [given(name="Exchange"), given(CORE, name="exchange"), given(name="other")]
    (fault,) = parse_inventory({"server_profiles": documents})[2]
    assert (fault.field, fault.value) == ("server_profiles[1].name", "exchange")


def types_with(name: str, *types: ServiceType) -> Check:
    values: dict[str, object] = {
        "preference": "round-robin",
        "tls": "starttls-required",
        "username": "u",
        "client_certificate": True,
        "api_key": {"env": "K"},
        "pool": {"enabled": True},
    }
    ours = {("api_key", CORE)}
    """Optional there (design 2.9)."""

    def check() -> None:
        for service_type in OF_THE_SEED:
            more: dict[str, object] = {name: values[name]}
            if name == "username":
                more["password"] = {"env": "P"}
            if name == "client_certificate":
                more["servers"] = ["smtps://h"] if service_type is SMTP else ["https://h"]
            has = service_type in types or (name, service_type) in ours
            spoiled = ["password", "username"] if name == "username" else [name]
            assert faulty(service_type, **more) == ([] if has else spoiled)

    return check


# --- Server specifications ----------------------------------------------------------------------------


def how_many_servers_a_profile_has() -> None:
    for service_type in OF_THE_SEED:
        assert faulty(service_type, servers=[]) == ["servers"]
        assert faulty(service_type, servers=["h"]) == []
        assert faulty(service_type, servers=["h", "g"]) == (["servers"] if service_type is VAULT else [])


def only_these_components_are_used() -> None:
    """The Vault's path is the exception that the page's own table makes (design 2.2)."""
    assert [field.name for field in fields(Specification)] == ["scheme", "host", "port", "path"]
    for service_type in OF_THE_SEED:
        scheme = ROWS[service_type].schemes[0].name
        assert problems(f"{scheme}://u:p@h:1?q#f", service_type) == ["fragment", "query", "user info"]
    assert faulty(servers=["smtp://h/path"]) == faulty(CORE, servers=["http://h/path"]) == ["servers[0]"]


def part_of_the_example(part: str, value: object) -> Check:
    def check() -> None:
        assert getattr(specification(EXAMPLE, VAULT), part) == value

    return check


def every_type_has_schemes() -> None:
    for service_type in OF_THE_SEED:
        for scheme in ROWS[service_type].schemes:
            assert specification(f"{scheme.name}://h", service_type).scheme == scheme.name
        assert problems("ftp://h", service_type) == ["scheme"]


def default_scheme(name: str, *types: ServiceType) -> Check:
    def check() -> None:
        for service_type in types:
            assert specification("10.0.0.10", service_type).scheme == name

    return check


def every_type_needs_a_host() -> None:
    for service_type in OF_THE_SEED:
        assert specification("10.0.0.10", service_type).host == "10.0.0.10"
        assert problems(f"{ROWS[service_type].schemes[0].name}://:25", service_type) == ["host"]


def every_type_takes_a_port() -> None:
    for service_type in OF_THE_SEED:
        assert specification("h:2525", service_type).port == 2525
        assert problems("h:65536", service_type) == ["port"]


def default_port(service_type: ServiceType, port: int) -> Check:
    def check() -> None:
        scheme = ROWS[service_type].schemes[0].name
        assert specification(f"{scheme}://h", service_type).port == port

    return check


def the_former_port_of_a_vault_gets_advice() -> None:
    assert specification("http://h", VAULT).port == 8010
    advice = advised(VAULT, servers=["https://h:8000"])["servers[0]"]
    assert "8010" in advice
    assert "1.3.7" in advice


def only_a_vault_has_a_path() -> None:
    assert specification("http://h/other", VAULT).path == "/other"
    for service_type in (SMTP, CORE):
        assert specification("h", service_type).path == ""
        assert problems("h/vault_rest", service_type) == ["path"]


def default_path_of_a_vault() -> None:
    assert specification("http://h", VAULT).path == "/vault_rest"


def the_examples_are_the_defaults() -> None:
    for service_type in OF_THE_SEED:
        assert str(specification("127.0.0.1", service_type)) == {
            SMTP: "smtp://127.0.0.1:25",
            CORE: "http://127.0.0.1:8008",
            VAULT: "http://127.0.0.1:8010/vault_rest",
        }[service_type]  # fmt: skip


def example(service_type: ServiceType, text: str) -> Check:
    def check() -> None:
        assert profile(service_type, servers=[text]).server_texts == (text,)

    return check


def a_link_that_will_be_broken_gets_advice() -> None:
    advice = advised(CORE, servers=["http://127.0.0.1"])["servers[0]"]
    assert "broken on any other machine" in advice
    assert advised(CORE, servers=["http://127.0.0.1"], public_url="https://core.example") == {}


# --- Server preference --------------------------------------------------------------------------------


def the_preference_is_an_order_of_all_servers() -> None:
    for preference in Preference:
        for rotation in (Rotation(), Rotation(CORES[2], 2)):
            assert sorted(order(preference, CORES, rotation, 0.5)) == sorted(CORES)


def the_preferences_are_these() -> None:
    (fault,) = faults(preference="best")
    assert all(value in fault.rule for value in ("failover", "round-robin", "random-start"))
    assert profile().preference is Preference.FAILOVER


def the_first_successfully_addressed_does_the_service(preference: str) -> Check:
    def check() -> None:
        made = flow({A: [FAULT], B: [FAULT]}, preference=preference)
        asyncio.run(made.run(mail("you@ours.example")))
        assert made.relay.servers == [A, B, C]
        assert [attempt.outcome for attempt in made.spool.outcomes[0].attempts][-1] == "relayed"

    return check


def failover_starts_with_the_first() -> None:
    for last in CORES:
        assert order(Preference.FAILOVER, CORES, served(Rotation(), CORES, last), 0.99)[0] == CORES[0]


def failover_ends_with_the_last() -> None:
    assert order(Preference.FAILOVER, CORES, Rotation(CORES[2], 2), 0.99) == CORES


def the_next_server_follows_one_that_fails(preference: str) -> Check:
    """With a random start the walk goes on at the first entry until all were tried once."""

    def check() -> None:
        made = flow({B: [FAULT]}, preference=preference, random=0.4)
        asyncio.run(made.run(mail("you@ours.example")))
        assert made.relay.servers == ([B, C] if preference == "random-start" else [A])
        made = flow({A: [FAULT], B: [FAULT], C: [FAULT]}, preference=preference, random=0.4)
        asyncio.run(made.run(mail("you@ours.example")))
        assert made.relay.servers == ([B, C, A] if preference == "random-start" else [A, B, C])

    return check


def the_next_successfully_addressed_does_the_service() -> None:
    made = flow({B: [FAULT]}, preference="round-robin")
    for _ in range(3):
        asyncio.run(made.run(mail("you@ours.example")))
    assert made.relay.servers == [A, B, C, A]


def round_robin_takes_turns() -> None:
    rotation, starts = Rotation(), []
    for _ in range(2 * len(CORES)):
        starts.append(order(Preference.ROUND_ROBIN, CORES, rotation, 0.5)[0])
        rotation = served(rotation, CORES, starts[-1])
    assert starts == [*CORES, *CORES]


def after_none_comes_the_first() -> None:
    assert order(Preference.ROUND_ROBIN, CORES, Rotation(), 0.5)[0] == CORES[0]


def after(previous: int, now: int) -> Check:
    def check() -> None:
        rotation = served(Rotation(), CORES, CORES[previous])
        assert order(Preference.ROUND_ROBIN, CORES, rotation, 0.5)[0] == CORES[now]

    return check


def round_robin_goes_round_to_the_one_before() -> None:
    for k in range(len(CORES)):
        rotation = served(Rotation(), CORES, CORES[k - 1])
        assert order(Preference.ROUND_ROBIN, CORES, rotation, 0.5) == (*CORES[k:], *CORES[:k])


def a_random_start_is_a_preference_of_its_own() -> None:
    """Round robin is a real one here (design 2.5)."""
    assert profile(CORE, preference="random-start").preference is Preference.RANDOM_START
    assert profile(CORE, preference="round-robin").preference is Preference.ROUND_ROBIN


def every_server_may_be_the_random_start() -> None:
    starts = [order(Preference.RANDOM_START, CORES, Rotation(), unit / 5 + 0.1)[0] for unit in range(5)]
    assert tuple(starts) == CORES


def a_random_start_goes_round_to_the_one_before() -> None:
    for k in range(len(CORES)):
        assert order(Preference.RANDOM_START, CORES, Rotation(), k / 5 + 0.1) == (*CORES[k:], *CORES[:k])


# --- Encryption, credentials, certificate, key --------------------------------------------------------


def encryption_is_chosen() -> None:
    assert [profile(tls=tls.value).tls for tls in Tls] == list(Tls)


def the_values_of_encryption_are_these() -> None:
    (fault,) = faults(tls="ssl")
    assert all(value in fault.rule for value in ("none", "starttls-optional", "starttls-required"))


def no_encryption_is_the_default() -> None:
    assert profile().tls is profile(tls="none").tls is Tls.NONE
    assert way() == way(tls="none") == Way("10.0.0.1", 25, Security())


def starttls_is_a_value() -> None:
    """Two values, as the page's own table has them (design 2.6); the remedy for the plain word names both."""
    (fault,) = faults(tls="starttls")
    assert "starttls-required" in fault.remedy
    assert "starttls-optional" in fault.remedy
    required = way(tls="starttls-required")
    assert required.security == Security(Tls.STARTTLS_REQUIRED, clear_allowed=False)
    assert required.policy == TlsPolicy(TlsVerify.VERIFY)
    optional = way(tls="starttls-optional")
    assert optional.security == Security(Tls.STARTTLS_OPTIONAL, clear_allowed=True)
    assert optional.policy == TlsPolicy(TlsVerify.NONE)


def tls_from_the_start_is_a_scheme() -> None:
    (fault,) = faults(tls="tls")
    assert "smtps" in fault.remedy
    implicit = way(servers=["smtps://h"])
    assert (implicit.port, implicit.name) == (465, "h")
    assert implicit.security == Security(implicit=True, clear_allowed=False)
    assert implicit.policy == TlsPolicy(TlsVerify.VERIFY)


def credentials_are_taken_in_pairs() -> None:
    login = way(username="u", password="p").security.login
    assert login == Login("u", "p")
    stored = replace(profile(username="u", password="p"), password=Secret("stored", "1", "token"))
    assert way_of(stored).security.login == Login("u", "opened token")
    assert way().security.login is None
    assert faulty(username="u") == ["password"]
    assert faulty(password={"env": "P"}) == ["username"]


def a_console_without_tls_stays_on_the_machine() -> None:
    """Better than the page: passwords cross the network in clear only where the setting says so."""
    told = '[console]\nlisten = "0.0.0.0:8025"\n'
    settings, (fault,) = load_settings(told, environ={}, flags={}, hostname="h", cores=1)
    assert settings is None
    assert fault.field == "console.listen"
    allowed = f"{told}allow_plain_http = true\n"
    assert load_settings(allowed, environ={}, flags={}, hostname="h", cores=1)[1] == ()


def the_checkbox_is_off_unless_marked() -> None:
    assert not profile().client_certificate
    unmarked = way(tls="starttls-required").policy
    assert unmarked is not None
    assert unmarked.certificate is None
    assert faulty(client_certificate="yes") == ["client_certificate"]


def the_digital_id_is_shown() -> None:
    for values in ({"tls": "starttls-required"}, {"tls": "starttls-optional"}, {"servers": ["smtps://h"]}):
        policy = way(**values, client_certificate=True).policy
        assert policy is not None
        assert policy.certificate == DIGITAL_ID


# --- Connection pooling -------------------------------------------------------------------------------


def pool(connections: int = 2, expiry_seconds: int = 180) -> ConnectionPool[str]:
    return ConnectionPool(Pool(True, connections, expiry_seconds), connections)


def keep(kept: ConnectionPool[str], connection: str, now: float = 0.0) -> tuple[str, ...]:
    """A communication over it completed; what is to be disconnected."""
    return kept.give_back("smtp://h:25", connection, now, opened_at=0.0, messages=1)


def a_connection_is_used_again() -> None:
    kept = pool()
    keep(kept, "one")
    assert kept.acquire("smtp://h:25") == "one"


def a_rule_relays_by_an_smtp_profile_only() -> None:
    rule = {"name": "in", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "next hop"}}
    for service_type in OF_THE_SEED:
        document = {"server_profiles": [given(service_type, name="next hop")], "rules": [rule]}
        found = [fault.field for fault in parse_inventory(document)[2]]
        assert found == ([] if service_type is SMTP else ["rules[0].relay.profile"])
    assert [fault.field for fault in parse_rule({**rule, "relay": {}}, "")[1]] == ["relay.profile"]


def pool_rule_1() -> None:
    assert pool().acquire("smtp://h:25") is None


def pool_rule_2() -> None:
    kept = pool()
    assert keep(kept, "one") == ()
    assert kept.idle == 1


def pool_rule_3() -> None:
    kept = pool()
    keep(kept, "one")
    assert kept.acquire("smtp://h:25") == "one"
    assert kept.idle == 0


def pool_rule_4() -> None:
    kept = pool(connections=1)
    keep(kept, "one")
    assert keep(kept, "two") == ("two",)
    assert kept.idle == 1


def pool_rule_5() -> None:
    kept = pool(expiry_seconds=180)
    keep(kept, "one", now=10.0)
    assert kept.next_expiry() == 190.0
    assert kept.expire(189.9) == ()
    assert kept.expire(190.0) == ("one",)


def the_options_of_the_pool_are_these() -> None:
    """And two of ours, after them (design 2.10)."""
    assert [spec.name for spec in POOL_FIELDS][:3] == ["enabled", "connections", "expiry_seconds"]


def pool_option(name: str, default: object, low: int | None = None, high: int | None = None) -> Check:
    def check() -> None:
        assert getattr(profile().pool, name) == default
        if low is None or high is None:
            return
        for value in (low, high):
            assert getattr(profile(pool={name: value}).pool, name) == value
        for value in (low - 1, high + 1):
            assert faulty(pool={name: value}) == [f"pool.{name}"]

    return check


def the_pool_can_be_switched() -> None:
    assert [profile(pool={"enabled": value}).pool.enabled for value in (True, False)] == [True, False]
    assert faulty(pool={"enabled": "on"}) == ["pool.enabled"]


def no_more_than_so_many_are_kept() -> None:
    kept = pool(connections=3)
    assert [keep(kept, str(number)) for number in range(5)] == [(), (), (), ("3",), ("4",)]


def many_connections_get_advice() -> None:
    assert advised(pool={"enabled": True}) == {}
    assert "limit the number of parallel connections" in advised(pool={"enabled": True, "connections": 21})[
        "pool.connections"
    ]  # fmt: skip


def the_advice_names_exchange() -> None:
    advice = advised(pool={"enabled": True, "connections": 999})["pool.connections"]
    assert "Microsoft Exchange Server" in advice
    assert "https://docs.microsoft.com/en-us/exchange/mail-flow/message-rate-limits" in advice


# --- Property validation ------------------------------------------------------------------------------


def properties_that_do_not_match_are_faults() -> None:
    assert faulty(CORE, servers=["smtp://h"], tls="none", pool={}) == ["servers[0]", "pool", "tls"]
    assert faulty(servers=["http://h"], api_key={"env": "K"}) == ["servers[0]", "api_key"]
    assert faulty(client_certificate=True, tls="none") == ["client_certificate"]


def allowed_schemes(service_type: ServiceType, *names: str) -> Check:
    def check() -> None:
        assert [scheme.name for scheme in ROWS[service_type].schemes] == list(names)
        for other in {"smtp", "smtps", "http", "https", "clamd"} - set(names):
            assert problems(f"{other}://h", service_type) == ["scheme"]

    return check


def scheme_is_taken(service_type: ServiceType, name: str) -> Check:
    def check() -> None:
        assert specification(f"{name}://h", service_type).scheme == name

    return check


def encryption_of_smtp(*values: str) -> Check:
    """Without values: the setting decides, for this scheme only."""

    def check() -> None:
        assert encryption_of(SMTP, specification("smtp://h", SMTP)) is Encryption.AS_SET
        for value in values:
            reached = way(servers=["smtp://h"], tls=value)
            assert (reached.security.tls, reached.security.implicit) == (Tls(value), False)
            assert (reached.policy is None) is (value == "none")

    return check


def encryption_of_smtps_is_irrelevant() -> None:
    reached = way(servers=["smtps://h"])
    assert reached.security.implicit
    assert reached.policy is not None
    for tls in Tls:
        assert way(servers=["smtps://h"], tls=tls.value) == reached


def no_encryption_setting_with(scheme: str) -> Check:
    def check() -> None:
        for service_type in (CORE, VAULT):
            assert faulty(service_type, servers=[f"{scheme}://h"]) == []
            for tls in Tls:
                assert faulty(service_type, servers=[f"{scheme}://h"], tls=tls.value) == ["tls"]

    return check


def values_are_validated_without_any_connection() -> None:
    """By a module of `posthouse.core`, which does no input or output (checked by import-linter)."""
    assert parse_profile.__module__.startswith("posthouse.core.")
    assert faulty(servers=["no.such.host.invalid"]) == []
    assert faulty(servers=["no such host"]) == ["servers[0]"]


def all_faults_are_told_at_once() -> None:
    found = faulty(name="a/b", servers=["h:0", "http://h"], preference="best", tls="tls", pool={"connections": 0})
    assert found == ["name", "preference", "tls", "pool.connections", "servers[0]", "servers[1]"]


def a_test_validates_first() -> None:
    rest = Rest()
    answer = rest.client().post("/api/v1/server-profile-tests", json=given(servers=["no such host", "10.0.0.1"]))
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["servers[0]"]
    assert rest.tester.tested == []


def a_test_then_tries_each_server() -> None:
    rest = Rest()
    rest.tester.refusing.add("smtp://10.0.0.1:25")
    answer = rest.client().post("/api/v1/server-profile-tests", json=given(servers=["10.0.0.1", "10.0.0.2"]))
    assert answer.status_code == 200
    tried = sorted(server for _, server, _ in rest.tester.tested)
    assert tried == ["smtp://10.0.0.1:25", "smtp://10.0.0.2:25"]
    assert [server["ok"] for server in answer.json()["servers"]] == [False, True]
    assert answer.json()["ok"] is False


def a_test_is_better_than_that_and_uses_tls() -> None:
    """The limitation of the page is not ours (design 2.11)."""
    security = Security(tls=Tls.STARTTLS_REQUIRED, implicit=False, clear_allowed=False, login=None)
    session = LadderSession("mx1.example", Limits(), security, None, lambda: 0.0)
    session.receive(b"220 next ESMTP\r\n")
    session.output()
    session.receive(b"250-next\r\n250 STARTTLS\r\n")
    assert session.output() == b"STARTTLS\r\n"
    session.receive(b"220 go\r\n")
    assert session.phase is Phase.HANDSHAKE
    session.tls_failed("self-signed certificate")
    assert (session.stages[-1].name, session.stages[-1].ok) == (StageName.TLS, False)
