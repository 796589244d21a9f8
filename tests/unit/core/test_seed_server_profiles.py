"""The page of the manual that posthouse answers to, line by line: each line names a test that shows it.

`LINES` quotes all of them in their order; the checks are in `support.seed_checks`. A line that asks for nothing says
why; one that belongs to a part that is not built yet names that part, and its test fails once the part is there.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from support import seed_checks as show
from support.processes import ROOT


@dataclass(frozen=True)
class Nothing:
    """What lines that ask for nothing are, and how they look."""

    reason: str
    looks: str
    """Regular expression of the whole line, so that no statement is passed off as one of them."""


@dataclass(frozen=True)
class NotYet:
    """A part that is not built yet, and the module that will be there once it is."""

    part: str
    module: str


HEADING = Nothing("a heading", r"[\w. ]{1,30}")
COLUMN = Nothing("the heading of a column", r"[\w() ]{1,45}")
IMAGE = Nothing("the path of an image, which shows the lines after it", r"images/\S+\.png")
ELSEWHERE = Nothing("names another page of the manual", r"See also the [\w ]+ section in [\w. ]+\.")
REASON = Nothing("tells why there is a pool at all", r"When an email is .* a time-consuming, .* heavy load\.")
ADDING = NotYet("issue 5, item 6: profiles are added by REST, after a TEST", "posthouse.web.profiles")
CORE_CLIENT = NotYet("issue 5, item 2: TEST of Core, by the client that scans", "posthouse.clients.metadefender")
VAULT_CLIENT = NotYet("issue 5, item 2: TEST of a vault, by the client that uploads", "posthouse.clients.vault")
CONSOLE = NotYet("issue 7: console", "posthouse.web.pages")

PAGE_SHA256 = "3e2ac1c99a8b1cff9a11b4906107ed2863439ddccfa649612280e180555f766d"
"""Of the lines of the page, stripped, empty ones left out."""

LINES: tuple[tuple[str, Callable[[], None] | Nothing | NotYet], ...] = (
    ("3.7 Server profiles", HEADING),
    (
        "Server profiles under Inventory > Server profiles help to organize services of one or more servers "
        "based on the service type.",
        show.profiles_group_servers_by_type,
    ),
    (
        "For example in case of security rules one or more SMTP servers are needed to forward the emails "
        "after processing. For this purpose a server inventory may be created collecting all relay SMTP "
        "servers. Then at the rule itself only this server profile needs to be selected.",
        show.a_rule_names_a_profile_of_several_relays,
    ),
    (
        "Currently MetaDefender Email Gateway Security uses and allows SMTP and MetaDefender Core type "
        "server profiles only.",
        show.more_types_than_these_are_allowed,
    ),
    ("Properties", HEADING),
    ("Property", COLUMN),
    ("Server profile type", COLUMN),
    ("Description", COLUMN),
    ("Server profile type", show.a_profile_needs_a_type),
    ("N/A", show.the_type_holds_for_every_profile),
    ("Service type", show.the_type_is_one_of_the_service_types),
    ("Supported service types are:", show.the_types_of_the_seed_come_first),
    ("1. SMTP", show.type_is_taken(show.SMTP)),
    ("2. MetaDefender Core", show.type_is_taken(show.CORE)),
    ("3. MetaDefender Vault", show.type_is_taken(show.VAULT)),
    ("Profile name", show.needed_by_every_type("name")),
    ("All", show.needed_by_every_type("name")),
    ("Unique identifier of the server profile", show.names_are_unique),
    ("Server specifications (URI)", show.needed_by_every_type("servers")),
    ("All", show.needed_by_every_type("servers")),
    (
        "Service specifications in URI syntax. Multiple server specification may be added to an SMTP or "
        "MetaDefender Core type server profile. At least one server specification must exist in a server "
        "profile.",
        show.how_many_servers_a_profile_has,
    ),
    ("Only the following URI components are used:", show.only_these_components_are_used),
    ("URI component", COLUMN),
    ("Supporting server profile type", COLUMN),
    ("Example", COLUMN),
    ("Defaults", COLUMN),
    ("scheme", show.part_of_the_example("scheme", "http")),
    ("All", show.every_type_has_schemes),
    ("http://10.0.0.10:25/vault_rest", show.part_of_the_example("scheme", "http")),
    ("SMTP", show.default_scheme("smtp", show.SMTP)),
    ("MetaDefender Core, MetaDefender Vault", show.default_scheme("http", show.CORE, show.VAULT)),
    ("smtp", show.default_scheme("smtp", show.SMTP)),
    ("http", show.default_scheme("http", show.CORE, show.VAULT)),
    ("host", show.part_of_the_example("host", "10.0.0.10")),
    ("All", show.every_type_needs_a_host),
    ("http://10.0.0.10:25/vault_rest", show.part_of_the_example("host", "10.0.0.10")),
    ("N/A", show.every_type_needs_a_host),
    ("port", show.part_of_the_example("port", 25)),
    ("All", show.every_type_takes_a_port),
    ("http://10.0.0.10:25/vault_rest", show.part_of_the_example("port", 25)),
    ("SMTP", show.default_port(show.SMTP, 25)),
    ("MetaDefender Core", show.default_port(show.CORE, 8008)),
    ("MetaDefender Vault", show.default_port(show.VAULT, 8010)),
    ("25", show.default_port(show.SMTP, 25)),
    ("8008", show.default_port(show.CORE, 8008)),
    ("8010", show.default_port(show.VAULT, 8010)),
    ("Vault port changed", show.the_former_port_of_a_vault_gets_advice),
    (
        "Please note, that MetaDefender Vault port changed from 8000 to 8010 starting with Version 1.3.7.",
        show.the_former_port_of_a_vault_gets_advice,
    ),
    ("path", show.part_of_the_example("path", "/vault_rest")),
    ("Metadefender Vault", show.only_a_vault_has_a_path),
    ("http://10.0.0.10:25/vault_rest", show.part_of_the_example("path", "/vault_rest")),
    ("SMTP, MetaDefender Core", show.only_a_vault_has_a_path),
    ("MetaDefender Vault", show.default_path_of_a_vault),
    ("N/A", show.only_a_vault_has_a_path),
    ("/vault_rest", show.default_path_of_a_vault),
    ("Server profile examples", HEADING),
    (
        "The following list contains examples for each server profile type with reasonable defaults (all use "
        "127.0.0.1 as host).",
        show.the_examples_are_the_defaults,
    ),
    ("Server profile type", COLUMN),
    ("URI", COLUMN),
    ("SMTP", show.example(show.SMTP, "smtp://127.0.0.1:25")),
    ("smtp://127.0.0.1:25", show.example(show.SMTP, "smtp://127.0.0.1:25")),
    ("MetaDefender Core", show.example(show.CORE, "http://127.0.0.1:8008")),
    ("http://127.0.0.1:8008", show.example(show.CORE, "http://127.0.0.1:8008")),
    ("MetaDefender Vault", show.example(show.VAULT, "http://127.0.0.1:8010/vault_rest")),
    ("http://127.0.0.1:8010/vault_rest", show.example(show.VAULT, "http://127.0.0.1:8010/vault_rest")),
    (
        "In case of MetaDefender Core server profile types the very same URI will be used for the URLs of "
        "View scan details links on the Email details page under Dashboard > Email history, Dashboard > "
        "Quarantine and Dashboard > Failed emails.",
        CONSOLE,
    ),
    (
        "If the URI specified here is not reachable on the machine where the actual browsing of the Web "
        "Management Console happens (e.g. it is 127.0.0.1 and browsing happens on an other machine) then the "
        "View scan details link will be broken.",
        show.a_link_that_will_be_broken_gets_advice,
    ),
    ("See also the Email details section in 4.1 Dashboard.", ELSEWHERE),
    ("Server preference", show.types_with("preference", show.SMTP, show.CORE)),
    ("1. SMTP", show.types_with("preference", show.SMTP, show.CORE)),
    ("2. MetaDefender Core", show.types_with("preference", show.SMTP, show.CORE)),
    ("Preference order in which servers are addressed for services", show.the_preference_is_an_order_of_all_servers),
    ("Possible values:", show.the_preferences_are_these),
    (
        "1. FAILOVER: high availability order; first successfully addressed server in the list will do the service",
        show.the_first_successfully_addressed_does_the_service("failover"),
    ),
    (
        "Always start with the first server URL in list defined in the server profile.",
        show.failover_starts_with_the_first,
    ),
    (
        "Fail over to the next server in the list, if the actual server fails.",
        show.the_next_server_follows_one_that_fails("failover"),
    ),
    ("images/download/attachments/330993/HA.png", IMAGE),
    ("Start", show.failover_starts_with_the_first),
    ("Core 1", show.failover_starts_with_the_first),
    ("Last", show.failover_ends_with_the_last),
    ("Core n", show.failover_ends_with_the_last),
    (
        "You can set the order of the servers by drag and drop using the "
        "images/download/thumbnails/330993/ordering.png icon next to the URLs.",
        CONSOLE,
    ),
    (
        "2. ROUND ROBIN: load balancing order; next successfully addressed server in the list will do the service",
        show.the_next_successfully_addressed_does_the_service,
    ),
    ("Do a Round Robin selection of the Core URLs defined in the Core inventory:", show.round_robin_takes_turns),
    ("1. For the first scan request use Core 1", show.after_none_comes_the_first),
    ("2. If previous scan request used Core 1 then use Core 2 now,", show.after(0, 1)),
    ("3. ...,", show.after(1, 2)),
    ("4. If previous scan request used Core k then use Core k+1 now,", show.after(2, 3)),
    ("5. ...,", show.after(3, 4)),
    ("6. If previous scan request used Core n then use Core 1 now", show.after(4, 0)),
    ("images/download/attachments/330993/rr.png", IMAGE),
    ("Start", show.round_robin_goes_round_to_the_one_before),
    ("Core k", show.round_robin_goes_round_to_the_one_before),
    ("Core n, Core 1", show.round_robin_goes_round_to_the_one_before),
    ("Last", show.round_robin_goes_round_to_the_one_before),
    ("Core k-1", show.round_robin_goes_round_to_the_one_before),
    (
        "Instead of a real Round Robin selection, the initial server is selected in a random fashion currently:",
        show.a_random_start_is_a_preference_of_its_own,
    ),
    (
        "Do a random selection of the Core URLs defined in the Core inventory.",
        show.every_server_may_be_the_random_start,
    ),
    (
        "Fail over to the next Core in the list, if the actual Core fails. Start over the selection at the "
        "end of the list and continue until the starting entry is reached.",
        show.the_next_server_follows_one_that_fails("random-start"),
    ),
    ("Start", show.a_random_start_goes_round_to_the_one_before),
    ("Core k (random)", show.a_random_start_goes_round_to_the_one_before),
    ("Core n, Core 1", show.a_random_start_goes_round_to_the_one_before),
    ("Last", show.a_random_start_goes_round_to_the_one_before),
    ("Core k-1", show.a_random_start_goes_round_to_the_one_before),
    ("Transport level encryption", show.types_with("tls", show.SMTP)),
    ("1. SMTP", show.types_with("tls", show.SMTP)),
    (
        "Configure whether the destination server requires transport level security for connections",
        show.encryption_is_chosen,
    ),
    ("Possible values:", show.the_values_of_encryption_are_these),
    ("1. None: no transport level security", show.no_encryption_is_the_default),
    ("2. StartTLS: transport level encryption using SMTP protocol's StartTLS method", show.starttls_is_a_value),
    ("3. TLS: transport level security using SMTPS protocol", show.tls_from_the_start_is_a_scheme),
    ("Username and password", show.types_with("username", show.SMTP)),
    ("1. SMTP", show.types_with("username", show.SMTP)),
    (
        "If the destination server requires (machine-to-machine) user based authentication, then the "
        "credentials can be specified here",
        show.credentials_are_taken_in_pairs,
    ),
    (
        "As long as TLS is not configured for the Web Management Console, passwords are sent clear-text over "
        "the network. To set up TLS see 3.2 Configuring TLS.",
        show.a_console_without_tls_stays_on_the_machine,
    ),
    ("Certificate based client authentication", show.types_with("client_certificate", show.SMTP, show.CORE)),
    ("1. SMTP", show.types_with("client_certificate", show.SMTP, show.CORE)),
    ("2. MetaDefender Core", show.types_with("client_certificate", show.SMTP, show.CORE)),
    (
        "If the destination server requires certificate based client host authentication then this checkbox "
        "must be marked",
        show.the_checkbox_is_off_unless_marked,
    ),
    (
        "MetaDefender Email Gateway Security will use the actual deployment's digital ID, for details see "
        "3.2 Configuring TLS",
        show.the_digital_id_is_shown,
    ),
    ("API key", show.types_with("api_key", show.VAULT)),
    ("1. MetaDefender Vault", show.types_with("api_key", show.VAULT)),
    (
        "The destination Vault server will require the authorization token specified here for Email Gateway "
        "Security to be able to upload files. For details see API Authorization Tokens in MetaDefender "
        "Vault's user guides.",
        VAULT_CLIENT,
    ),
    ("Connection pooling", show.types_with("pool", show.SMTP)),
    ("1. SMTP", show.types_with("pool", show.SMTP)),
    (
        "To improve performance, Email Gateway Security can c ache and reuse connections towards SMTP relays.",
        show.a_connection_is_used_again,
    ),
    ("How it works", HEADING),
    (
        "At the end of the processing of an email, Email Gateway Security forwards the processed email to "
        "the next hop –that is usually the mail server for inbound emails– via SMTP. This next hop is "
        "configured in the rule matching the email, under Policy > Security Rules / Add new rule | Modify "
        "rule / RELAY / FORWARD PROCESSED EMAILS TO. The value must be an SMTP type server profile "
        "configured under Inventory > Server Profiles.",
        show.a_rule_relays_by_an_smtp_profile_only,
    ),
    (
        "When an email is forwarded to the relay, an SMTP handshake must happen while a TCP connection must "
        "be established. This is a time-consuming, resource-intensive task that can slow the email "
        "processing down, especially under a heavy load.",
        REASON,
    ),
    (
        "To contain the time loss caused by establishing SMTP connections, Email Gateway Security can reuse "
        "already established connections, these are kept in the connection pool.",
        show.a_connection_is_used_again,
    ),
    (
        "1. If the pool is empty, and a new SMTP connection is needed, then the connection gets established.",
        show.pool_rule_1,
    ),
    (
        "2. If the pool is not full yet, and the communication completes over an SMTP connection, then this "
        "connection is placed into the pool for later reuse.",
        show.pool_rule_2,
    ),
    (
        "3. If an SMTP connection is needed, and there is an idle connection in the pool, then it is taken "
        "from the pool and reused for this connection.",
        show.pool_rule_3,
    ),
    (
        "4. If the pool is full, and the communication completes over an SMTP connection, then this "
        "connection is disconnected.",
        show.pool_rule_4,
    ),
    (
        "5. If a connection in the pool has not been reused for the configured time, then it gets disconnected.",
        show.pool_rule_5,
    ),
    ("The following options are available:", show.the_options_of_the_pool_are_these),
    ("Option", COLUMN),
    ("Default", COLUMN),
    ("Min", COLUMN),
    ("Max", COLUMN),
    ("Descripiton", COLUMN),
    ("ENABLE CONNECTION POOLING", show.pool_option("enabled", default=False)),
    ("Off", show.pool_option("enabled", default=False)),
    ("N/A", show.pool_option("enabled", default=False)),
    ("N/A", show.pool_option("enabled", default=False)),
    ("Enable or disable SMTP connection pooling.", show.the_pool_can_be_switched),
    ("NUMBER OF CONNECTIONS", show.pool_option("connections", 20, 1, 999)),
    ("20", show.pool_option("connections", 20, 1, 999)),
    ("1", show.pool_option("connections", 20, 1, 999)),
    ("999", show.pool_option("connections", 20, 1, 999)),
    ("Maximum number of SMTP connections kept in the pool for reuse purposes.", show.no_more_than_so_many_are_kept),
    ("CONNECTION EXPIRY [IN SECONDS]", show.pool_option("expiry_seconds", 180, 1, 60000)),
    ("180", show.pool_option("expiry_seconds", 180, 1, 60000)),
    ("1", show.pool_option("expiry_seconds", 180, 1, 60000)),
    ("60 000", show.pool_option("expiry_seconds", 180, 1, 60000)),
    (
        "If the pooled SMTP connection has not been used for the time window configured here, then it gets "
        "disconnected.",
        show.pool_rule_5,
    ),
    ("SMTP server limitations", HEADING),
    (
        "Please note, that most SMTP servers limit the number of parallel inbound SMTP connections. This "
        "must be taken into consideration when configuring connection pooling in Email Gateway Security.",
        show.many_connections_get_advice,
    ),
    ("Microsoft Exchange Server", show.the_advice_names_exchange),
    (
        "For details about limitations on number of connections in case of the Microsoft Exchange Server, "
        "see https://docs.microsoft.com/en-us/exchange/mail-flow/message-rate-limits.",
        show.the_advice_names_exchange,
    ),
    ("images/download/attachments/330993/image2019-11-6_12-28-25.png", IMAGE),
    ("Property validation", HEADING),
    (
        "Some of the server profile properties have cross-dependencies and as so must match.",
        show.properties_that_do_not_match_are_faults,
    ),
    ("Server profile type", COLUMN),
    ("Server specifications (URI) allowed schemes", COLUMN),
    ("SMTP", show.allowed_schemes(show.SMTP, "smtp", "smtps")),
    ("smtp", show.scheme_is_taken(show.SMTP, "smtp")),
    ("smtps", show.scheme_is_taken(show.SMTP, "smtps")),
    ("MetaDefender Core", show.allowed_schemes(show.CORE, "http", "https")),
    ("http", show.scheme_is_taken(show.CORE, "http")),
    ("https", show.scheme_is_taken(show.CORE, "https")),
    ("MetaDefender Vault", show.allowed_schemes(show.VAULT, "http", "https")),
    ("http", show.scheme_is_taken(show.VAULT, "http")),
    ("https", show.scheme_is_taken(show.VAULT, "https")),
    ("Server specifications (URI) scheme", COLUMN),
    ("Transport level encryption allowed values", COLUMN),
    ("smtp", show.encryption_of_smtp()),
    ("None", show.encryption_of_smtp("none")),
    ("StartTLS optional", show.encryption_of_smtp("starttls-optional")),
    ("StartTLS required", show.encryption_of_smtp("starttls-required")),
    ("smtps", show.encryption_of_smtps_is_irrelevant),
    ("Irrelevant", show.encryption_of_smtps_is_irrelevant),
    (
        "If smtps scheme is specified then the SMTP connection is established over TLS irrelevant of the "
        "setting of TRANSPORT LEVEL ENCRYPTION.",
        show.encryption_of_smtps_is_irrelevant,
    ),
    ("http", show.no_encryption_setting_with("http")),
    ("N/A", show.no_encryption_setting_with("http")),
    ("https", show.no_encryption_setting_with("https")),
    ("N/A", show.no_encryption_setting_with("https")),
    ("If https scheme is specified then the HTTP connection is established over TLS.", CORE_CLIENT),
    ("Testing the configuration", HEADING),
    (
        "Clicking the TEST button will test the configuration. The test consists of two steps:",
        show.a_test_validates_first,
    ),
    ("1. Syntactical validation of the values", show.values_are_validated_without_any_connection),
    ("2. Connection test", show.a_test_then_tries_each_server),
    ("If the test fails, then the server profile can not be added.", ADDING),
    ("Syntactical validation", HEADING),
    ("The correctness of the provided values is validated:", show.all_faults_are_told_at_once),
    ("1. PROFILE NAME must be unique", show.names_are_unique),
    (
        "2. The SERVER SPECIFICATIONS (URI) values must conform with the URI syntax with the restriction "
        "that only the scheme, host and port values are allowed",
        show.only_these_components_are_used,
    ),
    ("3. Cross dependencies must match (see the 149718360 section)", show.properties_that_do_not_match_are_faults),
    ("Connection test", HEADING),
    (
        "If the syntactical validation pass, then each server specification is tested for a successful connection.",
        show.a_test_then_tries_each_server,
    ),
    ("Limitations", HEADING),
    (
        "Currently the connection is tested without using TLS (when configured at all).",
        show.a_test_is_better_than_that_and_uses_tls,
    ),
)


@pytest.mark.parametrize(
    "check", [pytest.param(what, id=text) for text, what in LINES if not isinstance(what, Nothing | NotYet)]
)
def test_a_line_of_the_page_holds(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("what", [pytest.param(what, id=text) for text, what in LINES if isinstance(what, NotYet)])
def test_a_line_of_a_part_that_is_open_waits_for_it(what: NotYet) -> None:
    folder, _, _ = what.module.rpartition(".")
    assert find_spec(folder) is not None
    assert find_spec(what.module) is None, f"{what.part} is there: show here that this line holds"


@pytest.mark.parametrize(
    ("text", "what"), [pytest.param(text, what, id=text) for text, what in LINES if isinstance(what, Nothing)]
)
def test_a_line_that_asks_for_nothing_looks_like_it(text: str, what: Nothing) -> None:
    assert re.fullmatch(what.looks, text), f"this is not {what.reason}"


def test_the_lines_are_those_of_the_page() -> None:
    """None is forgotten, changed or out of order; where the page is not at hand, its digest stands for it."""
    quoted = [text for text, _ in LINES]
    page = ROOT.parent / "shared" / "seed-server-profiles.md"
    if page.exists():
        assert quoted == [line.strip() for line in page.read_text("utf-8").splitlines() if line.strip()]
    assert hashlib.sha256("\n".join(quoted).encode()).hexdigest() == PAGE_SHA256
